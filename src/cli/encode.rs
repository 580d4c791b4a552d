//! `encode`: embeddings as a column.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::flags::{EncodeFlags, FilterFlags, RunFlags};
use super::style::{self, Look, Text, Tone};
use super::{ConfigFile, Context};
use crate::kit::error::Result;
use crate::pipeline::encode;

const EXAMPLE: &str = "\
Example:
  batchwright encode data/*.parquet --encoder all-MiniLM-L6-v2 --encode description -o embeddings.parquet";

/// Write the embeddings of a column to a Parquet file
///
/// One column, `embedding`, and one row for every row of the data, in the same order. `plan` encodes on the way and needs
/// no such file; it is for training on the embeddings, and for looking at them.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct Flags {
    /// Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required = true, value_name = "DATA", value_parser = super::flags::data())]
    inputs: Vec<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    settings: EncodeSettings,
    #[command(flatten)]
    file: ConfigFile,
    /// Print what was done as one JSON object
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

/// The settings that matter here.
#[derive(Args, Debug, Serialize)]
struct EncodeSettings {
    #[command(flatten)]
    source: FilterFlags,
    #[command(flatten)]
    features: EncodeFlags,
    #[command(flatten)]
    run: RunFlags,
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    let settings = context.settings(&flags.file, &flags.settings)?;
    let run = crate::config::Run { force: flags.force, ..settings.run };
    context.writes(&flags.out);
    let done = encode::write(&flags.inputs, &settings.config, &flags.out, &run, &context.progress)?;
    Ok(match (flags.json, context.quiet) {
        (true, _) => super::json(&done),
        (false, true) => Text::default(),
        (false, false) => Look::stdout().line(
            Tone::Plain,
            &format!(
                "{}: {} of {} numbers ({} without), {}, {}, {} rows/s",
                flags.out.display(),
                style::plural(done.rows, "row"),
                done.dims,
                style::count(done.null),
                style::bytes(done.bytes),
                style::seconds(done.seconds),
                style::count((done.rows as f64 / done.seconds) as u64)
            ),
        ),
    })
}
