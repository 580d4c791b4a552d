//! `materialize`: the rows of a plan in the order of its batches.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::flags::{RunFlags, list};
use super::style::{self, Look, Text};
use super::{ConfigFile, Context};
use crate::config::parse_size;
use crate::kit::error::Result;
use crate::pipeline::materialize::{self, Format, Materialized, Params, With};

const EXAMPLES: &str = "\
Examples:
  batchwright materialize plan data/ -o shards
  batchwright materialize plan data/ -o shards-1 --epoch 1 --columns embedding,label --with modality
  batchwright materialize plan data/ -o arrays --format npy
  batchwright materialize plan -o orders --only-list";

/// Write the rows of a plan again, in the order of its batches
///
/// The copy is for reading in order, at the speed of the disk: each of its files, row groups and batches is a miniature of the
/// whole data. All columns keep their types and bits. Two are added: `batch`, and `row`, the row's number in the data. Beside
/// the copy stands a plan of its own, OUT.plan, with the modalities and strata of this one, for further epochs: of Parquet files,
/// which plans are made of.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Directory of the plan
    plan: PathBuf,
    /// What the plan was made from: Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required_unless_present = "only_list", value_name = "DATA", value_parser = super::flags::data())]
    inputs: Vec<String>,
    /// Directory to write
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Replace an older copy
    #[arg(long)]
    force: bool,
    /// Epoch whose order the copy has, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: u32,
    /// Rows of a batch, a candidate of the plan [default: the plan's batch size]
    #[arg(long, value_name = "B")]
    batch_size: Option<u32>,
    /// Kind of files: parquet; arrow, IPC files to map into memory; npy, an array a column to map into memory
    #[arg(long, value_name = "NAME", default_value = "parquet", value_parser = format())]
    format: String,
    /// Write no data, but the row numbers in the order of the batches: OUT/order-EPOCH.npy, an array of int64
    #[arg(long, conflicts_with_all = ["format", "columns", "with", "file_size", "no_plan"])]
    only_list: bool,
    /// Columns to copy, in this order [default: all]; repeat the flag for names with commas
    #[arg(long, value_name = "COL,...")]
    columns: Vec<String>,
    /// Columns to add of what the plan says of a row
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = with())]
    with: Vec<String>,
    /// Size of a file, decoded, about; smaller ones need less memory
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64MiB")]
    file_size: u64,
    /// Write no plan of the copy
    #[arg(long)]
    no_plan: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    file: ConfigFile,
    /// Print what was done as one JSON object
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

#[derive(Args, Debug, Serialize)]
struct Settings {
    #[command(flatten)]
    run: RunFlags,
}

fn format() -> PossibleValuesParser {
    PossibleValuesParser::new(Format::ALL.map(Format::name))
}

fn with() -> PossibleValuesParser {
    PossibleValuesParser::new(With::ALL.map(With::name))
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    let settings = context.settings(&flags.file, &flags.settings)?;
    let run = crate::config::Run { force: flags.force, out: flags.out.clone(), ..settings.run };
    let mut beside = flags.out.clone().into_os_string();
    beside.push(".plan");
    let params = Params {
        epoch: flags.epoch,
        batch_size: flags.batch_size,
        format: Format::ALL.into_iter().find(|f| f.name() == flags.format).unwrap_or_default(),
        columns: list(&flags.columns).into_iter().map(String::from).collect(),
        with: With::ALL.into_iter().filter(|w| flags.with.iter().any(|name| name == w.name())).collect(),
        file_bytes: flags.file_size,
        plan: (!flags.no_plan).then(|| beside.into()),
    };
    let (plan, data, progress) = (&flags.plan, &flags.inputs, &context.progress);
    let done = if flags.only_list {
        context.writes(&materialize::list_path(&flags.out, flags.epoch));
        materialize::list(plan, data, &params, &run, progress)?
    } else {
        context.writes(&flags.out);
        let copied = || params.plan.iter().for_each(|plan| context.writes(plan));
        materialize::materialize(plan, data, &params, &run, progress, copied)?
    };
    Ok(match (flags.json, context.quiet) {
        (true, _) => super::json(&done),
        (false, true) => Text::default(),
        (false, false) => describe(&done, &flags, &params, Look::stdout()),
    })
}

fn describe(done: &Materialized, flags: &Flags, params: &Params, look: Look) -> Text {
    let line = |name: &str, text: String| (name.to_string(), text);
    let mut lines = vec![
        line(
            if flags.only_list { "list" } else { "copy" },
            format!(
                "{}: {}, {}",
                flags.out.display(),
                style::plural(done.files, "file"),
                style::bytes(done.bytes)
            ),
        ),
        line(
            "rows",
            format!(
                "{} in {} of {} (epoch {}); {} of the data left out",
                style::count(done.rows),
                style::plural(done.batches, "batch"),
                style::count(done.batch_size.into()),
                done.epoch,
                style::count(done.left_out)
            ),
        ),
    ];
    if !done.added.is_empty() {
        lines.push(line("added", done.added.join(", ")));
    }
    match (&done.plan, &params.plan) {
        (Some(id), Some(at)) => {
            lines.push(line("plan", format!("{} ({})", at.display(), style::shorten(id, 13))));
        }
        _ => lines.extend(done.no_plan.clone().map(|why| line("plan", why))),
    }
    lines.push(line("time", style::seconds(done.seconds)));
    style::facts(&lines, look)
}
