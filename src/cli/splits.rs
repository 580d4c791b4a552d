//! `splits`: the splits of a plan as a table.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::flags::RunFlags;
use super::style::{self, Look, Text};
use super::{ConfigFile, Context};
use crate::kit::error::Result;
use crate::pipeline::export;

const EXAMPLE: &str = "\
Example:
  batchwright splits plan data/*.parquet -o splits.parquet";

/// Write the split of every row to a Parquet file
///
/// Columns: what --id named when the plan was made, `row` (its number), `split` (its name; null for rows in none) and `group` (the lowest row
/// that it stays together with; null: alone). One row for every row of the data, in the same order.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct Flags {
    /// The plan
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// The dataset it was made from: Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required = true, value_name = "DATA", value_parser = super::flags::data())]
    inputs: Vec<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    file: ConfigFile,
    /// Print what was done as one JSON object
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

/// The settings that matter here.
#[derive(Args, Debug, Serialize)]
struct Settings {
    #[command(flatten)]
    run: RunFlags,
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    let settings = context.settings(&flags.file, &flags.settings)?;
    let run = crate::config::Run { force: flags.force, ..settings.run };
    context.writes(&flags.out);
    let done = export::splits(&flags.plan, &flags.inputs, &flags.out, &run, &context.progress)?;
    let splits = || done.splits.iter().map(|(name, rows)| format!("{name} {}", style::plural(*rows, "row")));
    Ok(match (flags.json, context.quiet) {
        (true, _) => super::json(&done),
        (false, true) => Text::default(),
        (false, false) => {
            let file = format!(
                "{}, {}, {}",
                flags.out.display(),
                style::plural(done.rows, "row"),
                style::bytes(done.bytes)
            );
            let mut lines = vec![("file".to_string(), file)];
            lines.extend(style::listed("splits", splits()));
            style::facts(&lines, Look::stdout())
        }
    })
}
