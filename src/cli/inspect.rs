//! `inspect`: what is in a plan. Reads plan.json and modalities.arrow, so it takes milliseconds at any size.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::FileReader;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::style::{self, Paint};
use crate::error::{Error, Result};

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
    let manifest = manifest(&flags.plan)?;
    let modalities = modalities(&flags.plan)?;
    if flags.json {
        return Ok(super::json(&serde_json::json!({"plan": manifest, "modalities": modalities})));
    }
    let paint = Paint::stdout();
    let limit = if flags.all { usize::MAX } else { 20 };
    let facts = style::facts(&facts(&flags.plan, &manifest), paint);
    Ok(facts + "\n" + &table(&modalities, limit, style::width(), paint))
}

/// One row of modalities.arrow, without its centre.
#[derive(Debug, Default, Serialize)]
struct Modality {
    modality: u32,
    name: String,
    kind: String,
    rows: u64,
    share: f64,
    rms_radius: f32,
    prominence: f32,
}

fn manifest(plan: &Path) -> Result<Value> {
    let path = plan.join("plan.json");
    let damaged =
        |reason: String| Error::plan(plan, reason, "give the directory that `batchwright plan -o` wrote");
    let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            damaged("is not a plan: it has no plan.json".into())
        }
        _ => Error::io("read", &path)(e),
    })?;
    let manifest: Value =
        serde_json::from_str(&text).map_err(|e| damaged(format!("plan.json is damaged: {e}")))?;
    let format = manifest["format"].as_str().unwrap_or("");
    match format.split('.').next() {
        Some("1") => Ok(manifest),
        _ => {
            Err(Error::plan(plan, format!("has format `{format}`, expected 1.x"), "use a newer batchwright"))
        }
    }
}

fn modalities(plan: &Path) -> Result<Vec<Modality>> {
    let path = plan.join("modalities.arrow");
    let damaged = |reason: String| Error::plan(&path, reason, "build the plan again, or copy it again");
    let file = File::open(&path).map_err(Error::io("read", &path))?;
    let reader = FileReader::try_new(file, None).map_err(|e| damaged(e.to_string()))?;
    let mut all = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| damaged(e.to_string()))?;
        rows(&batch, &mut all).ok_or_else(|| damaged("lacks a column of format 1".into()))?;
    }
    Ok(all)
}

/// None if a column is missing or of another type.
fn rows(batch: &RecordBatch, out: &mut Vec<Modality>) -> Option<()> {
    let column = |name| batch.column_by_name(name);
    let (modality, rows) = (
        column("modality")?.as_primitive_opt::<UInt32Type>()?,
        column("rows")?.as_primitive_opt::<UInt64Type>()?,
    );
    let share = column("share")?.as_primitive_opt::<Float64Type>()?;
    let radius = column("rms_radius")?.as_primitive_opt::<Float32Type>()?;
    let prominence = column("prominence")?.as_primitive_opt::<Float32Type>()?;
    let (kind, name) = (column("kind")?.as_string_opt::<i32>()?, column("name")?.as_string_opt::<i32>()?);
    for i in 0..batch.num_rows() {
        let text =
            |a: &arrow_array::StringArray| if a.is_null(i) { String::new() } else { a.value(i).into() };
        out.push(Modality {
            modality: modality.value(i),
            name: text(name),
            kind: text(kind),
            rows: rows.value(i),
            share: share.value(i),
            rms_radius: radius.value(i),
            prominence: prominence.value(i),
        });
    }
    Some(())
}

fn facts(dir: &Path, plan: &Value) -> Vec<(String, String)> {
    let number = |key: &str| plan[key].as_u64().unwrap_or(0);
    let float = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
    let text = |v: &Value| v.as_str().unwrap_or("").to_string();
    let line = |name: &str, text: String| (name.to_string(), text);
    let mut lines = vec![
        line("plan", format!("{} ({})", dir.display(), style::shorten(&text(&plan["plan"]), 13))),
        line(
            "written by",
            format!(
                "{} {}, format {}",
                text(&plan["tool"]["name"]),
                text(&plan["tool"]["version"]),
                text(&plan["format"])
            ),
        ),
        line(
            "data",
            format!(
                "{}, {}; {} planned; {}",
                style::plural(number("rows"), "row"),
                style::plural(number("dims"), "dimension"),
                style::count(number("rows_planned")),
                style::plural(plan["inputs"].as_array().map_or(0, Vec::len) as u64, "file"),
            ),
        ),
    ];
    let estimator = &plan["estimator"];
    let bound = |i: usize| estimator["interval"][i].as_u64().unwrap_or(0) as u32;
    lines.push(line(
        "modalities",
        super::plan::modality_count(
            number("modalities") as u32,
            float(&estimator["confidence"]),
            (bound(0), bound(1)),
            true,
            &text(&estimator["name"]),
        ),
    ));
    lines.push(line("strata", style::count(number("strata"))));
    lines.push(line(
        "batch size",
        format!(
            "{} = {:.2} a modality, coverage {}",
            style::count(number("batch_size")),
            float(&plan["samples_per_modality"]),
            style::percent(float(&plan["coverage"]))
        ),
    ));
    let candidates: Vec<String> = (plan["candidates"].as_array().into_iter().flatten())
        .map(|c| match (c["batch_size"].as_u64().unwrap_or(0), c["accumulation"].as_f64()) {
            (size, Some(a)) if a != 1.0 => format!("{} x {a}", style::count(size)),
            (size, _) => style::count(size),
        })
        .collect();
    lines.push(line("candidates", candidates.join(", ")));
    lines.push(line("epochs", format!("{} written, seed {}", number("epochs"), number("seed"))));
    let share = match &plan["modality_share"] {
        Value::Object(o) => o.get("value").map_or(f64::NAN, float),
        value => float(value),
    };
    lines.push(line(
        "scores",
        format!(
            "{} representative samples an update, modality share {share:.2}",
            float(&plan["information_threshold"])
        ),
    ));
    let gain = match &plan["gain"] {
        Value::Object(o) => ["ratio", "value"].iter().find_map(|k| o.get(*k)).map_or(f64::NAN, float),
        value => float(value),
    };
    if gain.is_finite() {
        lines.push(line(
            "gain",
            format!("early gradient variance {gain:.2} times that of random batches (predicted)"),
        ));
    }
    let files = plan["files"].as_array().map_or(&[][..], Vec::as_slice);
    let bytes: u64 = files.iter().filter_map(|f| f["bytes"].as_u64()).sum();
    let largest = files.iter().max_by_key(|f| f["bytes"].as_u64());
    let largest = largest.map_or(String::new(), |f| {
        format!("; the largest is {} ({})", text(&f["path"]), style::bytes(f["bytes"].as_u64().unwrap_or(0)))
    });
    lines.push(line(
        "files",
        format!("{}, {}{largest}", style::plural(files.len() as u64, "file"), style::bytes(bytes)),
    ));
    lines
}

/// What fits in `width` columns: the bar goes first, then prominence and kind.
fn table(modalities: &[Modality], limit: usize, width: usize, paint: Paint) -> String {
    let most = modalities.iter().map(|m| m.share).fold(f64::MIN_POSITIVE, f64::max);
    let longest = modalities.iter().map(|m| m.name.chars().count()).max().unwrap_or(0).clamp(4, 32);
    let (details, bars) = (width >= 70, width >= 90);
    let name_room = if width < 60 { longest.min(16) } else { longest };
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
    let rows: Vec<Vec<String>> = (modalities.iter().take(limit))
        .map(|m| {
            let mut cells = vec![
                m.modality.to_string(),
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
                cells.push(style::bar(m.share / most, (width - 62).saturating_sub(name_room).clamp(4, 30)));
            }
            cells
        })
        .collect();
    let mut out = style::table(&head, &right, &rows, paint);
    if modalities.len() > limit {
        out += &paint.dim(&format!("and {} more: --all shows them", modalities.len() - limit));
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
                modality: i,
                name: "a rather long name, ending nowhere in particular".into(),
                kind: "mode".into(),
                rows: 1_000_000 >> i,
                share: 0.5 / f64::from(i + 1),
                rms_radius: 1.5,
                prominence: f32::NAN,
            })
            .collect();
        for width in [45, 60, 75, 80, 100, 160] {
            let text = table(&modalities, 20, width, Paint::stdout());
            let widest = text.lines().map(|l| l.chars().count()).max().unwrap();
            assert!(
                widest <= width + 15 * usize::from(width == 60 || width < 60),
                "{widest} > {width}\n{text}"
            );
            assert!(text.contains("and 5 more"), "{text}");
        }
    }

    #[test]
    fn no_plan_is_said_so() {
        let e = manifest(Path::new("no-such-plan")).unwrap_err();
        assert_eq!(e.exit_code(), 3);
        assert!(e.to_string().contains("no plan.json"), "{e}");
    }
}
