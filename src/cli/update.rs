//! `update`: brings a plan up to date, reading only what changed.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::check::Limits;
use super::flags::OutFlags;
use super::style::{self, Look, Text};
use super::{ConfigFile, Context};
use crate::kit::error::{Error, Result};
use crate::pipeline::{self, Updated};
use crate::report::words;

const EXAMPLES: &str = "\
Examples:
  batchwright update plan data/ -o plan-2
  batchwright update plan data/ -o plan --force       # in place
  batchwright diff plan plan-2                        # what changed for training";

/// Bring a plan up to date with its data, reading only what changed
///
/// New rows are assigned by the plan's own prototypes and dealt in with the others; modality ids stay. Where rows are gone or
/// changed, everything is read again; where new rows are of unknown kinds, or with --refit, modalities are counted again and each
/// keeps the id of the old one it shares most rows with. The plan's own settings hold. Files whose size, modification time
/// and footer are as they were are not read at all.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Directory of the older plan
    plan: PathBuf,
    /// Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required = true, value_name = "DATA", value_parser = super::flags::data())]
    inputs: Vec<String>,
    #[command(flatten)]
    out: Out,
    /// Count the modalities again in any case
    #[arg(long, help_heading = "Run")]
    refit: bool,
    /// Hash the bytes of all files, also of those that look unchanged
    #[arg(long, help_heading = "Run")]
    verify: bool,
    /// Deal splits and held-out rows anew; otherwise rows stay in their splits
    #[arg(long, help_heading = "Run")]
    deal_holdout: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

#[derive(Args, Debug, Serialize)]
struct Out {
    #[command(flatten)]
    run: OutFlags,
}

#[derive(Serialize)]
struct Given<'a> {
    #[serde(flatten)]
    limits: &'a Limits,
    #[serde(flatten)]
    out: &'a Out,
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    let settings = context.settings(&flags.file, &Given { limits: &flags.limits, out: &flags.out })?;
    let run = &settings.run;
    if flags.out.run.out.is_none() {
        let help = "add -o NEW, or -o with the same plan and --force to replace it";
        return Err(Error::config("--out", "is missing: the new plan needs a place", help));
    }
    context.writes(&run.out);
    let updated = pipeline::update(
        &flags.plan,
        &flags.inputs,
        &settings.check,
        flags.refit,
        flags.verify,
        flags.deal_holdout,
        run,
        &context.progress,
    )?;
    Ok(match (flags.json, context.quiet) {
        (true, _) => super::json(&updated),
        (false, true) => Text::default(),
        (false, false) => describe(&updated, Look::stdout()),
    })
}

fn describe(u: &Updated, look: Look) -> Text {
    let line = |name: &str, text: String| (name.to_string(), text);
    let mut lines = Vec::new();
    if let Some(s) = &u.summary {
        lines.push(line("plan", format!("{} ({})", s.out, style::shorten(&s.plan_id, 13))));
    }
    lines.push(line("from", style::shorten(&u.from, 13)));
    lines.push(line("how", format!("{}: {}", u.how, u.why)));
    lines.push(line("new rows", style::count(u.rows_new)));
    let share = u.bytes_read as f64 / u.bytes.max(1) as f64;
    lines.push(line(
        "read",
        format!(
            "{} ({} bytes) of {}, {}",
            style::bytes(u.bytes_read),
            u.bytes_read,
            style::bytes(u.bytes),
            style::percent(share)
        ),
    ));
    lines.push(line("check", u.check.headline()));
    let Some(s) = &u.summary else {
        lines.push(line("verdict", "nothing to do; no plan was written".into()));
        return style::facts(&lines, look);
    };
    let kept = u.modalities.iter().zip(0u32..).filter(|(was, now)| **was == Some(*now)).count();
    let renamed: Vec<String> = (u.modalities.iter().enumerate())
        .filter(|(now, was)| **was != Some(*now as u32))
        .take(10)
        .map(|(now, was)| was.map_or(format!("{now} is new"), |was| format!("{was} is now {now}")))
        .collect();
    let renamed = if renamed.is_empty() { String::new() } else { format!("; {}", renamed.join(", ")) };
    lines.push(line("modalities", format!("{}, {kept} with the id they had{renamed}", s.modalities)));
    lines.push(line(
        "planned",
        format!("{} rows, batch size {}", style::count(s.rows_planned), style::count(s.batch_size)),
    ));
    if let Some(reading) = &s.reading {
        lines.push(line(
            "order",
            "local: units are those of the row groups as they lie now, all dealt anew".into(),
        ));
        lines.extend(words::reading(reading));
    }
    lines.push(line("time", style::seconds(s.seconds)));
    lines.extend(s.warnings.iter().map(|w| line("warning", w.clone())));
    style::facts(&lines, look)
}
