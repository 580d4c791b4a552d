//! `modalities`: only counts, and shows the evidence.

use clap::Args;

use super::flags::{ALL, CountFlags};
use super::style::{self, Look, Text, Tone};
use super::{ConfigFile, Context};
use crate::kit::error::Result;
use crate::pipeline::{self, Compared, Comparison, Counted};

/// Only count the modalities, and show the evidence
///
/// Reads a sample of the rows and writes nothing. Takes a fraction of the time of `plan`. `--estimator all` runs every
/// estimator on the same sample, one after the other, and compares what they found.
#[derive(Args)]
pub struct Flags {
    /// Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required = true, value_name = "DATA", value_parser = super::flags::data())]
    inputs: Vec<String>,
    #[command(flatten)]
    flags: CountFlags,
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

pub fn run(mut flags: Flags, context: &Context) -> Result<Text> {
    if flags.flags.modalities.estimator.as_deref() == Some(ALL) {
        flags.flags.modalities.estimator = None;
        let settings = context.settings(&flags.file, &flags.flags)?;
        let compared = pipeline::compare(&flags.inputs, &settings.config, &settings.run, &context.progress)?;
        return Ok(if flags.json { super::json(&compared) } else { side_by_side(&compared, Look::stdout()) });
    }
    let settings = context.settings(&flags.file, &flags.flags)?;
    let counted = pipeline::modalities(&flags.inputs, &settings.config, &settings.run, &context.progress)?;
    Ok(if flags.json { super::json(&counted) } else { describe(&counted, Look::stdout()) })
}

/// Rows of a table; the rest is counted, and in `--json`.
const SHOWN: usize = 20;

fn describe(c: &Counted, look: Look) -> Text {
    let line = |name: &str, text: String| (name.to_string(), text);
    let details = |key: &str| c.details.get(key);
    let estimator = (c.estimator.as_str(), &details as _);
    let count =
        super::plan::modality_count(c.modalities, c.confidence, c.interval, c.clear, estimator, c.counted);
    let mut lines = style::listed("modalities", count);
    lines.extend([line(
        "sample",
        format!("{}, blocks of {}", style::plural(c.sample_rows, "row"), style::count(c.resolution.into())),
    )]);
    lines.extend(c.columns.iter().cloned());
    lines.push(line("time", style::seconds(c.seconds)));
    let plain = |v: &serde_json::Value| match v {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(n) if n.is_f64() => format!("{:.4}", n.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    };
    lines.extend(c.details.iter().map(|(name, value)| line(name, plain(value))));
    let mut out = style::facts(&lines, look);

    let total = c.sizes.iter().sum::<u64>().max(1) as f64;
    let most = c.sizes.iter().copied().max().unwrap_or(1).max(1) as f64;
    let cells = look.width.saturating_sub(36).clamp(4, 40);
    let sizes: Vec<Vec<String>> = (c.sizes.iter().enumerate().take(SHOWN))
        .map(|(m, &n)| {
            let share = n as f64;
            vec![
                m.to_string(),
                style::count(n),
                style::percent(share / total),
                style::bar(share / most, cells),
            ]
        })
        .collect();
    out += Text::blank();
    out += style::table(&["modality", "sample rows", "share", ""], &[true, true, true, false], &sizes, look);
    out += more(c.sizes.len(), look);

    if !c.curve.is_empty() {
        let rows: Vec<Vec<String>> = (c.curve.iter().take(SHOWN))
            .map(|(k, criterion, value)| vec![k.to_string(), format!("{value:.4}"), criterion.clone()])
            .collect();
        out += Text::blank();
        out += style::table(&["k", "value", "criterion"], &[true, true, false], &rows, look);
        out += more(c.curve.len(), look);
    }
    out
}

fn side_by_side(c: &Comparison, look: Look) -> Text {
    let line = |name: &str, text: String| (name.to_string(), text);
    let sample = style::plural(c.sample_rows, "row");
    let mut lines =
        vec![line("sample", format!("{sample}, blocks of {}", style::count(c.resolution.into())))];
    lines.extend(c.columns.iter().cloned());
    lines.push(line("time", style::seconds(c.seconds)));
    let agreement = format!("like {}", c.default);
    let head = ["estimator", "M", "likely", "confidence", "largest", &agreement, "time", "clear?"];
    let row = |e: &Compared| {
        let seconds = style::seconds(e.seconds);
        let Some(a) = &e.answer else {
            let mut row = vec!["-".into(); head.len()];
            (row[0], row[6], row[7]) = (e.estimator.clone(), seconds, "failed".into());
            return row;
        };
        vec![
            e.estimator.clone(),
            style::count(a.modalities.into()),
            if a.interval.0 < a.interval.1 {
                format!("{} to {}", a.interval.0, a.interval.1)
            } else {
                a.interval.0.to_string()
            },
            style::percent(a.confidence),
            style::percent(a.largest),
            a.agreement.map_or("-".into(), |r| format!("{r:.2}")),
            seconds,
            if a.clear { "yes" } else { "no" }.into(),
        ]
    };
    let rows: Vec<Vec<String>> = c.estimators.iter().map(row).collect();
    let mut out = style::facts(&lines, look);
    out += Text::blank();
    out += style::table(&head, &[false, true, true, true, true, true, true, false], &rows, look);
    for e in &c.estimators {
        if let Some(reason) = &e.failed {
            out += look.line(Tone::Plain, &format!("{}: {reason}", e.estimator));
        }
    }
    let like = format!("like {}: adjusted Rand index of the labels, 1 if they are the same", c.default);
    out += look.line(Tone::Dim, &like);
    out
}

fn more(rows: usize, look: Look) -> Text {
    match rows.saturating_sub(SHOWN) {
        0 => Text::default(),
        rest => look.line(Tone::Dim, &format!("and {rest} more: --json has all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Answer;

    #[test]
    fn counts_sizes_and_evidence_are_shown() {
        let counted = Counted {
            modalities: 3,
            confidence: 0.5,
            interval: (2, 4),
            estimator: "consensus".into(),
            counted: true,
            resolution: 10_000,
            sample_rows: 50_000,
            columns: vec![("features".into(), "`e`".into()), ("  not taken".into(), "`t` (text)".into())],
            sizes: (0..25).map(|i| 100 - i).collect(),
            curve: vec![(3, "p=32 k=64 tau=1.4 R".into(), 1.25)],
            ..Counted::default()
        };
        let text = describe(&counted, Look::plain());
        for expected in [
            "features",
            "`e`",
            "  not taken",
            "`t` (text)",
            "likely 2 to 4",
            "no clear number",
            "50,000 rows",
            "and 5 more",
            "1.2500  p=32 k=64",
        ] {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
    }

    #[test]
    fn communities_are_told_as_a_resolution() {
        let details = |modes: u32, clear: bool| {
            let details = serde_json::json!({
                "gamma": 2.0, "rho": 0.65, "chance": 0.2, "score": 1.44, "modes": modes, "modes_score": 1.22,
                "modes_clear": clear,
            });
            serde_json::from_value(details).unwrap()
        };
        let text = |modes, clear| {
            let counted = Counted {
                modalities: 46,
                confidence: 0.65,
                interval: (44, 82),
                clear: true,
                estimator: "consensus".into(),
                counted: true,
                details: details(modes, clear),
                sizes: vec![10; 46],
                ..Counted::default()
            };
            describe(&counted, Look::plain()).to_string()
        };
        let told = "46 communities (44 to 82): halves of the sample find them again by 65.0 %, a cloud without groups by 20.0 %.";
        let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (modes, clear) in [(1, true), (3, false)] {
            let text = flat(text(modes, clear));
            assert!(text.contains(told), "{text}");
            assert!(
                text.contains(
                    "There are no valleys of density between them: the number is a resolution, not a count."
                ),
                "{text}"
            );
        }
        let text = flat(text(12, true));
        assert!(
            text.contains("They tell more than the 12 modes of the density (score 1.44 against 1.22)"),
            "{text}"
        );
        assert!(!text.contains("valleys"));
    }

    #[test]
    fn a_comparison_shows_answers_and_failures() {
        let answer = Answer {
            modalities: 12,
            interval: (9, 12),
            confidence: 0.5,
            clear: true,
            largest: 0.25,
            agreement: Some(0.875),
        };
        let estimators = vec![
            Compared { estimator: "hdbscan".into(), answer: Some(answer), failed: None, seconds: 1.5 },
            Compared {
                estimator: "dbscan".into(),
                answer: None,
                failed: Some("too bad".into()),
                seconds: 0.1,
            },
        ];
        let compared =
            Comparison { default: "consensus".into(), sample_rows: 900, estimators, ..Default::default() };
        let text = side_by_side(&compared, Look::plain());
        for expected in [
            "900 rows",
            "9 to 12      50.0 %   25.0 %            0.88  1.50 s  yes",
            "failed",
            "dbscan: too bad",
        ] {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
        let json = serde_json::to_value(&compared).unwrap();
        assert_eq!(json["estimators"][0]["modalities"], 12);
        assert_eq!(json["estimators"][1]["failed"], "too bad");
        assert!(json["estimators"][1].get("modalities").is_none());
    }
}
