//! `check`: does a plan still fit its data? The answer in as many formats as asked for, and as the exit code.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use super::formats::{self, Format};
use super::style::{Look, Text};
use super::{ConfigFile, Context, Done};
use crate::kit::error::{Error, Result};
use crate::kit::output::{Output as File, Replace};
use crate::pipeline::check;
use crate::source::local_files;

const EXAMPLES: &str = "\
Examples:
  batchwright check plan data/*.parquet
  batchwright check plan data/ --quick
  batchwright check plan data/ --output-format human --output-format junit=drift.xml --output-format sarif=drift.sarif
  batchwright check plan data/ --output-format github --output-format markdown=\"$GITHUB_STEP_SUMMARY\"

Exit codes: 0 the plan holds, 1 drift or a broken contract, 2 wrong usage or settings, 3 unreadable input, 4 too few rows to \
tell, 130 interrupted.";

/// Check whether a plan still fits its data
///
/// Compares the contract (schema, rows, fingerprints), which rows are new, gone, moved or changed, and the distribution of the
/// new rows with what the plan stores: shares of modalities, distances, mean embedding (MMD), feature and column
/// statistics. Only the rows of new or changed row groups are read. Every number is shown with its threshold and interval.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// Directory of the plan
    plan: PathBuf,
    /// Parquet files, directories or glob patterns of them, or s3://, gs://, az:// URLs
    #[arg(required = true, value_name = "DATA", value_parser = super::flags::data())]
    inputs: Vec<String>,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    threads: Threads,
    /// human, json, junit, sarif, github or markdown; `FORMAT=PATH` writes a file. May be given several times
    #[arg(long, value_name = "FORMAT[=PATH]", default_value = "human", help_heading = "Output")]
    output_format: Vec<Output>,
    /// Exit with 0 also when the plan does not hold
    #[arg(long, help_heading = "Output")]
    exit_zero: bool,
    /// Print one JSON object: `--output-format json`
    #[arg(long, help_heading = "Output", conflicts_with = "output_format")]
    json: bool,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Run")]
pub struct Threads {
    #[command(flatten)]
    pub run: ThreadFlags,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Run")]
pub struct ThreadFlags {
    /// Threads [default: one per core]. The result does not depend on it
    #[arg(id = "run.threads", long = "threads", value_name = "N")]
    pub threads: Option<usize>,
    /// Memory to stay within, such as 4GiB; a check that may need more ends before it reads
    #[arg(id = "run.memory", long = "memory", value_name = "SIZE", value_parser = crate::config::parse_size)]
    pub memory: Option<u64>,
    /// The encoder that the plan was made with, if it was: folder of a Hugging Face model, or an ONNX file
    #[arg(id = "run.encoder", long = "encoder", value_name = "DIR|FILE.onnx")]
    pub encoder: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub engine: super::flags::EngineFlags,
}

/// The table `check` of the config file.
#[derive(Args, Debug, Serialize)]
pub struct Limits {
    #[command(flatten)]
    pub check: LimitFlags,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Thresholds")]
pub struct LimitFlags {
    /// Chance of any false alarm in the whole check
    #[arg(id = "check.alpha", long = "alpha", value_name = "P", value_parser = super::flags::finite)]
    pub alpha: Option<f64>,
    /// Least shift of a share (of a modality, of a value of a column) that counts, as Cohen's h
    #[arg(id = "check.share", long = "share", value_name = "H", value_parser = super::flags::finite)]
    pub share: Option<f64>,
    /// Least shift of a distribution over groups or deciles that counts, as Cohen's w
    #[arg(id = "check.composition", long = "composition", value_name = "W", value_parser = super::flags::finite)]
    pub composition: Option<f64>,
    /// Least shift of a mean that counts, in standard deviations (Cohen's d)
    #[arg(id = "check.mean", long = "mean", value_name = "D", value_parser = super::flags::finite)]
    pub mean: Option<f64>,
    /// Least change of the spread that counts, as the logarithm of the ratio
    #[arg(id = "check.spread", long = "spread", value_name = "X", value_parser = super::flags::finite)]
    pub spread: Option<f64>,
    /// Least distance of the mean embeddings that counts, in standard deviations
    #[arg(id = "check.mmd", long = "mmd", value_name = "X", value_parser = super::flags::finite)]
    pub mmd: Option<f64>,
    /// Largest share of the new rows that may be unlike anything in the plan
    #[arg(id = "check.far", long = "far", value_name = "SHARE", value_parser = super::flags::finite)]
    pub far: Option<f64>,
    /// How much the predicted variance ratio may rise
    #[arg(id = "check.gain", long = "gain", value_name = "X", value_parser = super::flags::finite)]
    pub gain: Option<f64>,
    /// Largest effect that may go unseen: with too few rows to rule it out, the answer is `cannot tell`
    #[arg(id = "check.unseen", long = "unseen", value_name = "X", value_parser = super::flags::finite)]
    pub unseen: Option<f64>,
    /// Least level of a finding that makes the check fail
    #[arg(id = "check.fail_level", long = "fail-level", value_name = "error|warning|note",
          value_parser = ["error", "warning", "note"], hide_possible_values = true)]
    pub fail_level: Option<String>,
    /// Exit with 1, not 4, where there are too few rows to tell
    #[arg(id = "check.strict", long = "strict", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub strict: Option<bool>,
    /// Trust size, modification time (or entity tag) and footer of a file instead of hashing its bytes; page checksums are not
    /// looked at
    #[arg(id = "check.quick", long = "quick", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub quick: Option<bool>,
}

/// `FORMAT` or `FORMAT=PATH`.
#[derive(Clone, Debug)]
struct Output {
    format: Format,
    path: Option<PathBuf>,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        let (name, path) = match text.split_once('=') {
            Some((_, "")) => return Err("the path after `=` is missing".into()),
            Some((name, path)) => (name, Some(path.into())),
            None => (text, None),
        };
        let format = Format::named(name).ok_or_else(|| {
            let known: Vec<&str> = Format::ALL.iter().map(|f| f.name()).collect();
            format!("unknown format `{name}`; expected one of {}", known.join(", "))
        })?;
        Ok(Output { format, path })
    }
}

#[derive(Serialize)]
struct Given<'a> {
    #[serde(flatten)]
    limits: &'a Limits,
    #[serde(flatten)]
    threads: &'a Threads,
}

/// The files of all outputs, before anything is read: the plan, the data and whatever is no report stay as they are.
fn begin(outputs: &[Output], flags: &Flags) -> Result<Vec<Option<File>>> {
    let paths: Vec<&PathBuf> = outputs.iter().filter_map(|o| o.path.as_ref()).collect();
    if let Some(twice) = (1..paths.len()).find(|&i| paths[..i].contains(&paths[i])) {
        let reason = format!("{} would be written twice", paths[twice].display());
        return Err(Error::config("--output-format", reason, "give each format a file of its own"));
    }
    if paths.is_empty() {
        return Ok(outputs.iter().map(|_| None).collect());
    }
    let mut keep = local_files(&flags.inputs)?;
    keep.push(flags.plan.clone());
    let replace = Replace::Own { kind: "a batchwright report", is: formats::is_report, force: false };
    let file = |path| File::file("--output-format", path, replace, &keep);
    outputs.iter().map(|o| o.path.as_deref().map(file).transpose()).collect()
}

pub fn run(flags: Flags, context: &Context) -> Result<Done> {
    let outputs = match flags.json {
        true => vec![Output { format: Format::Json, path: None }],
        false => flags.output_format.clone(),
    };
    let printed: Vec<&str> = outputs.iter().filter(|o| o.path.is_none()).map(|o| o.format.name()).collect();
    if printed.len() > 1 {
        return Err(Error::config(
            "--output-format",
            format!("{} would all go to standard output", printed.join(" and ")),
            format!("give all but one a file: --output-format {}=PATH", printed[1]),
        ));
    }
    let files = begin(&outputs, &flags)?;
    let settings =
        context.settings(&flags.file, &Given { limits: &flags.limits, threads: &flags.threads })?;
    let outcome =
        check::check(&flags.plan, &flags.inputs, &settings.check, &settings.run, &context.progress)?;
    let mut text = Text::default();
    for (output, file) in outputs.iter().zip(files) {
        let look = if output.path.is_some() { Look::plain() } else { Look::stdout() };
        let made = formats::render(output.format, &outcome, &settings.values, look);
        match file {
            Some(file) => file.write(made.as_bytes())?,
            None if context.quiet && output.format == Format::Human => {}
            None => text = made,
        }
    }
    Ok(Done { text, code: if flags.exit_zero { 0 } else { outcome.exit_code() } })
}
