//! The flags that set something in [`Config`](crate::config::Config) or [`Run`](crate::config::Run).
//!
//! One struct per stage, nested and named like the config, so that a flag's id is the dotted key it sets and the structs
//! serialise to the config's own form. Every flag is optional: what is not given comes from the environment, the file or
//! the defaults (see [`super::settings`]).

use std::ffi::OsString;

use clap::Args;
use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use serde_json::Value;

use crate::batches::locality::Order;
use crate::config::parse_size;
use crate::kernels::Simd;
use crate::modalities::{CriterionSpec, EstimatorSpec};
use crate::source::Element;

/// Everything that `plan` takes.
#[derive(Args, Debug, Serialize)]
pub struct PlanFlags {
    #[command(flatten)]
    pub source: SourceFlags,
    #[command(flatten)]
    pub features: FeatureFlags,
    #[command(flatten)]
    pub modalities: ModalityFlags,
    #[command(flatten)]
    pub strata: StrataFlags,
    #[command(flatten)]
    pub splits: SplitFlags,
    #[command(flatten)]
    pub batch_size: BatchSizeFlags,
    #[command(flatten)]
    pub batches: BatchFlags,
    #[command(flatten)]
    pub locality: LocalityFlags,
    #[command(flatten)]
    pub weights: WeightFlags,
    #[command(flatten)]
    pub scores: ScoreFlags,
    /// Seed of all random decisions: the same data, settings and seed give the same plan
    #[arg(id = "seed", long, value_name = "N", help_heading = "Run")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub run: OutFlags,
}

/// Everything that `modalities` takes.
#[derive(Args, Debug, Serialize)]
pub struct CountFlags {
    #[command(flatten)]
    pub source: FilterFlags,
    #[command(flatten)]
    pub features: FeatureFlags,
    #[command(flatten)]
    pub modalities: ModalityFlags,
    /// Seed of all random decisions: the same data, settings and seed give the same answer
    #[arg(id = "seed", long, value_name = "N", help_heading = "Run")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub run: ReadFlags,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Data")]
pub struct SourceFlags {
    /// Column that names a row for people, shown in the report
    #[arg(id = "source.id", long = "id", value_name = "COLUMN")]
    pub id: Option<String>,
    /// Column with the class, to predict the gain; never used for clustering
    #[arg(id = "source.label", long = "label", value_name = "COLUMN")]
    pub label: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub filter: FilterFlags,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Data")]
pub struct FilterFlags {
    /// Only the rows for which this SQL condition is true
    ///
    /// The condition may use every column but the vectors. Rows left out keep their row number and get no modality.
    /// Example: --where "split = 'train' and length > 20"
    #[arg(id = "source.where", long = "where", value_name = "SQL")]
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Rows whose features are null, NaN, infinite or of the wrong length: stop, or drop them
    #[arg(id = "source.invalid", long = "invalid", hide_possible_values = true,
          value_name = "error|drop",
          value_parser = ["error", "drop"])]
    pub invalid: Option<String>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Features")]
pub struct FeatureFlags {
    /// Columns that rows are clustered by [default: the one vector column, floats first; else all numeric columns]
    ///
    /// Given once, it is a list with commas. Given several times, each is the name of one column, which may hold commas.
    #[arg(id = "features.columns", long = "features", value_name = "COLUMN,...")]
    #[serde(serialize_with = "names")]
    pub columns: Option<Vec<String>>,
    /// What bytes of fixed size hold that do not say it themselves [default: no numbers]
    #[arg(id = "features.as", long = "as", hide_possible_values = true, value_name = "f16|f32|f64",
          value_parser = PossibleValuesParser::new(Element::ALL.map(Element::name)))]
    #[serde(rename = "as")]
    pub bytes_as: Option<String>,
    /// How numbers are scaled first: not at all, to length 1, to mean 0 and deviation 1, or to median 0 and quartile range 1
    #[arg(id = "features.transform", long = "transform", hide_possible_values = true,
          value_name = "none|unit|standard|robust",
          value_parser = ["none", "unit", "standard", "robust"])]
    pub transform: Option<String>,
    /// How text and boolean columns become numbers
    #[arg(id = "features.categories", long = "categories", hide_possible_values = true,
          value_name = "one-hot|hash",
          value_parser = ["one-hot", "hash"])]
    pub categories: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub encode: EncodeFlags,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Features")]
pub struct EncodeFlags {
    /// Column whose values --encoder turns into vectors; the feature, alone or together with those of --features
    #[arg(id = "features.encode", long = "encode", value_name = "COLUMN")]
    pub encode: Option<String>,
    /// Most tokens of a text, special ones included; the rest is cut off [default: from the model's files]
    #[arg(id = "features.max_seq_length", long = "max-seq-length", value_name = "N")]
    pub max_seq_length: Option<u32>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Modalities")]
pub struct ModalityFlags {
    /// How modalities are counted
    ///
    /// consensus: modes, or communities of neighbouring rows, that halves of a sample agree on, at the level and in the labelling
    /// that blocks agree on; pretrained: modes at the level that a network judges best; hdbscan, kmeans, gaussian-mixture and
    /// dbscan: the method of that name (docs/estimators.md); column: the values of --modality-column, without counting. The command `modalities` also takes all, which compares them.
    #[arg(id = "modalities.estimator", long = "estimator", hide_possible_values = true,
          value_name = "NAME", value_parser = estimators())]
    pub estimator: Option<String>,
    /// Fix the number of modalities; chooses the estimator kmeans
    #[arg(id = "modalities.count", long = "modalities", value_name = "N")]
    pub count: Option<u32>,
    /// What chooses the number of k-means cells; chooses the estimator kmeans [default: silhouette]
    #[arg(id = "modalities.criterion", long = "criterion", hide_possible_values = true,
          value_name = "silhouette|gap|bic",
          value_parser = PossibleValuesParser::new(CriterionSpec::ALL.map(CriterionSpec::name)))]
    pub criterion: Option<String>,
    /// Take the values of this column as the modalities; chooses the estimator column
    #[arg(id = "modalities.column", long = "modality-column", value_name = "COLUMN")]
    pub column: Option<String>,
    /// Rows of a sample block: with more rows, finer modes can be told apart
    #[arg(id = "modalities.resolution", long = "resolution", value_name = "ROWS")]
    pub resolution: Option<u32>,
    /// Name modalities by the values and words of the data that set each apart; false: leave the names empty [default: true]
    #[arg(id = "modalities.names", long = "names", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub names: Option<bool>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Strata")]
pub struct StrataFlags {
    /// What batches are stratified by: modalities, the values of a column, or both; COLUMN:q10: ten bins of its numbers
    ///
    /// Examples: --stratify-by modality, --stratify-by label, --stratify-by modality,label, --stratify-by price:q10. Of a column of lists of text the rarest label of a row counts. A column of another word's
    /// name is column:NAME.
    #[arg(id = "strata.by", long = "stratify-by", value_name = "modality|COLUMN|modality,COLUMN")]
    pub by: Option<String>,
    /// Number of strata that the modalities are split into, in all; 0: the modalities themselves; auto: 300, with --chunk up to 4096
    #[arg(id = "strata.fine", long = "fine-strata", value_name = "auto|N", value_parser = auto_or_count)]
    pub fine: Option<Value>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Splits")]
pub struct SplitFlags {
    /// Splits and what each gets: shares (0.8, 80%), numbers of rows, or `rest`; batches are dealt from the first
    ///
    /// Example: --split train=0.8,val=0.1,test=0.1
    #[arg(id = "splits.shares", long = "split", value_name = "NAME=SHARE,...")]
    #[serde(serialize_with = "names")]
    pub shares: Option<Vec<String>>,
    /// Equal parts for cross-validation, each the test set once; groups: one for each value of the --group column
    #[arg(id = "splits.folds", long = "folds", value_name = "K|groups", value_parser = groups_or_number)]
    pub folds: Option<Value>,
    /// What splits are balanced by [default: the label, if there is one of at most 1000 values, and inside it the strata]
    #[arg(id = "splits.by", long = "split-by", value_name = "label|strata|COLUMN|COLUMN,strata|none")]
    pub by: Option<String>,
    /// Columns: rows that share a value of one (a patient, an author) are in one split; also modality, prototype, stratum
    ///
    /// Given once, it is a list with commas. Given several times, each is the name of one column, which may hold commas.
    #[arg(id = "splits.groups", long = "group", value_name = "COLUMN,...")]
    #[serde(serialize_with = "names")]
    pub groups: Option<Vec<String>>,
    /// Column whose values name the splits (train, val, test); rows without a value are in none
    #[arg(id = "splits.column", long = "split-column", value_name = "COLUMN")]
    pub column: Option<String>,
    /// Splits by the paths of the files
    ///
    /// Example: --split-files train=train-*,test=test-*
    #[arg(id = "splits.files", long = "split-files", value_name = "NAME=PATTERN,...")]
    #[serde(serialize_with = "names")]
    pub files: Option<Vec<String>>,
    /// Order of the splits of --split-column or --split-files [default: train, val, others by name, test]
    #[arg(id = "splits.order", long = "split-order", value_name = "NAME,...")]
    #[serde(serialize_with = "names")]
    pub order: Option<Vec<String>>,
    /// Column of times: the earliest rows are in the first split; with --folds K, fold f is tested on the time after all that it is trained on
    #[arg(id = "splits.time", long = "split-time", value_name = "COLUMN")]
    pub time: Option<String>,
    /// Least time between a split and the next: rows in between are set aside; in the unit of the column, or 7d, 12h, 30s
    #[arg(id = "splits.gap", long = "gap", value_name = "LENGTH")]
    pub gap: Option<String>,
    /// Rows of a --group in several splits of --split-column or --split-files: count them, or set those of the earlier splits aside
    #[arg(id = "splits.leaks", long = "leaks", value_name = "report|purge", hide_possible_values = true,
          value_parser = ["report", "purge"])]
    pub leaks: Option<String>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Batch size")]
pub struct BatchSizeFlags {
    /// Rows of a batch; auto: the smallest size at which every batch contains every covered modality
    #[arg(id = "batch_size.size", long = "batch-size", value_name = "auto|N", value_parser = auto_or_number)]
    pub size: Option<Value>,
    /// Batch size as a multiple of the number of modalities, instead of --coverage
    #[arg(id = "batch_size.samples_per_modality", long = "samples-per-modality", value_name = "X", value_parser = finite)]
    pub samples_per_modality: Option<f64>,
    /// Share of the rows whose modality must be in every batch
    #[arg(id = "batch_size.coverage", long = "coverage", value_name = "SHARE", value_parser = finite)]
    pub coverage: Option<f64>,
    /// Round the batch size up to a multiple of this [default: 8; a size that is given is taken as it is]
    #[arg(id = "batch_size.multiple", long = "multiple", value_name = "N")]
    pub multiple: Option<u64>,
    /// Ranks (GPUs) that share a batch
    #[arg(id = "batch_size.world_size", long = "world-size", value_name = "W")]
    pub world_size: Option<u64>,
    /// Micro-batches that each rank splits its part of a batch into
    #[arg(id = "batch_size.micro_steps", long = "micro-steps", value_name = "A")]
    pub micro_steps: Option<u64>,
    /// Batch sizes to prepare, all multiples of the smallest; auto: the batch size B, 2B and 4B
    #[arg(id = "batch_size.candidates", long = "candidates", value_name = "auto|N,N,...",
          value_parser = auto_or_numbers)]
    pub candidates: Option<Value>,
    /// Batch sizes that change in training: each holds from a share of it on, such as 0:256,0.1:512,0.3:1024
    ///
    /// The training has the epochs of --train-epochs. Every row still comes once an epoch, and samplers follow the schedule.
    #[arg(
        id = "batch_size.schedule",
        long = "size-schedule",
        value_name = "SHARE:N,...",
        value_delimiter = ','
    )]
    pub schedule: Option<Vec<String>>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Batches")]
pub struct BatchFlags {
    /// Epochs to write; any other can be computed from the plan later [default: 3, or 0 above 67 million rows and in the local order]
    #[arg(id = "batches.epochs", long = "epochs", value_name = "N")]
    pub epochs: Option<u32>,
    /// Shares of the strata in a batch: as in the data, all equal, tempered by --tau, or from a JSON or TOML file
    ///
    /// A file holds a list of shares in the order of the strata, or a table from stratum number to share. Rows drawn
    /// more or less often than they occur get a loss weight that makes up for it.
    #[arg(id = "batches.allocation", long = "allocation", value_name = "proportional|equal|tau|FILE")]
    pub allocation: Option<String>,
    /// Temper the shares: proportional to share^TAU, so 1 is proportional and 0 is equal; chooses --allocation tau
    #[arg(id = "batches.tau", long = "tau", value_name = "TAU", value_parser = finite)]
    pub tau: Option<f64>,
    /// Leave out the rows at the end of an epoch that do not fill a batch
    #[arg(id = "batches.drop_last", long = "drop-last", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub drop_last: Option<bool>,
    /// Neighbouring rows that come into a batch together, a divisor of the batch size: hard negatives for contrastive losses
    ///
    /// A batch is then made of such neighbourhoods from all over the data instead of single rows; `batch`: of one neighbourhood.
    #[arg(id = "batches.chunk", long = "chunk", value_name = "N|batch", value_parser = batch_or_number)]
    pub chunk: Option<Value>,
    /// Batches of so many rows of each of some labels, those of --stratify-by, else --label; `batch`: of one label
    #[arg(id = "batches.rows_per_label", long = "rows-per-label", value_name = "K|batch", value_parser = batch_or_number)]
    pub rows_per_label: Option<Value>,
    /// Columns: rows that share a value of one (a user, a document, a text) come into different batches
    ///
    /// Given once, it is a list with commas. Given several times, each is the name of one column, which may hold commas.
    #[arg(id = "batches.no_duplicates", long = "no-duplicates", value_name = "COLUMN,...")]
    #[serde(serialize_with = "names")]
    pub no_duplicates: Option<Vec<String>>,
    /// Epochs of the training, for the shares of --size-schedule
    #[arg(id = "batches.train_epochs", long = "train-epochs", value_name = "E")]
    pub train_epochs: Option<u32>,
    /// Share of the rows to keep out of the batches for validation: --split train=1-SHARE,holdout=SHARE
    #[arg(id = "batches.holdout", long = "holdout", value_name = "SHARE", value_parser = finite)]
    pub holdout: Option<f64>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Reading")]
pub struct LocalityFlags {
    /// Order of batches: rows from anywhere, or row groups one after another, each read once an epoch
    ///
    /// In the global order every batch has its share of every stratum to within a row, and reads as many row groups as it has
    /// rows. In the local one it has its share of what the round holds, some row groups of each of several streams.
    #[arg(id = "locality.kind", long = "locality", hide_possible_values = true, value_name = "global|local",
          value_parser = PossibleValuesParser::new(Order::ALL.map(Order::name)))]
    pub kind: Option<String>,
    /// Units (of rows that are decoded at a time) of a stream in a round; more mix better and take more memory
    #[arg(id = "locality.window", long = "window", value_name = "auto|N", value_parser = auto_or_number)]
    pub window: Option<Value>,
    /// Streams that every batch takes as many rows from: world sizes that divide it fit
    #[arg(id = "locality.streams", long = "streams", value_name = "auto|N", value_parser = auto_or_number)]
    pub streams: Option<Value>,
    /// Rows of a unit
    #[arg(id = "locality.unit_rows", long = "unit-rows", value_name = "auto|N", value_parser = auto_or_number)]
    pub unit_rows: Option<Value>,
    /// Memory that the units of a round may take, decoded, such as 512MiB
    #[arg(id = "locality.window_memory", long = "window-memory", value_name = "SIZE", value_parser = parse_size)]
    pub window_memory: Option<u64>,
    /// Columns that training reads, for --window-memory [default: all]
    #[arg(id = "locality.read", long = "read", value_name = "COLUMN,...")]
    #[serde(serialize_with = "names")]
    pub read: Option<Vec<String>>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Weights and scores")]
pub struct WeightFlags {
    /// How the weight moves between the centre and the edge of the modalities during training
    #[arg(id = "weights.schedule", long = "weights", hide_possible_values = true,
          value_name = "centre-to-periphery|centre-then-uniform|periphery-late|off",
          value_parser = ["centre-to-periphery", "centre-then-uniform", "periphery-late", "off"])]
    pub schedule: Option<String>,
    /// How strong the weights are: at 1 the heaviest row weighs e times the lightest; more than 2 is rarely wise
    #[arg(id = "weights.strength", long = "weight-strength", value_name = "X", value_parser = finite)]
    pub strength: Option<f64>,
    /// How centrality is measured
    #[arg(id = "weights.centrality", long = "centrality", hide_possible_values = true,
          value_name = "distance|density|margin",
          value_parser = ["distance", "density", "margin"])]
    pub centrality: Option<String>,
    /// Where weights have mean 1: in each modality, or in each batch
    #[arg(id = "weights.normalise", long = "normalise", hide_possible_values = true,
          value_name = "modality|batch",
          value_parser = ["modality", "batch"])]
    pub normalise: Option<String>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Weights and scores")]
pub struct ScoreFlags {
    /// Representative samples to collect before an optimizer update [default: 4 times the batch size; with --chunk the batch size]
    #[arg(id = "scores.information_threshold", long = "information-threshold", value_name = "N", value_parser = finite)]
    pub information_threshold: Option<f64>,
    /// Share of the gradient's variance that lies between modalities, 0 to 0.9 [default: from the label, else 0.5]
    #[arg(id = "scores.modality_share", long = "modality-share", value_name = "SHARE", value_parser = finite)]
    pub modality_share: Option<f64>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Run")]
pub struct OutFlags {
    /// Directory of the new plan
    #[arg(id = "run.out", short = 'o', long = "out", value_name = "DIR")]
    pub out: Option<String>,
    /// Replace an existing plan
    #[arg(id = "run.force", long = "force", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub force: Option<bool>,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: ReadFlags,
}

/// Of verbs whose reading may be done elsewhere.
#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Run")]
pub struct ReadFlags {
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    #[serde(flatten)]
    pub engine: EngineFlags,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Run")]
pub struct EngineFlags {
    /// Where the data is read [default: on the threads of this process]
    ///
    /// folder:DIR: tasks lie in a directory that all machines see, and `batchwright work DIR` does them anywhere. With the Python
    /// package also processes:N, ray, ray:ADDRESS, spark and spark:MASTER. The result does not depend on it.
    #[arg(id = "run.engine", long = "engine", value_name = "NAME")]
    pub engine: Option<String>,
    /// Bytes that a task of an engine reads at most, such as 100MB [default: 512MiB]. The result does not depend on it
    #[arg(id = "run.task_bytes", long = "task-bytes", value_name = "SIZE", value_parser = parse_size)]
    pub task_bytes: Option<u64>,
}

#[derive(Args, Debug, Serialize)]
#[command(next_help_heading = "Run")]
pub struct RunFlags {
    /// Pre-trained network for --encode: a Hugging Face folder (config.json, model.safetensors, tokenizer.json), or an
    /// .onnx file
    #[arg(id = "run.encoder", long = "encoder", value_name = "DIR|FILE.onnx", help_heading = "Features")]
    pub encoder: Option<String>,
    /// Threads [default: one per core]. The result does not depend on it
    #[arg(id = "run.threads", long = "threads", value_name = "N")]
    pub threads: Option<usize>,
    /// Memory to stay within, such as 4GiB or 500MB [default: 4GiB]. The result does not depend on it
    #[arg(id = "run.memory", long = "memory", value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Widest vector instructions to use, for testing: the result never depends on it
    #[arg(id = "run.simd", long = "simd", value_name = "WIDTH", value_parser = vectors(), hide_short_help = true)]
    pub simd: Option<String>,
}

/// A flag that was given once is a list, one that was repeated has a name each time.
pub fn list(given: &[String]) -> Vec<&str> {
    match given {
        [list] => list.split(',').collect(),
        several => several.iter().map(String::as_str).collect(),
    }
}

fn names<S: serde::Serializer>(given: &Option<Vec<String>>, to: S) -> Result<S::Ok, S::Error> {
    given.as_deref().map(list).serialize(to)
}

/// Of `--estimator`: every one that counts, for comparing them.
pub const ALL: &str = "all";

/// Retired names are taken too: the check of the settings says what to use instead.
fn estimators() -> PossibleValuesParser {
    let retired = EstimatorSpec::RETIRED.map(|spec| PossibleValue::new(spec.name()).hide(true));
    let names = EstimatorSpec::ALL.map(EstimatorSpec::name).into_iter().chain([ALL]);
    PossibleValuesParser::new(names.map(PossibleValue::new).chain(retired))
}

fn vectors() -> PossibleValuesParser {
    PossibleValuesParser::new(Simd::ALL.map(Simd::name))
}

/// Where data lies: a path or a URL. Plans name files, as text.
pub fn data() -> impl TypedValueParser<Value = String> {
    let text = |name: OsString| {
        let refused = |name: OsString| format!("{} is not named in UTF-8: rename it", name.display());
        name.into_string().map_err(refused)
    };
    OsStringValueParser::new().try_map(text)
}

/// NaN and infinities are no settings.
pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err("expected a finite number such as 0.5".into()),
    }
}

fn auto_or_number(text: &str) -> Result<Value, String> {
    match text {
        "auto" => Ok(text.into()),
        _ => number(text).map_err(|e| format!("{e} or auto")),
    }
}

fn auto_or_count(text: &str) -> Result<Value, String> {
    match (text, text.parse::<u32>()) {
        ("auto", _) => Ok(text.into()),
        (_, Ok(n)) => Ok(n.into()),
        _ => Err("expected a whole number from 0 on or auto".into()),
    }
}

fn batch_or_number(text: &str) -> Result<Value, String> {
    match text {
        "batch" => Ok(text.into()),
        _ => number(text).map_err(|e| format!("{e} or batch")),
    }
}

fn groups_or_number(text: &str) -> Result<Value, String> {
    match text {
        "groups" => Ok(text.into()),
        _ => number(text).map_err(|e| format!("{e} or groups")),
    }
}

fn auto_or_numbers(text: &str) -> Result<Value, String> {
    match text {
        "auto" => Ok(text.into()),
        _ => text
            .split(',')
            .map(|n| number(n.trim()))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array)
            .map_err(|e| format!("{e}s such as 128,256,512, or auto")),
    }
}

fn number(text: &str) -> Result<Value, String> {
    match text.parse::<u64>() {
        Ok(n) if n > 0 => Ok(n.into()),
        _ => Err("expected a positive whole number".into()),
    }
}
