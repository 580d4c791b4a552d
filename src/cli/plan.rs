//! `plan`: the whole pipeline, and the summary at its end.

use clap::Args;

use super::flags::{ALL, PlanFlags};
use super::style::{self, Look, Text};
use super::{ConfigFile, Context};
use crate::kit::error::{Error, Result};
use crate::pipeline::{self, Estimate, Summary};
use crate::report::words;

const EXAMPLES: &str = "\
Examples:
  batchwright plan data/*.parquet -o plan
  batchwright plan data/ -o plan --label class --where \"split = 'train'\" --world-size 64
  batchwright plan data/ --dry-run";

/// Count the modalities of a dataset and build a plan
///
/// Reads the columns it needs twice and writes a directory that training loops read. The same data, settings and seed
/// give the same bytes, on any number of threads.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required = true, value_name = "DATA", value_parser = super::flags::data())]
    inputs: Vec<String>,
    #[command(flatten)]
    flags: PlanFlags,
    #[command(flatten)]
    file: ConfigFile,
    /// Only say what would be read and written, and how much disk and memory it takes
    #[arg(long, help_heading = "Run")]
    dry_run: bool,
    /// Print the summary as one JSON object
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    if flags.flags.modalities.estimator.as_deref() == Some(ALL) {
        return Err(Error::config(
            "--estimator",
            "is all, which compares estimators; a plan is made with one",
            "see `batchwright modalities DATA --estimator all`, and choose one of them here",
        ));
    }
    let settings = context.settings(&flags.file, &flags.flags)?;
    let (config, run, progress) = (&settings.config, &settings.run, &context.progress);
    let look = Look::stdout();
    if flags.dry_run {
        let estimate = pipeline::estimate(&flags.inputs, config, run, progress)?;
        return Ok(if flags.json {
            super::json(&estimate)
        } else {
            style::facts(&forecast(&estimate), look)
        });
    }
    context.writes(&run.out);
    let summary = pipeline::plan(&flags.inputs, config, run, progress)?;
    match (flags.json, context.quiet) {
        (true, _) => Ok(super::json(&summary)),
        (false, true) => Ok(Text::default()),
        (false, false) => Ok(style::facts(&facts(&summary, look.width), look)),
    }
}

type Lines = Vec<(String, String)>;

fn line(name: &str, text: impl Into<String>) -> (String, String) {
    (name.into(), text.into())
}

fn forecast(e: &Estimate) -> Lines {
    let mut lines = vec![
        line(
            "data",
            format!(
                "{} in {}, {}",
                style::plural(e.rows, "row"),
                style::plural(e.files as u64, "file"),
                style::plural(e.dims as u64, "dimension")
            ),
        ),
        line("would read", style::bytes(e.bytes_read)),
        line(
            "disk",
            format!(
                "{} needed ({} of it until the end only), {} free",
                style::bytes(e.bytes_written),
                style::bytes(e.bytes_working),
                style::bytes(e.disk_free)
            ),
        ),
        line(
            "memory",
            format!(
                "{} needed at most, {} allowed",
                style::bytes(e.memory_needed),
                style::bytes(e.memory_allowed)
            ),
        ),
    ];
    lines.splice(1..1, e.lines.iter().cloned());
    lines.push(line("verdict", if e.fits { "it fits; nothing was written" } else { "it does not fit" }));
    lines
}

/// "50 (confidence 93.0 %, likely 48 to 53, counted by consensus)", and a second line where that is no clear number. Of communities
/// their own two lines. `details`: what the estimator says.
pub fn modality_count<'a>(
    m: u32,
    confidence: f64,
    (low, high): (u32, u32),
    clear: bool,
    (estimator, details): (&str, words::Param<'a, '_>),
    counted: bool,
) -> Vec<String> {
    if !counted {
        return vec![match estimator {
            "column" => format!("{m} (the values of a column)"),
            name => format!("{m} (fixed, by {name})"),
        }];
    }
    let likely = if low < high { format!("likely {low} to {high}, ") } else { String::new() };
    let sure = format!("confidence {}, {likely}counted by {estimator}", style::percent(confidence));
    let mut lines = match words::communities(m, (low, high), details) {
        Some(sentences) => sentences.into(),
        None => vec![format!("{m} ({sure})")],
    };
    if !clear {
        lines.push("no clear number: the fine strata carry the stratification".into());
    }
    lines
}

/// In words: the ratio, and whether a label was there to predict it from.
pub fn predicted_gain(gain: Option<(f64, bool)>) -> String {
    match gain {
        Some((ratio, true)) => {
            format!(
                "early gradient variance {ratio:.2} times that of random batches (predicted from the label)"
            )
        }
        Some((ratio, false)) => format!(
            "early gradient variance at best {ratio:.2} times that of random batches (an optimistic guess: a plan \
             made with --label has a prediction)"
        ),
        None => "not predicted".into(),
    }
}

/// Modalities one a line: "#0   331 rows   18.4 %  label=3". `room` is in characters.
fn named(modalities: &[(String, u64, f64)], room: usize) -> Vec<String> {
    let rows: Vec<String> = modalities.iter().map(|m| style::count(m.1)).collect();
    let width = rows.iter().map(String::len).max().unwrap_or(0);
    let one = |((name, _, share), rows): (&(String, u64, f64), &String)| {
        let (number, name) = name.split_once(' ').unwrap_or((name, ""));
        let head = format!("{number:4} {rows:>width$} rows {:>8}  ", style::percent(*share));
        let name = style::shorten(name, room.saturating_sub(head.chars().count()));
        format!("{head}{name}").trim_end().to_string()
    };
    modalities.iter().zip(&rows).map(one).collect()
}

/// `width` is that of the terminal.
fn facts(s: &Summary, width: usize) -> Lines {
    let room = width.saturating_sub("batch size  ".len());
    let mut left_out = String::new();
    let aside = s
        .splits
        .as_ref()
        .filter(|_| s.rows_planned + s.held_out + s.filtered + s.invalid < s.rows)
        .map_or(0, |told| told.aside);
    for (n, why) in
        [(s.filtered, "by --where"), (s.invalid, "invalid"), (s.held_out, "held out"), (aside, "in no split")]
    {
        if n > 0 {
            left_out += &format!(", {} {why}", style::count(n));
        }
    }
    let mut lines = vec![
        line("plan", format!("{} ({})", s.out, style::shorten(&s.plan_id, 13))),
        line(
            "data",
            format!(
                "{}, {}; {} planned{left_out}",
                style::plural(s.rows, "row"),
                style::plural(s.dims as u64, "dimension"),
                style::count(s.rows_planned)
            ),
        ),
    ];
    lines.extend(s.columns.iter().cloned());
    let count = {
        let details = |key: &str| s.details.get(key);
        modality_count(s.modalities, s.confidence, s.interval, s.clear, (&s.estimator, &details), s.counted)
    };
    lines.extend(style::listed("modalities", count));
    lines.extend(style::listed("  largest", named(&s.largest, room)));
    // With few modalities the rarest are among the largest already.
    if s.modalities as usize > s.largest.len() {
        lines.extend(style::listed("  rarest", named(&s.rarest, room)));
    }
    lines.push(line("strata", style::count(s.strata.into())));
    lines.push(line(
        "batch size",
        format!(
            "{} = {:.2} rows a modality: {}",
            style::count(s.batch_size),
            s.samples_per_modality,
            s.batch_size_why
        ),
    ));
    let covered = || {
        format!(
            "{} of the rows have their modality in every batch{}; random batches would need {}",
            style::percent(s.covered),
            if s.reading.is_some() { " whose round has its share" } else { "" },
            style::count(s.random_batch)
        )
    };
    let coverage = if s.chunk > 1 { words::NOT_APPLICABLE.into() } else { covered() };
    lines.push(line("  coverage", coverage));
    let sizes: Vec<String> = s.candidates.iter().map(|&b| style::count(b)).collect();
    lines.push(line(
        "batches",
        format!(
            "{} an epoch, {} written, sizes {}",
            style::count(s.batches_per_epoch),
            style::plural(s.epochs.into(), "epoch"),
            sizes.join(" ")
        ),
    ));
    if let Some(distance) = s.run_distance {
        lines.push(match s.per_label {
            Some(rows) => line("  labels", words::labels(s.chunk, s.candidates[0], rows, s.rows_planned)),
            None => line("  chunks", words::chunks(s.chunk, s.candidates[0], distance)),
        });
    }
    if let Some(schedule) = &s.schedule {
        lines.push(line("  schedule", words::schedule(schedule)));
    }
    if let Some(repeats) = &s.repeats {
        lines.push(line("  duplicates", words::repeats(repeats, &s.candidates)));
    }
    if let Some(told) = &s.splits {
        lines.extend(words::splits(told));
    }
    if let Some(reading) = &s.reading {
        lines.extend(words::reading(reading));
    }
    if let Some((groups, bytes)) = s.at_random {
        lines.push(line(
            "reading",
            format!(
                "at random: a batch of {} rows decodes up to as many of {}, {} in all; --locality local reads each once an epoch",
                style::count(s.batch_size),
                style::plural(groups, "row group"),
                style::bytes(bytes)
            ),
        ));
    }
    lines.push(line(
        "update",
        format!("at {} representative samples", style::count(s.information_threshold as u64)),
    ));
    let gain = if s.chunk > 1 { words::NOT_APPLICABLE.into() } else { predicted_gain(s.gain) };
    lines.push(line("gain", gain));
    lines
        .push(line("files", format!("{}, {}", style::plural(s.files as u64, "file"), style::bytes(s.bytes))));
    // The stages that took at least a twentieth of the time.
    let slow: Vec<String> = (s.stages.iter())
        .filter(|(_, t)| *t >= 0.05 * s.seconds)
        .map(|(name, t)| format!("{name} {}", style::seconds(*t)))
        .collect();
    let slow = if slow.is_empty() { String::new() } else { format!(" ({})", slow.join(", ")) };
    lines.push(line("time", style::seconds(s.seconds) + &slow));
    lines.push(line("memory", format!("{} at the peak", style::bytes(s.peak_memory))));
    lines.extend(s.warnings.iter().map(|w| line("warning", w.as_str())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_a_person_asks() {
        let summary = Summary {
            out: "plan".into(),
            plan_id: "0123456789abcdef".into(),
            rows: 1_000_000,
            rows_planned: 990_000,
            filtered: 10_000,
            dims: 384,
            modalities: 50,
            confidence: 0.93,
            interval: (48, 53),
            clear: true,
            estimator: "consensus".into(),
            counted: true,
            largest: vec![("#0 m00".into(), 220_000, 0.222)],
            rarest: vec![("#49 m49".into(), 12, 0.0000121)],
            batch_size: 392,
            samples_per_modality: 7.84,
            batch_size_why: "1 row of the rarest covered modality".into(),
            candidates: vec![392, 784, 1568],
            gain: Some((0.52, true)),
            seconds: 185.2,
            stages: vec![("assign".into(), 170.0), ("write".into(), 1.0)],
            peak_memory: 3 << 30,
            warnings: vec!["a column is constant".into()],
            ..Summary::default()
        };
        let text = style::facts(&facts(&summary, 100), Look::plain());
        for expected in [
            "990,000 planned, 10,000 by --where",
            "50 (confidence 93.0 %, likely 48 to 53, counted by consensus)",
            "#0   220,000 rows   22.2 %  m00",
            "#49  12 rows 0.0012 %  m49",
            "392 = 7.84 rows a modality: 1 row",
            "sizes 392 784 1,568",
            "variance 0.52 times",
            "3 min 05 s (assign 2 min 50 s)",
            "3.0 GiB at the peak",
            "a column is constant",
        ] {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
        assert!(!text.contains("invalid") && !text.contains("write 1"), "{text}");
        let chunks = Summary { chunk: 56, run_distance: Some(0.68), gain: None, ..summary };
        let text = style::facts(&facts(&chunks, 200), Look::plain());
        assert_eq!(text.matches("not applicable").count(), 2, "{text}");
        assert!(text.contains("7 chunks of 56 neighbouring rows") && text.contains("are at 0.68"), "{text}");
    }
}
