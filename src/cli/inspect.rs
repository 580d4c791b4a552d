//! `inspect`: what is in a plan. Reads plan.json and the small tables, so it takes milliseconds at any size.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::style::{self, Look, Text, Tone};
use crate::format::Manifest;
use crate::format::evidence::Criterion;
use crate::format::modalities::Modality;
use crate::kit::error::Result;
use crate::modalities::EstimatorSpec;
use crate::plan::Plan;
use crate::report::{data, words};

/// Show what is in a plan
#[derive(Args)]
pub struct Flags {
    /// Directory of the plan
    plan: PathBuf,
    /// Show every modality and every file, not only the largest
    #[arg(long)]
    all: bool,
    /// Print one JSON object: plan.json and the table of modalities
    #[arg(long)]
    json: bool,
}

/// Rows of a table without `--all`.
const MODALITIES: usize = 20;
const FILES: usize = 6;

pub fn run(flags: Flags) -> Result<Text> {
    let plan = Plan::open(&flags.plan)?;
    let modalities = plan.modalities()?;
    if flags.json {
        let modalities: Vec<Value> = modalities.iter().enumerate().map(as_json).collect();
        let mut all = json!({"plan": plan.manifest(), "modalities": modalities});
        if let Some(reading) = plan.reading()? {
            all["reading"] = json!(reading);
        }
        return Ok(super::json(&all));
    }
    let (look, m) = (Look::stdout(), plan.manifest());
    let limit = |n| if flags.all { usize::MAX } else { n };
    Ok(Text::paragraphs([
        answer(m, &modalities, look),
        style::facts(&facts(&flags.plan, &plan, &modalities)?, look),
        sizes(&modalities, m.estimator.name == EstimatorSpec::Column.name(), limit(MODALITIES), look),
        batches(&plan, look)?,
        files(m, limit(FILES), look),
    ]))
}

/// A modality without its centre, which has as many numbers as the features have dimensions.
fn as_json((number, m): (usize, &Modality)) -> Value {
    json!({"modality": number, "name": m.name, "kind": m.kind, "rows": m.rows, "share": m.share,
        "rms_radius": m.rms_radius, "prominence": m.prominence, "distance_quantiles": m.distance_quantiles})
}

/// How many, how sure, why, and what the plan does with it.
fn answer(m: &Manifest, modalities: &[Modality], look: Look) -> Text {
    let shares: Vec<f64> = modalities.iter().map(|m| m.share).collect();
    let answer = words::answer(m, &shares);
    let mut out = Text::default();
    let head = format!("{}, {}", answer.headline, answer.sure);
    for line in style::wrap(&head, look.width) {
        out += look.line(Tone::Bold, &line);
    }
    for sentences in [&answer.why, &answer.plan] {
        out += Text::blank();
        for sentence in sentences {
            for (i, line) in style::wrap(sentence, look.width.clamp(12, 100) - 2).iter().enumerate() {
                let mark = if i == 0 { "- " } else { "  " };
                out += look.pieces(&[(Tone::Plain, mark), (Tone::Plain, line)]);
            }
        }
    }
    out
}

fn facts(dir: &Path, plan: &Plan, modalities: &[Modality]) -> Result<Vec<(String, String)>> {
    let m = plan.manifest();
    let line = |name: &str, text: String| (name.to_string(), text);
    let mut data = format!("{}, {}", style::plural(m.rows, "row"), style::plural(m.dims.into(), "dimension"));
    if m.rows_planned < m.rows {
        data += &format!("; {} planned", style::count(m.rows_planned));
    }
    let mut lines = vec![
        line("plan", format!("{} ({}, format {})", dir.display(), style::shorten(&m.plan, 13), m.format)),
        line("data", format!("{data}; {}", style::plural(m.inputs.len() as u64, "file"))),
        line("strata", format!("{}, seed {}", style::count(m.strata.into()), m.seed)),
    ];
    let features = &m.config["features"];
    if let (Some(column), Some(encoder)) = (features["encode"].as_str(), features["encoder"].as_str()) {
        let (name, hash) = encoder.rsplit_once('@').unwrap_or((encoder, ""));
        lines.insert(1, line("encoder", format!("{name} ({}) reads `{column}`", style::shorten(hash, 13))));
    }
    if let Some(text) = evidence(&plan.curve()?.unwrap_or_default(), &m.estimator.name) {
        lines.push(line("evidence", text));
    }
    if modalities.len() > MODALITIES {
        let mut shares: Vec<f64> = modalities.iter().map(|m| m.share).collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        let text = format!(
            "{} from {} to {}",
            style::sparkline(&shares, 24),
            style::percent(shares[0]),
            style::percent(shares[shares.len() - 1])
        );
        lines.push(line("sizes", text));
    }
    if m.left_out.is_some() {
        let epochs = plan.epochs()?;
        let rows = epochs.draws.map_or(m.rows_planned, |draws| draws.iter().sum());
        lines.push(line("labels", words::labels(epochs.chunk, epochs.base, rows, m.rows_planned)));
    } else if let Some(chunks) = words::chunks_of(m) {
        lines.push(line("chunks", chunks));
    }
    if let Some(schedule) = &m.schedule {
        lines.push(line("schedule", words::schedule(schedule)));
    }
    if let Some(repeats) = &m.repeats {
        let sizes: Vec<u64> = m.candidates.iter().map(|c| c.batch_size.into()).collect();
        lines.push(line("duplicates", words::repeats(repeats, &sizes)));
    }
    if let Some(told) = &m.splits {
        lines.extend(words::splits(told));
    }
    if let Some(reading) = plan.reading()? {
        lines.extend(words::reading(&reading));
    }
    let beta: Vec<f64> = plan.weights()?.iter().map(|k| f64::from(k.beta)).collect();
    let schedule = m.config["weights"]["schedule"].as_str().unwrap_or_default();
    lines.push(line(
        "weights",
        match (beta.first(), beta.last()) {
            (Some(first), Some(last)) if schedule != "off" => {
                format!("{} {schedule}: beta {first:.1} to {last:.1}", style::sparkline(&beta, 16))
            }
            _ => "off".into(),
        },
    ));
    lines.push(line(
        "updates",
        format!(
            "at {} effective rows; modality share {:.2} ({})",
            style::count(m.information_threshold.round() as u64),
            m.modality_share.value,
            m.modality_share.source
        ),
    ));
    Ok(lines)
}

/// What the level was chosen by, over the neighbourhoods or the resolutions that were tried.
fn evidence(curve: &[Criterion], estimator: &str) -> Option<String> {
    let by_gamma = |c: &Criterion| {
        let gamma = c.criterion.strip_prefix("gamma=")?.strip_suffix(" score")?.parse::<f64>().ok()?;
        Some((gamma, c.value))
    };
    if let Some(points) = curve.iter().map(by_gamma).collect::<Option<Vec<_>>>().filter(|p| !p.is_empty()) {
        let values: Vec<f64> = points.iter().map(|p| p.1).collect();
        let (from, to) = (points[0].0, points[points.len() - 1].0);
        return Some(format!(
            "{} score of {estimator} over gamma {from} to {to}",
            style::sparkline(&values, 24)
        ));
    }
    let first = curve.iter().find(|c| c.criterion != "M")?;
    let mut points: Vec<(u32, f64)> =
        curve.iter().filter(|c| c.criterion == first.criterion).map(|c| (c.k, c.value)).collect();
    points.sort_by_key(|p| p.0);
    let values: Vec<f64> = points.iter().map(|p| p.1).collect();
    let (from, to) = (points.first()?.0, points.last()?.0);
    Some(format!(
        "{} {} of {estimator} over k {from} to {to}",
        style::sparkline(&values, 24),
        first.criterion
    ))
}

/// The largest modalities; `by_column`: their kinds are values of a column, and so names. What fits: the bar from 56 columns on,
/// the details from 100; names get the rest.
fn sizes(modalities: &[Modality], by_column: bool, limit: usize, look: Look) -> Text {
    const BAR: usize = 12;
    let mut order: Vec<usize> = (0..modalities.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(modalities[i].rows), i));
    let most = modalities.iter().map(|m| m.share).fold(f64::MIN_POSITIVE, f64::max);
    let (bars, details) = (look.width >= 56, look.width >= 100);
    let mut head = vec!["#", "rows", "share"];
    let mut right = vec![true, true, true];
    if bars {
        head.push("");
        right.push(false);
    }
    if details {
        head.extend(["radius", "prominence"]);
        right.extend([true, true]);
    }
    let mut rows: Vec<Vec<String>> = (order.iter().take(limit))
        .map(|&i| {
            let m = &modalities[i];
            let mut cells = vec![i.to_string(), style::count(m.rows), style::percent(m.share)];
            if bars {
                cells.push(style::bar(m.share / most, BAR));
            }
            if details {
                let prominence =
                    if m.prominence.is_nan() { "-".into() } else { format!("{:.2}", m.prominence) };
                cells.extend([format!("{:.3}", m.rms_radius), prominence]);
            }
            cells
        })
        .collect();
    let names: Vec<&str> = (order.iter().take(limit))
        .map(|&i| &modalities[i])
        .map(|m| if m.name.is_empty() && by_column { m.kind.as_str() } else { m.name.as_str() })
        .collect();
    if names.iter().any(|name| !name.is_empty()) {
        let used = style::table_width(&head, &rows) + 2;
        // Names need some columns to say anything.
        let room = look.width.saturating_sub(used);
        if room >= 4 {
            head.push("sets it apart");
            right.push(false);
            let last = head.len() - 1;
            head[last] = if room >= "sets it apart".len() { "sets it apart" } else { "name" };
            for (row, name) in rows.iter_mut().zip(&names) {
                row.push(style::shorten(name, room));
            }
        }
    }
    let mut out = style::table(&head, &right, &rows, look);
    if modalities.len() > limit {
        let more = style::count((modalities.len() - limit) as u64);
        out += look.line(Tone::Dim, &format!("and {more} more: --all"));
    }
    out
}

fn batches(plan: &Plan, look: Look) -> Result<Text> {
    let (m, epochs) = (plan.manifest(), plan.epochs()?);
    let wide = look.width >= 60;
    let rows: Vec<Vec<String>> = (m.candidates.iter())
        .map(|c| {
            let mark = if c.batch_size == m.batch_size { "*" } else { "" };
            let mut cells = vec![
                format!("{}{mark}", style::count(c.batch_size.into())),
                style::count(epochs.epoch(0, c.batch_size.into()).len()),
                c.accumulation.to_string(),
            ];
            if wide {
                cells.push(format!("{:.2}", f64::from(c.batch_size) / f64::from(m.modalities.max(1))));
            }
            cells
        })
        .collect();
    let head: &[&str] = match wide {
        true => &["batch size", "batches", "accumulation", "rows a modality"],
        false => &["batch size", "batches", "accumulation"],
    };
    let epochs = format!(
        "* recommended; {} written, any other can be computed",
        style::plural(m.epochs.into(), "epoch")
    );
    let mut out = style::table(head, &[true; 4][..head.len()], &rows, look);
    out.extend(style::wrap(&epochs, look.width).iter().map(|line| look.line(Tone::Dim, line)));
    Ok(out)
}

/// The largest files, with all of them summed up.
fn files(m: &Manifest, limit: usize, look: Look) -> Text {
    let mut files = data::files(m);
    files.sort_by(|a, b| b.3.cmp(&a.3).then_with(|| a.0.cmp(&b.0)));
    let total: u64 = files.iter().map(|f| f.3).sum();
    let most = files.first().map_or(1, |f| f.3).max(1) as f64;
    let (rows, bars) = (look.width >= 56, look.width >= 72);
    let cells = |(path, _, n, bytes): &(String, String, u64, u64)| {
        let mut cells = vec![style::shorten(path, look.width.saturating_sub(13)), style::bytes(*bytes)];
        if rows {
            cells.insert(1, style::count(*n));
        }
        if bars {
            cells.push(style::bar(*bytes as f64 / most, 12));
        }
        cells
    };
    let mut head = vec!["file", "size"];
    let mut right = vec![false, true];
    if rows {
        head.insert(1, "rows");
        right.insert(1, true);
    }
    if bars {
        head.push("");
        right.push(false);
    }
    let shown: Vec<Vec<String>> = files.iter().take(limit).map(cells).collect();
    let mut out = style::table(&head, &right, &shown, look);
    let sum = format!("{}, {}", style::plural(m.files.len() as u64, "file"), style::bytes(total));
    let more = if files.len() > limit { ": --all" } else { "" };
    out += look.line(Tone::Dim, &format!("{sum} in all{more}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::open(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/plans/v1.1")).unwrap()
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|l| l.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn everything_fits() {
        let plan = plan();
        let modalities: Vec<Modality> = (0..25)
            .map(|i| Modality {
                name: "a rather long name, ending nowhere\nin particular".into(),
                kind: "mode".into(),
                rows: 1_000_000 >> i,
                share: 0.5 / f64::from(i + 1),
                rms_radius: 1.5,
                prominence: f32::NAN,
                ..Modality::default()
            })
            .collect();
        for width in [40, 45, 60, 75, 80, 100, 160] {
            let mut look = Look::plain();
            look.width = width;
            let text = sizes(&modalities, false, 20, look);
            assert!(widest(&text) <= width, "{} > {width}\n{text}", widest(&text));
            assert_eq!(text.lines().count(), 22, "{text}");
            assert!(text.contains("and 5 more"), "{text}");
            let m = plan.manifest();
            for text in [
                answer(m, &modalities, look),
                style::facts(&facts(Path::new("plan"), &plan, &modalities).unwrap(), look),
                batches(&plan, look).unwrap(),
                files(m, 6, look),
            ] {
                assert!(widest(&text) <= width, "{} > {width}\n{text}", widest(&text));
            }
        }
    }

    #[test]
    fn only_values_of_a_column_stand_for_a_name() {
        let of = |kind: &str| Modality { kind: kind.into(), rows: 9, share: 0.5, ..Modality::default() };
        for kind in ["mode", "community", "noise"] {
            assert!(!sizes(&[of(kind)], false, 20, Look::plain()).contains(kind));
            assert!(sizes(&[of(kind)], true, 20, Look::plain()).contains(kind));
        }
    }

    #[test]
    fn evidence_is_told_over_neighbours_or_resolutions() {
        let of = |k, criterion: &str| Criterion { k, criterion: criterion.into(), value: f64::from(k) };
        let told = |curve: &[Criterion]| evidence(curve, "consensus").unwrap();
        assert!(
            told(&[of(8, "score"), of(8, "M"), of(16, "score")])
                .ends_with("score of consensus over k 8 to 16")
        );
        let gammas = [of(32, "gamma=0.707 score"), of(32, "gamma=8 score")];
        assert!(told(&gammas).ends_with("score of consensus over gamma 0.707 to 8"));
    }

    #[test]
    fn the_answer_comes_first() {
        let plan = plan();
        let text = answer(plan.manifest(), &plan.modalities().unwrap(), Look::plain());
        assert!(text.starts_with("5 modalities, "), "{text}");
        assert!(text.contains("confidence") && text.contains("Every batch of "), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}
