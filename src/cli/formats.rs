//! What `check` found, in the formats that people and CI systems read.
//!
//! | format | for | limits kept |
//! |---|---|---|
//! | human | a terminal | its width; colours only there |
//! | json | scripts: the whole [`Outcome`] | |
//! | junit | GitLab, Jenkins and others: one test case a finding | |
//! | sarif | code scanning: the line of the config file that sets the threshold | 5000 results |
//! | github | annotations of a GitHub step | 10 a step |
//! | markdown | `$GITHUB_STEP_SUMMARY` | 900 kB |

use std::fmt::Write;

use serde_json::{Value, json};

use super::style::{self, Look, Text, Tone};
use crate::config::{Layer, Level, Origin};
use crate::kit::text::clean;
use crate::pipeline::check::{Answer, Finding, Group, HEADLINES, Outcome, number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Human,
    Json,
    Junit,
    Sarif,
    Github,
    Markdown,
}

impl Format {
    pub const ALL: [Format; 6] =
        [Format::Human, Format::Json, Format::Junit, Format::Sarif, Format::Github, Format::Markdown];

    pub fn name(self) -> &'static str {
        match self {
            Format::Human => "human",
            Format::Json => "json",
            Format::Junit => "junit",
            Format::Sarif => "sarif",
            Format::Github => "github",
            Format::Markdown => "markdown",
        }
    }

    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// `settings` say where each threshold was set.
pub fn render(format: Format, outcome: &Outcome, settings: &Layer, look: Look) -> Text {
    match format {
        Format::Human => human(outcome, look),
        Format::Json => super::json(outcome),
        Format::Junit => Text::document(&junit(outcome)),
        Format::Sarif => super::json(&sarif(outcome, settings)),
        Format::Github => Text::document(&github(outcome, settings)),
        Format::Markdown => Text::document(&markdown(outcome)),
    }
}

/// Is it what [`render`] makes, in any format? Such a file may be replaced by a newer one.
pub fn is_report(text: &str) -> bool {
    let line = |line: Option<&str>| HEADLINES.contains(&line.unwrap_or_default());
    let all = |parts: &[&str]| parts.iter().all(|part| text.contains(part));
    line(text.lines().next())
        || line(text.lines().last())
        || text.lines().next().is_some_and(|l| l.starts_with("## ") && l.contains(" batchwright check: "))
        || all(&["\"plan_id\"", "\"diagnosis\"", "\"findings\""])
        || all(&["<testsuites name=\"batchwright check\""])
        || all(&["sarif-2.1.0.json", "\"name\": \"batchwright\""])
}

/// Findings that a person should look at, the worst first.
fn worth_telling(outcome: &Outcome) -> Vec<&Finding> {
    let mut all: Vec<&Finding> = outcome.findings.iter().filter(|f| f.answer != Answer::Holds).collect();
    all.sort_by_key(|f| (std::cmp::Reverse(f.level), f.answer == Answer::CannotTell, f.group));
    all
}

/// "effect 0.031 [0.012, 0.050], threshold 0.05, p 0.2"
fn evidence(f: &Finding) -> String {
    let mut parts = Vec::new();
    if let Some(effect) = f.effect {
        let interval =
            f.interval.map(|(a, b)| format!(" [{}, {}]", number(a), number(b))).unwrap_or_default();
        parts.push(format!("effect {}{interval}", number(effect)));
    }
    if let Some(threshold) = f.threshold {
        parts.push(format!("threshold {}", number(threshold)));
    }
    if let Some(p) = f.p {
        parts.push(format!("p {}", number(p)));
    }
    parts.join(", ")
}

/// "composition", "column-values of `section`"
fn title(f: &Finding) -> String {
    if f.subject.is_empty() { f.id.clone() } else { format!("{} of {}", f.id, f.subject) }
}

// ---------------------------------------------------------------- human

/// Row groups listed one by one.
const GROUPS_SHOWN: usize = 10;
/// Causes listed one by one.
const CAUSES_SHOWN: usize = 12;

fn human(o: &Outcome, look: Look) -> Text {
    let line = |name: &str, text: String| (name.to_string(), text);
    let tone = match o.answer {
        Answer::Holds => Tone::Green,
        Answer::Drifted => Tone::Red,
        Answer::CannotTell => Tone::Yellow,
    };
    let mut out = look.line(tone, &o.headline());
    let mut why: Vec<(String, String)> = Vec::new();
    for f in o.failures().filter(|f| f.group == Group::Contract) {
        why.push(line("broken", f.message.clone()));
    }
    why.extend(o.diagnosis.iter().take(CAUSES_SHOWN).map(|d| line("drift", d.text.clone())));
    if o.diagnosis.len() > CAUSES_SHOWN {
        why.push(line("", format!("and {} more: --json has all", o.diagnosis.len() - CAUSES_SHOWN)));
    }
    if !why.is_empty() {
        out += style::facts(&why, look);
    }
    out += Text::blank();
    let c = &o.coverage;
    let mut rows =
        vec![format!("{} in the plan, {} now", style::count(c.rows_then), style::count(c.rows_now))];
    for (n, what) in [
        (c.unchanged, "unchanged"),
        (c.rewritten, "in other bytes"),
        (c.moved, "at other numbers"),
        (c.reordered, "in another order"),
        (c.gone, "gone or changed"),
        (c.new, "new or changed"),
    ] {
        if n > 0 {
            rows.push(format!("{} {what}", style::count(n)));
        }
    }
    let mut facts = vec![
        line("plan", format!("{} ({})", o.plan, style::shorten(&o.plan_id, 13))),
        line("rows", rows.join("; ")),
    ];
    if !c.row_groups.is_empty() {
        let mut groups: Vec<String> = (c.row_groups.iter().take(GROUPS_SHOWN))
            .map(|g| {
                format!(
                    "{} {}, row group {} ({})",
                    g.state.name(),
                    g.file,
                    g.row_group,
                    style::plural(g.rows, "row")
                )
            })
            .collect();
        if c.row_groups.len() > GROUPS_SHOWN {
            groups.push(format!("and {} more", c.row_groups.len() - GROUPS_SHOWN));
        }
        facts.extend(style::listed("row groups", groups));
    }
    let invalid = match o.invalid {
        0 => String::new(),
        n => format!("; {} not", style::plural(n, "invalid row")),
    };
    facts.push(line(
        "compared",
        format!("{} with the plan's statistics{invalid}", style::plural(o.compared, "row")),
    ));
    let trust = if o.limits.quick {
        "; quick: no page checksums, and bytes whose footers are the same are trusted"
    } else {
        ""
    };
    facts.push(line(
        "read",
        format!("{} in {}{trust}", style::bytes(o.bytes_read), style::seconds(o.seconds)),
    ));
    out += style::facts(&facts, look);

    let measured: Vec<&Finding> =
        o.findings.iter().filter(|f| f.effect.is_some() && f.threshold.is_some()).collect();
    if !measured.is_empty() {
        out += Text::blank();
        out += table(&measured, look);
        out += Text::blank();
        let mut how: Vec<String> =
            formulae(&measured).into_iter().map(|(id, f)| format!("{id}: {f}")).collect();
        how.push("p is corrected for the number of tests (Holm)".into());
        out += style::facts(&style::listed("effects", how), look);
    }
    for f in worth_telling(o).iter().filter(|f| f.answer == Answer::CannotTell || f.level != Level::Error) {
        out += style::facts(&[line("note", format!("{}: {}", title(f), f.message))], look);
    }
    out
}

/// Each kind of test once: its name and formula.
fn formulae(findings: &[&Finding]) -> Vec<(String, String)> {
    let mut told: Vec<(String, String)> = Vec::new();
    for f in findings {
        if !told.iter().any(|(id, _)| *id == f.id) {
            told.push((f.id.clone(), f.formula.clone()));
        }
    }
    told
}

/// What was measured. Columns that a narrow window has no room for are left out.
fn table(findings: &[&Finding], look: Look) -> Text {
    let (interval, p) = (look.width >= 72, look.width >= 84);
    let fixed = 9 + 9 + 11 + 6 + if interval { 18 } else { 0 } + if p { 10 } else { 0 };
    let room = look.width.saturating_sub(fixed).clamp(12, 34);
    let mut head = vec!["what", "effect"];
    let mut right = vec![false, true];
    if interval {
        head.push("interval");
        right.push(true);
    }
    head.push("threshold");
    right.push(true);
    if p {
        head.push("p");
        right.push(true);
    }
    head.push("answer");
    right.push(false);
    let rows: Vec<Vec<String>> = (findings.iter())
        .map(|f| {
            let mut cells = vec![style::shorten(&title(f), room), f.effect.map_or(String::new(), number)];
            if interval {
                cells
                    .push(f.interval.map_or(String::new(), |(a, b)| format!("{}..{}", number(a), number(b))));
            }
            cells.push(f.threshold.map_or(String::new(), number));
            if p {
                cells.push(f.p.map_or(String::new(), number));
            }
            cells.push(f.answer.name().into());
            cells
        })
        .collect();
    style::table(&head, &right, &rows, look)
}

// ---------------------------------------------------------------- junit

/// One line of XML text.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            // No characters of XML 1.0.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// One suite a group, one case a finding. `cannot tell` is a skipped test, or a failed one where it makes the check fail.
fn junit(o: &Outcome) -> String {
    let fails = |f: &Finding| match f.answer {
        Answer::Drifted => f.level >= o.limits.fail_level,
        Answer::CannotTell => o.limits.strict && f.level == Level::Error,
        Answer::Holds => false,
    };
    let skipped = |f: &Finding| f.answer == Answer::CannotTell && !fails(f);
    let count = |of: &[&Finding], is: &dyn Fn(&Finding) -> bool| of.iter().filter(|f| is(f)).count();
    let all: Vec<&Finding> = o.findings.iter().collect();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"batchwright check\" tests=\"{}\" failures=\"{}\" errors=\"0\" time=\"{:.3}\">",
        all.len(),
        count(&all, &fails),
        o.seconds
    );
    let mut groups: Vec<Group> = all.iter().map(|f| f.group).collect();
    groups.dedup();
    for group in groups {
        let of: Vec<&Finding> = all.iter().copied().filter(|f| f.group == group).collect();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"0\">",
            group.name(),
            of.len(),
            count(&of, &fails),
            count(&of, &skipped)
        );
        for f in of {
            let name = xml(&title(f));
            let _ = write!(
                out,
                "    <testcase name=\"{name}\" classname=\"batchwright.{}\" time=\"0\"",
                group.name()
            );
            let text = xml(&f.message);
            let detail = [f.message.as_str(), &evidence(f), &f.formula].map(xml).join("\n");
            if fails(f) {
                let kind = f.answer.name();
                let _ = writeln!(
                    out,
                    ">\n      <failure message=\"{text}\" type=\"{kind}\">{detail}</failure>\n    </testcase>"
                );
            } else if skipped(f) {
                let _ = writeln!(out, ">\n      <skipped message=\"{text}\"/>\n    </testcase>");
            } else {
                let _ = writeln!(out, ">\n      <system-out>{detail}</system-out>\n    </testcase>");
            }
        }
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

// ---------------------------------------------------------------- sarif

/// GitHub shows no more results of one run.
const SARIF_RESULTS: usize = 5000;

/// Where the threshold of a finding is set: file and line. A default has the place where it would be set.
fn place(f: &Finding, settings: &Layer) -> (String, usize) {
    let origin = f.setting.as_ref().and_then(|key| settings.get(key)).map(|(_, origin)| origin);
    match origin {
        Some(Origin::File(path, line)) => (path.trim_start_matches("./").replace('\\', "/"), *line),
        _ => {
            let file = settings.values().find_map(|(_, origin)| match origin {
                Origin::File(path, _) => Some(path.trim_start_matches("./").replace('\\', "/")),
                _ => None,
            });
            (file.unwrap_or_else(|| "batchwright.toml".into()), 1)
        }
    }
}

/// A path as a relative URI reference.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                out.push(byte as char)
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// SARIF 2.1.0 (OASIS).
fn sarif(o: &Outcome, settings: &Layer) -> Value {
    let mut rules: Vec<&Finding> = Vec::new();
    for f in &o.findings {
        if !rules.iter().any(|r| r.id == f.id) {
            rules.push(f);
        }
    }
    let told = worth_telling(o);
    let results: Vec<Value> = (told.iter().take(SARIF_RESULTS))
        .map(|f| {
            let (path, line) = place(f, settings);
            let rule = rules.iter().position(|r| r.id == f.id);
            let evidence = evidence(f);
            let text =
                if evidence.is_empty() { f.message.clone() } else { format!("{} ({evidence})", f.message) };
            json!({
                "ruleId": f.id,
                "ruleIndex": rule,
                "level": level(f),
                "message": {"text": text},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": uri(&path)},
                    "region": {"startLine": line.max(1)},
                }}],
                "partialFingerprints": {"finding/v1": format!("{}/{}", f.id, f.subject)},
            })
        })
        .collect();
    let rules: Vec<Value> = (rules.iter())
        .map(|f| {
            json!({
                "id": f.id,
                "shortDescription": {"text": format!("{}: {}", f.group.name(), f.id)},
                "fullDescription": {"text": f.formula},
                "help": {"text": match &f.setting {
                    Some(key) => format!("Effect: {}. The threshold is `{key}` in batchwright.toml.", f.formula),
                    None => format!("Compared: {}.", f.formula),
                }},
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "batchwright",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{
                "executionSuccessful": true,
                "exitCode": o.exit_code(),
                "toolExecutionNotifications": match told.len().saturating_sub(SARIF_RESULTS) {
                    0 => json!([]),
                    more => json!([{"level": "warning", "message": {"text": format!("{more} more results were left out")}}]),
                },
            }],
            "results": results,
        }],
    })
}

fn level(f: &Finding) -> &'static str {
    match (f.answer, f.level) {
        (Answer::Holds, _) => "none",
        (Answer::CannotTell, Level::Error) => "warning",
        (_, Level::Error) => "error",
        (_, Level::Warning) => "warning",
        (_, Level::Note) => "note",
    }
}

// ---------------------------------------------------------------- github

/// Annotations that GitHub shows of one step.
const ANNOTATIONS: usize = 10;

/// Workflow commands, one a line. The tenth says how many are left out.
fn github(o: &Outcome, settings: &Layer) -> String {
    let data = |text: &str| clean(text).replace('%', "%25");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let told = worth_telling(o);
    let shown = if told.len() > ANNOTATIONS { ANNOTATIONS - 1 } else { told.len() };
    let mut out = String::new();
    for f in &told[..shown] {
        let kind = match level(f) {
            "error" => "error",
            "warning" => "warning",
            _ => "notice",
        };
        let (path, line) = place(f, settings);
        let evidence = evidence(f);
        let named: Vec<String> = f.named.iter().take(3).map(|m| m.name.clone()).collect();
        let named = if named.is_empty() { String::new() } else { format!("; {}", named.join(", ")) };
        let text =
            format!("{}{named} ({})", f.message, if evidence.is_empty() { &f.formula } else { &evidence });
        let _ = writeln!(
            out,
            "::{kind} file={},line={line},title={}::{}",
            property(&path),
            property(&format!("batchwright: {}", title(f))),
            data(&style::shorten(&text, 2000))
        );
    }
    if told.len() > shown {
        let _ = writeln!(
            out,
            "::warning title=batchwright::{} more findings; the step summary, junit and sarif have them",
            told.len() - shown
        );
    }
    let _ = writeln!(out, "{}", data(&o.headline()));
    out
}

// ---------------------------------------------------------------- markdown

/// GitHub refuses a step summary above 1024 kiB.
const MARKDOWN_BYTES: usize = 900_000;

/// Text in a line or a table cell, in which nothing is markup, a link, an image or a mention.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        if "\\`*_{}[]()<>|~!#&$@".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    // Bare addresses become links, too.
    out.replace("://", ":\\/\\/").replace("www.", "www\\.")
}

fn markdown(o: &Outcome) -> String {
    let mark = match o.answer {
        Answer::Holds => "✅",
        Answer::Drifted => "❌",
        Answer::CannotTell => "❔",
    };
    let mut out = format!("## {mark} batchwright check: {}\n\n", o.headline());
    let c = &o.coverage;
    let _ = writeln!(
        out,
        "Plan {} ({}): {} rows then, {} now; {} new or changed, {} gone or changed, {} moved or reordered. {} compared, {} read in {}.\n",
        cell(&o.plan),
        cell(&style::shorten(&o.plan_id, 13)),
        style::count(c.rows_then),
        style::count(c.rows_now),
        style::count(c.new),
        style::count(c.gone),
        style::count(c.moved + c.reordered),
        style::plural(o.compared, "row"),
        style::bytes(o.bytes_read),
        style::seconds(o.seconds)
    );
    let tail = |left: usize| format!("\n{left} more lines were left out: a step summary holds no more.\n");
    // A line is written only if it and the note about what is left out fit.
    let push = |out: &mut String, line: &str| -> bool {
        let fits = out.len() + line.len() + 200 <= MARKDOWN_BYTES;
        if fits {
            out.push_str(line);
        }
        fits
    };
    let mut left = 0;
    for f in o.failures().filter(|f| f.group == Group::Contract) {
        left += usize::from(!push(&mut out, &format!("- **broken contract**: {}\n", cell(&f.message))));
    }
    for d in &o.diagnosis {
        left += usize::from(!push(&mut out, &format!("- **drift**: {}\n", cell(&d.text))));
    }
    let head =
        "\n| what | answer | effect | interval | threshold | p | |\n|---|---|---:|---|---:|---:|---|\n";
    left += usize::from(!push(&mut out, head));
    let mut findings: Vec<&Finding> = worth_telling(o);
    findings.extend(o.findings.iter().filter(|f| f.answer == Answer::Holds));
    for f in findings {
        let value = |x: Option<f64>| x.map_or(String::new(), number);
        let interval = f.interval.map_or(String::new(), |(a, b)| format!("{} to {}", number(a), number(b)));
        let line = format!(
            "| {} | {} | {} | {interval} | {} | {} | {} |\n",
            cell(&title(f)),
            f.answer.name(),
            value(f.effect),
            value(f.threshold),
            value(f.p),
            cell(&style::shorten(&f.message, 400))
        );
        left += usize::from(!push(&mut out, &line));
    }
    let measured: Vec<&Finding> = o.findings.iter().filter(|f| f.effect.is_some()).collect();
    let mut how = String::from("\n<details><summary>How the effects are computed</summary>\n\n");
    for (id, formula) in formulae(&measured) {
        let _ = writeln!(how, "- **{}**: {}", cell(&id), cell(&formula));
    }
    left += usize::from(!push(&mut out, &(how + "\n</details>\n")));
    if left > 0 {
        out += &tail(left);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::check::{Diagnosis, Symptom};

    fn outcome(findings: usize) -> Outcome {
        let finding = |i: usize| Finding {
            id: format!("column-values-{}", i % 7),
            group: Group::Columns,
            subject: format!("a<b>&\"c\"|%,: {i}\u{1}"),
            answer: if i.is_multiple_of(2) { Answer::Drifted } else { Answer::CannotTell },
            message: format!("moved\nmuch {i}"),
            formula: "Cohen's h".into(),
            effect: Some(0.3),
            interval: Some((0.1, 0.5)),
            threshold: Some(0.05),
            p: Some(1e-9),
            setting: Some("check.share".into()),
            ..Finding::default()
        };
        Outcome {
            answer: Answer::Drifted,
            plan: "plan".into(),
            plan_id: "0123456789abcdef".into(),
            data: vec!["data".into()],
            diagnosis: vec![Diagnosis {
                symptom: Symptom::Grown,
                subject: "section=games".into(),
                text:
                    "column `section`: games has grown: 1.78 % -> 3.50 % of the rows, which is a lot of games"
                        .into(),
            }],
            findings: (0..findings).map(finding).collect(),
            coverage: Default::default(),
            compared: 2400,
            invalid: 0,
            modalities: Vec::new(),
            limits: Default::default(),
            bytes_read: 1 << 20,
            seconds: 0.5,
        }
    }

    #[test]
    fn limits_are_kept_with_ten_thousand_findings() {
        let many = outcome(10_000);
        let text = github(&many, &Layer::new());
        let annotations = text.lines().filter(|l| l.starts_with("::")).count();
        assert_eq!(annotations, 10, "{text}");
        assert!(text.contains("9991 more findings"), "{text}");
        assert!(text.lines().all(|l| !l.contains("much 0\n") && l.len() < 3000));
        let text = markdown(&many);
        assert!(text.len() <= 900_000 && text.contains("more lines were left out"), "{}", text.len());
        let sarif = sarif(&many, &Layer::new());
        assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 5000);
        assert_eq!(junit(&many).matches("<testcase").count(), 10_000);
        let few = github(&outcome(10), &Layer::new());
        assert_eq!(few.lines().filter(|l| l.starts_with("::")).count(), 10);
        assert!(!few.contains("more findings"));
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let one = outcome(1);
        let junit = junit(&one);
        assert!(junit.contains("a&lt;b&gt;&amp;&quot;c&quot;|%,: 0\\u{1}"), "{junit}");
        let github = github(&one, &Layer::new());
        assert!(
            github.contains("title=batchwright%3A column-values-0 of a<b>&\"c\"|%25%2C%3A 0"),
            "{github}"
        );
        assert!(github.contains("moved\\nmuch 0"), "{github}");
        assert!(markdown(&one).contains("\\|"));
        let said = "a\n::error::x [link](http://x) ![i](y) `code` www.x.y @all <b> $x$ a_b 1 | 2";
        assert_eq!(
            cell(said),
            "a\\\\n::error::x \\[link\\]\\(http:\\/\\/x\\) \\!\\[i\\]\\(y\\) \\`code\\` www\\.x.y \\@all \\<b\\> \\$x\\$ a\\_b 1 \\| 2"
        );
    }

    #[test]
    fn own_reports_are_recognised() {
        for format in Format::ALL {
            for answer in [Answer::Holds, Answer::Drifted, Answer::CannotTell] {
                let outcome = Outcome { answer, ..outcome(2) };
                let text = render(format, &outcome, &Layer::new(), Look::plain());
                assert!(is_report(&text), "{format:?}: {text}");
            }
        }
        let plan = include_str!("../../fixtures/plans/v1/plan.json");
        assert!(![plan, "", "PAR1", "# notes\n", "{}"].into_iter().any(is_report));
    }

    #[test]
    fn a_threshold_points_at_its_line() {
        let origin = Origin::File("./conf ig/batchwright.toml".into(), 7);
        let settings = Layer::from([("check.share".to_string(), (json!(0.05), origin))]);
        let place =
            &sarif(&outcome(1), &settings)["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "conf%20ig/batchwright.toml");
        assert_eq!(place["region"]["startLine"], 7);
        assert!(github(&outcome(1), &settings).contains("file=conf ig/batchwright.toml,line=7"));
    }

    #[test]
    fn the_table_fits() {
        for width in [40, 60, 72, 84, 100, 160] {
            let mut look = Look::plain();
            look.width = width;
            let text = human(&outcome(3), look);
            let widest = text.lines().map(|l| l.chars().count()).max().unwrap();
            assert!(widest <= width.max(52), "{widest} > {width}\n{text}");
        }
    }
}
