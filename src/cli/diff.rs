//! `diff`: what changed for training between two plans.

use std::path::PathBuf;

use clap::Args;

use super::style::{self, Look, Text, Tone};
use crate::kit::error::Result;
use crate::pipeline::diff::{self, Diff, Pair};
use crate::plan::Plan;

/// Show what changed for training between two plans
///
/// Compares sizes, modalities (matched by the rows they share), batches, settings, statistics, and where rows went. The data
/// is not read.
#[derive(Args)]
pub struct Flags {
    /// Directory of the older plan
    a: PathBuf,
    /// Directory of the newer plan
    b: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(flags: Flags) -> Result<Text> {
    let diff = diff::diff(&Plan::open(&flags.a)?, &Plan::open(&flags.b)?)?;
    Ok(if flags.json { super::json(&diff) } else { describe(&diff, Look::stdout()) })
}

/// Modalities and settings listed one by one.
const SHOWN: usize = 20;

fn describe(d: &Diff, look: Look) -> Text {
    if d.same {
        let said = format!("the same plan ({}): it deals the same batches", style::shorten(&d.id.0, 13));
        return look.line(Tone::Plain, &said);
    }
    fn pair<T: PartialEq>((a, b): &Pair<T>, text: impl Fn(&T) -> String) -> String {
        if a == b { format!("{} as before", text(a)) } else { format!("{} -> {}", text(a), text(b)) }
    }
    let line = |name: &str, text: String| (name.to_string(), text);
    let count = |n: &u64| style::count(*n);
    let small = |n: &u32| style::count((*n).into());
    let sizes = |s: &Vec<u32>| s.iter().map(|b| style::count((*b).into())).collect::<Vec<_>>().join(" ");
    let number = |x: &f64| crate::pipeline::check::number(*x);
    let gain = |x: &Option<f64>| x.map_or("not predicted".into(), crate::pipeline::check::number);
    let mut lines = vec![
        line("plan", pair(&d.id, |id| style::shorten(id, 13))),
        line("rows", format!("{} ({} planned)", pair(&d.rows, count), pair(&d.rows_planned, count))),
        line("modalities", pair(&d.modalities, small)),
        line("strata", pair(&d.strata, small)),
        line("batch size", pair(&d.batch_size, small)),
        line("candidates", pair(&d.candidates, sizes)),
        line("batches", format!("{} an epoch", pair(&d.batches_per_epoch, count))),
        line("update", format!("at {} representative samples", pair(&d.information_threshold, number))),
        line("coverage", pair(&d.coverage, |c| style::percent(*c))),
        line("gain", format!("predicted variance ratio {}", pair(&d.gain, gain))),
    ];
    let m = &d.moved;
    let mut moved = vec![format!("{} in both plans", style::count(m.common))];
    for (n, what) in [
        (m.number, "at other numbers"),
        (m.modality, "in another modality"),
        (m.stratum.unwrap_or(0), "in another stratum"),
        (m.planned, "planned only now"),
        (m.left_out, "planned only before"),
    ] {
        if n > 0 {
            moved.push(format!("{} {what}", style::count(n)));
        }
    }
    if m.stratum.is_none() && m.common > 0 {
        moved.push("strata are others".into());
    }
    lines.push(line("moved rows", moved.join("; ")));
    for (key, (a, b)) in d.config.iter().take(SHOWN) {
        lines.push(line("setting", format!("{key}: {a} -> {b}")));
    }
    let means: Vec<String> = (d.means.iter().take(3))
        .map(|m| {
            let (a, b) = (crate::pipeline::check::number(m.mean.0), crate::pipeline::check::number(m.mean.1));
            format!("{}[{}] {a} -> {b} ({:+.3} deviations)", m.column, m.index, m.shift)
        })
        .collect();
    lines.extend(style::listed("means", means));
    let mut out = style::facts(&lines, look);
    let id = |m: Option<u32>| m.map_or("-".into(), |m| m.to_string());
    let room = look.width.saturating_sub(44).max(6);
    let rows: Vec<Vec<String>> = (d.mapping.iter().take(SHOWN))
        .map(|m| {
            let (a, b) = (style::percent(m.share.0), style::percent(m.share.1));
            vec![id(m.then), id(m.now), a, b, style::shorten(&m.name, room)]
        })
        .collect();
    out += Text::blank();
    let head = ["modality then", "now", "share then", "now", "name"];
    out += style::table(&head, &[true, true, true, true, false], &rows, look);
    if d.mapping.len() > SHOWN {
        out += look.line(Tone::Dim, &format!("and {} more: --json has all", d.mapping.len() - SHOWN));
    }
    out
}
