//! The sum of all parameters, and the layers they come from.
//!
//! [`Config`] is what decides the bytes of a plan and is stored in it; [`Run`] (where to write, how many threads) and
//! [`Check`] (what counts as drift) never enter a plan. Values come in layers, the later ones winning: defaults, the file `batchwright.toml`, the
//! environment, flags (or the arguments of another front end). A [`Layer`] is flat: dotted key to value, each value with
//! its [`Origin`], so that `config show` can say where every number comes from and an error can name the place to edit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::batches::sizes::Sizes;
use crate::batches::{allocation, batch_size, deal, labels, locality, score, sizes, strata, weights};
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
pub use crate::kit::size::parse_size;
use crate::kit::text;
use crate::modalities::prototypes::{PROTOTYPES, SAMPLE_ROWS};
use crate::parts::{Chosen, Elsewhere, Local};
use crate::{features, kernels, modalities, source, splits};

/// Everything that decides the bytes of a plan, one table per stage. Stored in plan.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Every random decision is looked up by a key made from it.
    pub seed: u64,
    pub source: source::Params,
    pub features: features::Params,
    pub modalities: modalities::Params,
    pub batch_size: batch_size::Params,
    pub strata: strata::Params,
    #[serde(skip_serializing_if = "splits::Params::is_default")]
    pub splits: splits::Params,
    pub batches: deal::Params,
    #[serde(skip_serializing_if = "locality::Params::is_global")]
    pub locality: locality::Params,
    pub weights: weights::Params,
    pub scores: score::Params,
}

/// How one run is carried out; none of it changes a byte of the plan. The table `run` of a config file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Directory of the new plan.
    pub out: PathBuf,
    /// 0: one per core.
    pub threads: usize,
    /// Memory to stay within, in bytes; text such as "4GiB" is read too (see [`parse_size`]).
    #[serde(deserialize_with = "crate::kit::size::size")]
    pub memory: u64,
    /// Replace an existing plan.
    pub force: bool,
    /// Folder or .onnx file of the encoder for `features.encode`. A plan keeps its name and hash, never the path.
    pub encoder: Option<PathBuf>,
    /// The widest vector instructions that may be used, in the whole process and until its next run; for checking that they
    /// change nothing.
    pub simd: kernels::Simd,
    /// Where the data is read: `folder:DIR`; with the Python package also `processes:N`, `ray`, `ray:ADDRESS`, `spark` and
    /// `spark:MASTER`. None: on the threads of this process.
    #[schemars(with = "Option<String>")]
    pub engine: Option<Chosen>,
    /// Bytes that a task of an engine reads at most, at least one part of the dataset.
    #[serde(deserialize_with = "crate::kit::size::size")]
    pub task_bytes: u64,
}

impl Default for Run {
    fn default() -> Self {
        Run {
            out: "plan".into(),
            threads: 0,
            memory: 4 << 30,
            force: false,
            encoder: None,
            simd: kernels::Simd::Auto,
            engine: None,
            task_bytes: 512 << 20,
        }
    }
}

/// When `check` says that data has drifted. The table `check` of a config file; it never enters a plan. Effects are those
/// of [`drift`](crate::statistics::drift): they do not grow with the number of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Chance of any false alarm in a whole check.
    pub alpha: f64,
    /// Least shift of one share (of a modality, of a value) that counts, as Cohen's h.
    pub share: f64,
    /// Least shift of a whole distribution over groups or deciles that counts, as Cohen's w.
    pub composition: f64,
    /// Least shift of a mean that counts, in standard deviations (Cohen's d).
    pub mean: f64,
    /// Least change of the spread that counts, as the logarithm of a ratio: 0.02 is 2 %.
    pub spread: f64,
    /// Least distance of the mean embeddings (MMD) that counts, in standard deviations.
    pub mmd: f64,
    /// Largest share of rows that may be unlike anything in the plan.
    pub far: f64,
    /// How much the predicted variance ratio may rise.
    pub gain: f64,
    /// Largest effect that may go unseen: where there are too few rows to rule it out, the answer is `cannot tell`.
    pub unseen: f64,
    /// Least level of a finding that makes the check fail.
    pub fail_level: Level,
    /// Count `cannot tell` as a failure.
    pub strict: bool,
    /// Trust size, modification time (or entity tag) and footer of a file instead of hashing its bytes.
    pub quick: bool,
}

impl Default for Check {
    fn default() -> Self {
        Check {
            alpha: 0.01,
            share: 0.05,
            composition: 0.2,
            mean: 0.1,
            spread: 0.02,
            mmd: 0.05,
            far: 0.01,
            gain: 0.1,
            unseen: 0.25,
            fail_level: Level::Error,
            strict: false,
            quick: false,
        }
    }
}

impl Check {
    /// Thresholds out of range.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, value: f64, help: &str| {
            Err(Error::config(format!("check.{key}"), format!("is {value}, which makes no sense"), help))
        };
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return wrong("alpha", self.alpha, "use a small chance, such as 0.01");
        }
        for (key, value) in [
            ("share", self.share),
            ("composition", self.composition),
            ("mean", self.mean),
            ("spread", self.spread),
            ("mmd", self.mmd),
            ("gain", self.gain),
            ("unseen", self.unseen),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(key, value, "use 0 or a positive number");
            }
        }
        if !(self.far > 0.0 && self.far < 1.0) {
            return wrong("far", self.far, "use a share between 0 and 1, such as 0.01");
        }
        Ok(())
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    Note,
    /// The plan still works, but not as well as it did.
    Warning,
    /// The plan does not fit the data.
    #[default]
    Error,
}

impl Run {
    /// [`Local::scope`] on its threads, with its vectors and its engine.
    pub fn scope<T: Send>(
        &self,
        progress: &Progress,
        work: impl FnOnce(&Local) -> Result<T> + Send,
    ) -> Result<T> {
        kernels::limit(self.simd);
        let open = |chosen: &Chosen| Ok(Elsewhere { engine: chosen.open()?, task_bytes: self.task_bytes });
        let elsewhere = self.engine.as_ref().map(open).transpose()?;
        let local = Local::new(self.threads, progress.clone())?.with(elsewhere);
        local.install(|| work(&local))
    }

    /// The encoder that the run names, if it is the one that the config asks for.
    pub fn open_encoder(&self, config: &Config) -> Result<Option<features::Encoder>> {
        let Some(path) = &self.encoder else { return Ok(None) };
        let encoder = features::Encoder::open(path, config.features.max_seq_length)?;
        if let Some(asked) = &config.features.encoder {
            encoder.check_identity(asked)?;
        }
        Ok(Some(encoder))
    }
}

impl Config {
    /// The dataset, bytes read as the features say; `memory` as in [`Dataset::open_within`](source::Dataset::open_within).
    pub fn open(&self, inputs: &[String], memory: u64, progress: &Progress) -> Result<source::Dataset> {
        source::Dataset::open_within(inputs, memory, progress)?.with_bytes_as(self.features.bytes_as)
    }

    /// Epochs written to a plan of `rows` rows.
    pub fn epochs(&self, rows: u64) -> u32 {
        match self.locality.is_global() {
            true => self.batches.epochs(rows),
            // Any epoch of a local order is dealt as fast as it is read.
            false => self.batches.epochs.unwrap_or(0),
        }
    }

    /// Whether rows are in splits or folds.
    pub fn has_splits(&self) -> bool {
        self.batches.holdout > 0.0 || self.splits.kind().is_some()
    }

    /// Rows that come into a batch together; 1: batches are dealt row by row.
    pub fn chunk(&self) -> u64 {
        let chunk = self.batches.rows_per_label.unwrap_or(self.batches.chunk);
        chunk.rows(self.batch_size.smallest().unwrap_or(1))
    }

    /// The parameters of the batch size: an automatic one holds whole streams, or whole labels on every rank.
    pub fn sizes(&self) -> batch_size::Params {
        let given = self.locality.batch_size(&self.batch_size);
        match self.batches.rows_per_label {
            Some(_) => given.in_multiples_of(self.chunk() * given.world_size * given.micro_steps),
            None => given,
        }
    }

    /// Rows that each stratum contributes to an epoch in batches of `base`; None: each row once. `values`: of the strata, where a column
    /// stratifies.
    ///
    /// # Errors
    /// If there are other shares than strata, or too few labels with as many rows as a batch takes of each.
    pub fn draws(&self, sizes: &[u64], values: Option<&[String]>, base: u64) -> Result<Option<Vec<u64>>> {
        if self.batches.rows_per_label.is_none() {
            return self.batches.counts(sizes);
        }
        let (rows, sizes) = (self.chunk(), labels::labelled(sizes, values));
        let (counts, batches) = labels::counts(&sizes, rows, base);
        if batches > 0 {
            return Ok(Some(counts));
        }
        Err(Error::config(
            "batches.rows_per_label",
            format!(
                "{} of {} labels have {rows} rows, a batch of {base} needs {}",
                sizes.iter().filter(|&&n| n >= rows).count(),
                sizes.len(),
                base / rows
            ),
            "choose fewer rows of a label, or a smaller --batch-size",
        ))
    }

    /// When which of the `candidates` is used, in epochs of so many batches of the smallest; None: the batch size does not change.
    ///
    /// # Errors
    /// If a size of the schedule would have no batch.
    pub fn size_schedule(&self, batches: u64, candidates: &[u64]) -> Result<Option<Sizes>> {
        let new = |epochs| Sizes::new(&self.batch_size.schedule, epochs, batches, candidates);
        self.batches.train_epochs.map(new).transpose()
    }

    /// Strata wanted of so many planned rows.
    pub fn fine(&self, planned: u64) -> u32 {
        self.strata.wanted(planned, self.chunk())
    }

    /// Prototypes aimed at: chunks may want more strata than there would be.
    pub fn prototypes(&self, planned: u64) -> u32 {
        match self.chunk() {
            0..=1 => PROTOTYPES,
            _ => PROTOTYPES.max(self.fine(planned)),
        }
    }

    /// Rows that the sample has at least: what the prototypes of chunks need, where strata are made of prototypes.
    pub fn sample_rows(&self, planned: u64) -> u64 {
        let by_prototype = self.modalities.estimator != modalities::EstimatorSpec::Column;
        match by_prototype && self.strata.column().is_none() && self.chunk() > 1 {
            true => planned.min(SAMPLE_ROWS * u64::from(self.prototypes(planned))),
            false => 0,
        }
    }

    /// Information that an update needs, in rows of a random batch.
    pub fn threshold(&self, batch_size: u64) -> f64 {
        self.scores.threshold(batch_size, self.chunk() > 1)
    }

    /// Columns that have a role beside the features, each with the setting that names it. Those of the row filter are
    /// known to the dataset ([`Dataset::filter_columns`](source::Dataset::filter_columns)).
    pub fn roles(&self) -> Vec<(&'static str, &str)> {
        let by_column = self.modalities.estimator == modalities::EstimatorSpec::Column;
        // Words that are no columns are told by `check`.
        let keys = self.batches.key_columns().unwrap_or_default();
        [
            ("source.id", self.source.id.as_deref()),
            ("source.label", self.source.label.as_deref()),
            ("strata.by", self.strata.column()),
            ("modalities.column", self.modalities.column.as_deref().filter(|_| by_column)),
        ]
        .into_iter()
        .filter_map(|(role, name)| Some((role, name?)))
        .chain(keys.into_iter().map(|name| ("batches.no_duplicates", name)))
        .chain(self.splits.columns())
        .collect()
    }

    /// All columns that decide the plan, each once: features, roles, row filter. Fingerprints take them in this order.
    pub fn named(&self, inputs: &features::Inputs, dataset: &source::Dataset) -> Result<Vec<String>> {
        let mut named: Vec<String> = inputs.vectors.iter().chain(&inputs.table).cloned().collect();
        named.extend(self.roles().into_iter().map(|(_, name)| name.to_string()));
        if let Some(sql) = &self.source.filter {
            named.extend(dataset.filter_columns(sql)?);
        }
        let mut seen = BTreeSet::new();
        named.retain(|name| seen.insert(name.clone()));
        Ok(named)
    }

    /// Finds settings that contradict each other or are out of range, before any data is read; returns warnings.
    pub fn check(&self) -> Result<Vec<String>> {
        self.modalities.estimator.check()?;
        self.check_stored()
    }

    /// The same of a plan's settings: its estimator may be retired.
    pub fn check_stored(&self) -> Result<Vec<String>> {
        use modalities::EstimatorSpec::Column;
        let m = &self.modalities;
        let contradiction = |flag: &str, reason: &str, help: &str| Err(Error::config(flag, reason, help));
        match (m.estimator, m.count, &m.column) {
            (Column, _, None) => {
                return contradiction(
                    "--estimator column",
                    "needs --modality-column, the column whose values are the modalities",
                    "add --modality-column NAME, or leave --estimator out to have the modalities counted",
                );
            }
            (e, _, Some(_)) if e != Column => {
                return contradiction(
                    "--modality-column",
                    "contradicts --estimator: only the estimator `column` reads modalities from a column",
                    "leave --estimator out, or say --estimator column",
                );
            }
            (e, Some(_), _) if !e.takes_count() => {
                return contradiction(
                    "--modalities",
                    &format!("contradicts --estimator: `{}` takes no fixed number of modalities", e.name()),
                    "leave --estimator out, or say --estimator kmeans",
                );
            }
            (_, Some(0), _) => {
                return contradiction("--modalities", "is 0, expected at least 1", "");
            }
            _ => {}
        }
        if m.criterion.is_some() && !m.estimator.takes_criterion() {
            return contradiction(
                "--criterion",
                &format!(
                    "contradicts --estimator: `{}` does not choose among numbers of cells",
                    m.estimator.name()
                ),
                "leave --estimator out, or say --estimator kmeans",
            );
        }
        if m.criterion.is_some() && m.count.is_some() {
            return contradiction(
                "--criterion",
                "contradicts --modalities: there is nothing to choose",
                "leave one of them out",
            );
        }
        let f = &self.features;
        for (flag, given) in
            [("--max-seq-length", f.max_seq_length.is_some()), ("features.encoder", f.encoder.is_some())]
        {
            if given && f.encode.is_none() {
                return contradiction(
                    flag,
                    "is of an encoder, and nothing is encoded",
                    "name the column with --encode and the model with --encoder",
                );
            }
        }
        if m.resolution < 100 {
            return contradiction(
                "--resolution",
                &format!("is {}, expected at least 100 rows", m.resolution),
                "the default, 10000, suits most datasets",
            );
        }
        self.batch_size.check()?;
        sizes::check(&self.batch_size.schedule, self.batches.train_epochs)?;
        self.strata.check()?;
        self.batches.check()?;
        self.splits.check(self.batches.holdout)?;
        if self.splits.by_label() && self.source.label.is_none() {
            return contradiction(
                "splits.by",
                "is label, and the plan has none",
                "name it with --label, or another column with --split-by",
            );
        }
        if self.splits.kind().is_some_and(splits::Kind::folds) && !self.batch_size.schedule.is_empty() {
            return contradiction(
                "splits.folds",
                "contradicts batch_size.schedule: lengths are of all rows, not of those without a fold",
                "leave one of them out",
            );
        }
        if self.splits.kind().is_some_and(splits::Kind::folds) && !self.locality.is_global() {
            return contradiction(
                "splits.folds",
                "contradicts locality.kind = \"local\": rounds of what is read together are made for all rows, not for those of a fold",
                "leave one of them out",
            );
        }
        self.locality.check(&self.batches, &self.batch_size)?;
        self.batches.chunk.check(&self.batch_size)?;
        if let Some(rows) = self.batches.rows_per_label {
            for (key, given) in [
                ("batches.chunk", !self.batches.chunk.is_row()),
                ("batches.no_duplicates", !self.batches.no_duplicates.is_empty()),
                ("batches.allocation", self.batches.allocation != allocation::Allocation::Proportional),
                ("batch_size.schedule", !self.batch_size.schedule.is_empty()),
            ] {
                if given {
                    return contradiction(key, "contradicts batches.rows_per_label", "leave one of them out");
                }
            }
            if self.strata.column().is_none() || self.strata.inside_modalities() {
                return contradiction(
                    "batches.rows_per_label",
                    "needs strata.by, the column that has the labels",
                    "add --stratify-by COLUMN, or --label COLUMN",
                );
            }
            labels::check(rows, &self.batch_size)?;
        }
        if self.chunk() > 1 && self.scores.modality_share.is_some() {
            return contradiction(
                "scores.modality_share",
                "contradicts batches.chunk and batches.rows_per_label: such batches are not stratified, and count by their rows",
                "leave one of them out",
            );
        }
        self.scores.check()?;
        self.weights.check()
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// A config file and the line in it.
    File(String, usize),
    /// An environment variable.
    Env(String),
    Flag(String),
    /// A keyword argument of a function.
    Argument(String),
    /// Follows from another setting.
    Implied(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::File(path, line) => write!(f, "{path}:{line}"),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
            Origin::Argument(name) => write!(f, "argument {name}"),
            Origin::Implied(by) => write!(f, "implied by {by}"),
        }
    }
}

/// Some settings: dotted key ("batch_size.size") to its value and where that comes from.
pub type Layer = BTreeMap<String, (Value, Origin)>;

/// All layers put together.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Config,
    pub run: Run,
    pub check: Check,
    /// Every key there is.
    pub values: Layer,
}

impl Settings {
    /// Puts `layers` over the defaults, later ones winning, and checks the result. An unknown key or a value of the
    /// wrong kind is an error that names the key and where it was set.
    pub fn new(layers: &[Layer]) -> Result<Settings> {
        let mut tree = serde_json::to_value(Config::default()).expect("a config of plain values");
        tree["run"] = serde_json::to_value(Run::default()).expect("a run of plain values");
        tree["check"] = serde_json::to_value(Check::default()).expect("thresholds are plain values");
        // plan.json leaves these keys out while they are empty.
        tree["batches"]["shares"] = Value::Array(Vec::new());
        tree["batches"]["chunk"] = 1.into();
        tree["batches"]["rows_per_label"] = Value::Null;
        tree["batches"]["no_duplicates"] = Value::Array(Vec::new());
        tree["batches"]["train_epochs"] = Value::Null;
        tree["batch_size"]["schedule"] = Value::Array(Vec::new());
        tree["splits"] = serde_json::to_value(splits::Params::default()).expect("plain values");
        tree["locality"] = serde_json::to_value(locality::Params::default()).expect("plain values");
        tree["modalities"]["criterion"] = Value::Null;
        tree["modalities"]["names"] = true.into();
        for key in ["as", "encode", "encoder", "max_seq_length"] {
            tree["features"][key] = Value::Null;
        }
        let mut values: Layer = leaves(&tree).into_iter().map(|(k, v)| (k, (v, Origin::Default))).collect();
        for (key, (value, origin)) in layers.iter().flatten() {
            let Some(slot) = values.get_mut(key) else { return Err(unknown(key, origin, &values)) };
            *slot = (value.clone(), origin.clone());
        }
        imply(&mut values);
        imply_labels(&mut values);
        let (config, run, check) = build(&values).map_err(|e| culprit(&values).unwrap_or(e))?;
        config.check().and_then(|_| check.check()).map_err(|e| with_origin(e, &values))?;
        Ok(Settings { config, run, check, values })
    }
}

/// Adds to a complaint about a key where that key was set.
fn with_origin(error: Error, values: &Layer) -> Error {
    match error {
        Error::Config { key, reason, help } => match values.get(&key) {
            Some((_, origin)) if *origin != Origin::Default => {
                Error::config(format!("{key} ({origin})"), reason, help)
            }
            _ => Error::config(key, reason, help),
        },
        other => other,
    }
}

/// A setting that makes sense with one choice only makes that choice, unless another was made.
fn imply(values: &mut Layer) {
    for (key, choice, chosen) in [
        ("modalities.count", "modalities.estimator", "kmeans"),
        ("modalities.column", "modalities.estimator", "column"),
        ("modalities.criterion", "modalities.estimator", "kmeans"),
        ("batches.shares", "batches.allocation", "shares"),
        ("batches.tau", "batches.allocation", "tau"),
    ] {
        let by = match &values[key] {
            (value, origin) if !value.is_null() && *origin != Origin::Default => format!("{key} ({origin})"),
            _ => continue,
        };
        let slot = values.get_mut(choice).expect("a key of Config");
        if slot.1 == Origin::Default {
            *slot = (chosen.into(), Origin::Implied(by));
        }
    }
}

/// Batches of rows per label are stratified by the label, unless another column is named.
fn imply_labels(values: &mut Layer) {
    let (rows, label) = (&values["batches.rows_per_label"], values["source.label"].0.clone());
    let by = format!("batches.rows_per_label ({})", rows.1);
    let wanted = !rows.0.is_null() && !label.is_null();
    let slot = values.get_mut("strata.by").expect("a key of Config");
    if wanted && slot.1 == Origin::Default {
        *slot = (label, Origin::Implied(by));
    }
}

fn build(values: &Layer) -> Result<(Config, Run, Check)> {
    let mut tree = Map::new();
    for (key, (value, _)) in values {
        let mut table = &mut tree;
        let mut path = key.split('.').peekable();
        while let Some(name) = path.next() {
            if path.peek().is_none() {
                table.insert(name.into(), value.clone());
                break;
            }
            let inner = table.entry(name).or_insert_with(|| Value::Object(Map::new()));
            table = inner.as_object_mut().expect("no key is the beginning of another");
        }
    }
    let run = tree.remove("run").unwrap_or_default();
    let check = tree.remove("check").unwrap_or_default();
    let wrong = |e: serde_json::Error| Error::config("config", e.to_string(), "");
    Ok((
        serde_json::from_value(Value::Object(tree)).map_err(wrong)?,
        serde_json::from_value(run).map_err(wrong)?,
        serde_json::from_value(check).map_err(wrong)?,
    ))
}

/// serde does not say which key it stumbled over: try each value alone over the defaults.
fn culprit(values: &Layer) -> Option<Error> {
    let defaults = Settings::new(&[]).ok()?.values;
    values.iter().filter(|(_, (_, origin))| *origin != Origin::Default).find_map(|(key, given)| {
        let mut alone = defaults.clone();
        alone.insert(key.clone(), given.clone());
        match build(&alone) {
            Err(Error::Config { reason, .. }) => Some(Error::config(
                format!("{key} ({})", given.1),
                format!("{} does not fit: {reason}", given.0),
                "see `batchwright plan --help` for what each setting may be",
            )),
            _ => None,
        }
    })
}

fn unknown(key: &str, origin: &Origin, known: &Layer) -> Error {
    let table = |k: &str| k.rsplit_once('.').map(|(t, _)| t.to_string()).unwrap_or_default();
    // The same last word in another table is a better guess than a similar word.
    let last = key.rsplit('.').next().unwrap_or(key);
    let near = known
        .keys()
        .map(String::as_str)
        .find(|k| k.rsplit('.').next() == Some(last))
        .or_else(|| text::nearest(&key.replace('-', "_"), known.keys().map(String::as_str)))
        .map_or(String::new(), |k| format!("did you mean `{k}`? "));
    let here: Vec<&str> =
        known.keys().filter(|k| table(k) == table(key)).map(|k| k.rsplit('.').next().unwrap_or(k)).collect();
    let list = match (here.is_empty(), table(key).as_str()) {
        (true, _) => "`batchwright config show` lists every key".into(),
        (false, "") => format!("keys outside of tables: {}", here.join(", ")),
        (false, t) => format!("keys of [{t}]: {}", here.join(", ")),
    };
    Error::config(format!("{key} ({origin})"), "is not a setting of batchwright", near + &list)
}

/// All values of a tree by their dotted key.
pub fn leaves(tree: &Value) -> Vec<(String, Value)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(table) => {
                for (name, inner) in table {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&key, inner, out);
                }
            }
            leaf => out.push((prefix.to_string(), leaf.clone())),
        }
    }
    let mut out = Vec::new();
    walk("", tree, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(origin: Origin, values: &[(&str, Value)]) -> Layer {
        values.iter().map(|(k, v)| (k.to_string(), (v.clone(), origin.clone()))).collect()
    }

    fn flags(values: &[(&str, Value)]) -> Layer {
        layer(Origin::Flag("--x".into()), values)
    }

    #[test]
    fn defaults_are_the_default_config() {
        let s = Settings::new(&[]).unwrap();
        assert_eq!((s.config, s.run), (Config::default(), Run::default()));
        assert!(s.values.values().all(|(_, o)| *o == Origin::Default));
    }

    #[test]
    fn later_layers_win() {
        let file =
            layer(Origin::File("f.toml".into(), 3), &[("seed", 1.into()), ("run.memory", "1GiB".into())]);
        let s = Settings::new(&[file, flags(&[("seed", 2.into())])]).unwrap();
        assert_eq!((s.config.seed, s.run.memory), (2, 1 << 30));
        assert_eq!(s.values["seed"].1.to_string(), "flag --x");
        assert_eq!(s.values["run.memory"].1.to_string(), "f.toml:3");
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        let file = |key| layer(Origin::File("f.toml".into(), 7), &[(key, 1.into())]);
        let e = Settings::new(&[file("batch_size.sise")]).unwrap_err();
        assert!(e.to_string().contains("batch_size.sise (f.toml:7)"), "{e}");
        assert!(e.help().contains("`batch_size.size`"), "{}", e.help());
        let e = Settings::new(&[file("epochs")]).unwrap_err();
        assert!(e.help().contains("`batches.epochs`"), "{}", e.help());
        let e = Settings::new(&[file("zzzzzzzzzzz.q")]).unwrap_err();
        assert!(!e.help().contains("did you mean"), "{}", e.help());
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        let e = Settings::new(&[flags(&[("seed", "many".into()), ("modalities.resolution", 500.into())])]);
        assert!(e.unwrap_err().to_string().starts_with("seed (flag --x)"));
    }

    #[test]
    fn settings_imply_and_contradict() {
        use modalities::EstimatorSpec::{Column, Kmeans};
        let s = Settings::new(&[flags(&[("modalities.count", 5.into())])]).unwrap();
        assert_eq!(s.config.modalities.estimator, Kmeans);
        assert!(s.values["modalities.estimator"].1.to_string().starts_with("implied by modalities.count"));
        let s = Settings::new(&[flags(&[("modalities.column", "k".into())])]).unwrap();
        assert_eq!(s.config.modalities.estimator, Column);
        let s = Settings::new(&[flags(&[("modalities.criterion", "gap".into())])]).unwrap();
        assert_eq!(s.config.modalities.estimator, Kmeans);
        let labels = [
            ("batches.rows_per_label", 4.into()),
            ("source.label", "person".into()),
            ("batch_size.size", 48.into()),
        ];
        let s = Settings::new(&[flags(&labels)]).unwrap();
        assert_eq!((s.config.strata.by.as_str(), s.config.chunk()), ("person", 4));
        assert!(s.values["strata.by"].1.to_string().starts_with("implied by batches.rows_per_label"));
        let by = [&labels[..], &[("strata.by", "city".into())]].concat();
        assert_eq!(Settings::new(&[flags(&by)]).unwrap().config.strata.by, "city");
        let s = Settings::new(&[flags(&[("modalities.estimator", "kmeans".into())])]).unwrap();
        assert!(s.config.modalities.counted());
        for bad in [
            &[("modalities.estimator", "column".into())][..],
            &[("modalities.estimator", "hdbscan".into()), ("modalities.count", 5.into())],
            &[("modalities.estimator", "hdbscan".into()), ("modalities.criterion", "gap".into())],
            &[("modalities.criterion", "gap".into()), ("modalities.count", 5.into())],
            &[("modalities.criterion", "guess".into())],
            &[("modalities.estimator", "hdbscan".into()), ("modalities.column", "k".into())],
            &[("modalities.count", 0.into())],
            &[("modalities.estimator", "rim".into())],
        ] {
            let e = Settings::new(&[flags(bad)]).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{bad:?}: {e}");
        }
    }
}
