//! `modalities`: only counts, and shows the evidence.

use clap::Args;

use super::flags::CountFlags;
use super::style::{self, Look};
use super::{ConfigFile, Context};
use crate::error::Result;
use crate::pipeline::{self, Counted};

/// Only count the modalities, and show the evidence
///
/// Reads a sample of the rows and writes nothing. Takes a fraction of the time of `plan`.
#[derive(Args)]
pub struct Flags {
    /// Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required = true, value_name = "DATA")]
    inputs: Vec<String>,
    #[command(flatten)]
    flags: CountFlags,
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

pub fn run(flags: Flags, context: &Context) -> Result<String> {
    let settings = context.settings(&flags.file, &flags.flags)?;
    let counted = pipeline::modalities(&flags.inputs, &settings.config, &settings.run, &context.progress)?;
    Ok(if flags.json { super::json(&counted) } else { describe(&counted, Look::stdout()) })
}

/// Rows of a table; the rest is counted, and in `--json`.
const SHOWN: usize = 20;

fn describe(c: &Counted, look: Look) -> String {
    let line = |name: &str, text: String| (name.to_string(), text);
    let mut lines = vec![
        line(
            "modalities",
            super::plan::modality_count(c.modalities, c.confidence, c.interval, c.clear, &c.estimator),
        ),
        line(
            "sample",
            format!(
                "{}, blocks of {}",
                style::plural(c.sample_rows, "row"),
                style::count(c.resolution.into())
            ),
        ),
        line("time", style::seconds(c.seconds)),
    ];
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
    out += "\n";
    out += &style::table(&["modality", "sample rows", "share", ""], &[true, true, true, false], &sizes, look);
    out += &more(c.sizes.len(), look);

    if !c.curve.is_empty() {
        let rows: Vec<Vec<String>> = (c.curve.iter().take(SHOWN))
            .map(|(k, criterion, value)| vec![k.to_string(), format!("{value:.4}"), criterion.clone()])
            .collect();
        out += "\n";
        out += &style::table(&["k", "value", "criterion"], &[true, true, false], &rows, look);
        out += &more(c.curve.len(), look);
    }
    out
}

fn more(rows: usize, look: Look) -> String {
    match rows.saturating_sub(SHOWN) {
        0 => String::new(),
        rest => look.dim(&format!("and {rest} more: --json has all")) + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sizes_and_evidence_are_shown() {
        let counted = Counted {
            modalities: 3,
            confidence: 0.5,
            interval: (2, 4),
            estimator: "consensus".into(),
            resolution: 10_000,
            sample_rows: 50_000,
            sizes: (0..25).map(|i| 100 - i).collect(),
            curve: vec![(3, "p=32 k=64 tau=1.4 R".into(), 1.25)],
            ..Counted::default()
        };
        let text = describe(&counted, Look::plain());
        for expected in ["likely 2 to 4", "no clear number", "50,000 rows", "and 5 more", "1.2500  p=32 k=64"]
        {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
    }
}
