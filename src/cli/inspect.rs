//! `inspect`: what is in a plan. Reads plan.json and modalities.arrow, so it takes milliseconds at any size.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::style::{self, Look};
use crate::error::Result;
use crate::modalities::EstimatorSpec;
use crate::plan::manifest::GainKind;
use crate::plan::modalities::Modality;
use crate::plan::{Manifest, Plan};

/// Show what is in a plan
#[derive(Args)]
pub struct Flags {
    /// Directory of the plan
    plan: PathBuf,
    /// Show every modality, not only the 20 largest
    #[arg(long)]
    all: bool,
    /// Print one JSON object: plan.json and the table of modalities
    #[arg(long)]
    json: bool,
}

pub fn run(flags: Flags) -> Result<String> {
    let plan = Plan::open(&flags.plan)?;
    let (manifest, modalities) = (plan.manifest(), plan.modalities()?);
    if flags.json {
        let modalities: Vec<Value> = modalities.iter().enumerate().map(as_json).collect();
        return Ok(super::json(&json!({"plan": manifest, "modalities": modalities})));
    }
    let look = Look::stdout();
    let limit = if flags.all { usize::MAX } else { 20 };
    let facts = style::facts(&facts(&flags.plan, manifest, &modalities), look);
    Ok(facts + "\n" + &table(&modalities, limit, look))
}

/// A modality without its centre, which has as many numbers as the features have dimensions.
fn as_json((number, m): (usize, &Modality)) -> Value {
    json!({"modality": number, "name": m.name, "kind": m.kind, "rows": m.rows, "share": m.share,
        "rms_radius": m.rms_radius, "prominence": m.prominence, "distance_quantiles": m.distance_quantiles})
}

fn facts(dir: &Path, m: &Manifest, modalities: &[Modality]) -> Vec<(String, String)> {
    let shares: Vec<f64> = modalities.iter().map(|m| m.share).collect();
    let given = !m.config["modalities"]["count"].is_null();
    let counted = EstimatorSpec::named(&m.estimator.name).is_none_or(EstimatorSpec::counts) && !given;
    let clear = !counted || crate::modalities::clear(&shares);
    let line = |name: &str, text: String| (name.to_string(), text);
    let mut lines = vec![
        line("plan", format!("{} ({})", dir.display(), style::shorten(&m.plan, 13))),
        line("written by", format!("{} {}, format {}", m.tool.name, m.tool.version, m.format)),
        line(
            "data",
            format!(
                "{}, {}; {} planned; {}",
                style::plural(m.rows, "row"),
                style::plural(m.dims.into(), "dimension"),
                style::count(m.rows_planned),
                style::plural(m.inputs.len() as u64, "file"),
            ),
        ),
        line(
            "modalities",
            super::plan::modality_count(
                m.modalities,
                m.estimator.confidence,
                m.estimator.interval,
                clear,
                &m.estimator.name,
                counted,
            ),
        ),
        line("strata", style::count(m.strata.into())),
        line(
            "batch size",
            format!(
                "{} = {:.2} rows a modality; {} of the rows have their modality in every batch",
                style::count(m.batch_size.into()),
                m.samples_per_modality,
                style::percent(m.coverage)
            ),
        ),
    ];
    let features = &m.config["features"];
    if let (Some(column), Some(encoder)) = (features["encode"].as_str(), features["encoder"].as_str()) {
        let (name, hash) = encoder.rsplit_once('@').unwrap_or((encoder, ""));
        lines.insert(1, line("encoder", format!("{name} ({}) reads `{column}`", style::shorten(hash, 13))));
    }
    let candidates = m.candidates.iter().map(|c| match c.accumulation {
        1 => style::count(c.batch_size.into()),
        a => format!("{} x {a}", style::count(c.batch_size.into())),
    });
    lines.push(line("candidates", candidates.collect::<Vec<_>>().join(", ")));
    lines.push(line("epochs", format!("{} written, seed {}", m.epochs, m.seed)));
    lines.push(line(
        "scores",
        format!(
            "an update at {} representative samples; modality share {:.2} ({})",
            style::count(m.information_threshold.round() as u64),
            m.modality_share.value,
            m.modality_share.source
        ),
    ));
    let gain = m.gain.as_ref().map(|g| (g.value, g.kind == GainKind::Label));
    lines.push(line("gain", super::plan::predicted_gain(gain)));
    let bytes = m.files.iter().map(|f| f.bytes).sum();
    let largest = m.files.iter().max_by_key(|f| f.bytes);
    let largest =
        largest.map_or(String::new(), |f| format!("; the largest is {} ({})", f.path, style::bytes(f.bytes)));
    lines.push(line(
        "files",
        format!("{}, {}{largest}", style::plural(m.files.len() as u64, "file"), style::bytes(bytes)),
    ));
    lines
}

/// What fits in `width` columns: names get what numbers and bars leave; details only on wide terminals.
fn table(modalities: &[Modality], limit: usize, look: Look) -> String {
    let width = look.width;
    const NUMBERS: usize = 35;
    const BAR: usize = 12;
    const DETAILS: usize = 36;
    let most = modalities.iter().map(|m| m.share).fold(f64::MIN_POSITIVE, f64::max);
    let longest = modalities.iter().map(|m| m.name.chars().count()).max().unwrap_or(0);
    let (bars, details) = (width >= 60, width >= 100);
    let used = NUMBERS + (BAR + 2) * usize::from(bars) + DETAILS * usize::from(details);
    let name_room = longest.clamp(4, width.saturating_sub(used).max(6));
    let mut head = vec!["modality", "name", "rows", "share"];
    let mut right = vec![true, false, true, true];
    if details {
        head.extend(["radius", "prominence", "kind"]);
        right.extend([true, true, false]);
    }
    if bars {
        head.push("");
        right.push(false);
    }
    let rows: Vec<Vec<String>> = (modalities.iter().enumerate().take(limit))
        .map(|(number, m)| {
            let mut cells = vec![
                number.to_string(),
                style::shorten(&m.name, name_room),
                style::count(m.rows),
                style::percent(m.share),
            ];
            if details {
                let prominence =
                    if m.prominence.is_nan() { "-".into() } else { format!("{:.2}", m.prominence) };
                cells.extend([format!("{:.3}", m.rms_radius), prominence, style::shorten(&m.kind, 12)]);
            }
            if bars {
                cells.push(style::bar(m.share / most, BAR));
            }
            cells
        })
        .collect();
    let mut out = style::table(&head, &right, &rows, look);
    if modalities.len() > limit {
        out += &look.dim(&format!("and {} more: --all shows them", modalities.len() - limit));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits() {
        let modalities: Vec<Modality> = (0..25)
            .map(|i| Modality {
                name: "a rather long name, ending nowhere in particular".into(),
                kind: "mode".into(),
                rows: 1_000_000 >> i,
                share: 0.5 / f64::from(i + 1),
                rms_radius: 1.5,
                prominence: f32::NAN,
                ..Modality::default()
            })
            .collect();
        for width in [45, 60, 75, 80, 100, 160] {
            let mut look = Look::plain();
            look.width = width;
            let text = table(&modalities, 20, look);
            let widest = text.lines().map(|l| l.chars().count()).max().unwrap();
            assert!(widest <= width, "{widest} > {width}\n{text}");
            assert!(text.contains("and 5 more"), "{text}");
        }
    }
}
