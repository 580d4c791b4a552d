//! `synth`: data to try batchwright with.

use std::path::PathBuf;

use clap::Args;

use super::Context;
use super::style::{self, Look, Text, Tone};
use crate::kit::error::Result;
use crate::pipeline::synth::{self, Compression, Element, Params};

const EXAMPLE: &str = "\
Example:
  batchwright synth -o data.parquet --rows 1000000 --dims 384 --modalities 50 --skew 1.2";

/// Generate a Parquet dataset with known modalities to try things out
///
/// Rows of a Gaussian mixture with columns id, kind (the true modality), value and embedding. The same flags give the
/// same bytes, on any number of threads.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct Flags {
    /// File to write; with --files, the directory
    #[arg(short, long, value_name = "PATH")]
    out: PathBuf,
    /// Rows
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    rows: u64,
    /// Dimensions of an embedding
    #[arg(long, default_value_t = 64, value_name = "D")]
    dims: usize,
    /// Modalities
    #[arg(long, default_value_t = 20, value_name = "M")]
    modalities: u32,
    /// Zipf exponent of their sizes: modality i has a share proportional to 1 / (i + 1)^S; 0: all equal
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    skew: f64,
    /// Distance of the two nearest centres, in standard deviations of a modality along one direction
    #[arg(long, default_value_t = 6.0, value_name = "X")]
    separation: f64,
    /// Seed: another one gives other data
    // Not the setting `seed`: a variable meant for plans must not change the data.
    #[arg(id = "data-seed", long = "seed", default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Rows of a row group
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    row_group: usize,
    /// Type of an embedding's numbers
    #[arg(long, value_enum, default_value_t)]
    element: Element,
    /// Compression of the columns
    #[arg(long, value_enum, default_value_t)]
    compression: Compression,
    /// Files to spread the rows over; more than one: --out is a directory
    #[arg(long, default_value_t = 1, value_name = "K")]
    files: usize,
    /// Add an integer column `label`: one of ten classes, for nine of ten rows that of the row's modality
    #[arg(long)]
    label: bool,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Replace an existing file, or a directory of such files
    #[arg(long)]
    force: bool,
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    let params = Params {
        rows: flags.rows,
        dims: flags.dims,
        modalities: flags.modalities,
        skew: flags.skew,
        separation: flags.separation,
        seed: flags.seed,
        row_group: flags.row_group,
        element: flags.element,
        compression: flags.compression,
        files: flags.files,
        label: flags.label,
    };
    let begun = std::time::Instant::now();
    let threads = flags.threads.unwrap_or(0);
    context.writes(&flags.out);
    let bytes = synth::write(&params, &flags.out, flags.force, threads, &context.progress)?;
    if context.quiet {
        return Ok(Text::default());
    }
    let said = format!(
        "{}: {} in {}, {}, {}",
        flags.out.display(),
        style::plural(params.rows, "row"),
        style::plural(params.modalities.into(), "modality"),
        style::bytes(bytes),
        style::seconds(begun.elapsed().as_secs_f64())
    );
    Ok(Look::stdout().line(Tone::Plain, &said))
}
