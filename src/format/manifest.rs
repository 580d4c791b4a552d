//! `plan.json` ([`Manifest`]), the list of contents that makes a directory a plan, and `run.json` ([`RunInfo`]),
//! everything that may differ between equal runs.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kit::error::{Error, Result};
use crate::kit::ids::RowType;

use super::{BASE, FORMAT, Kind, json};

pub const MANIFEST: &str = "plan.json";
pub const RUN: &str = "run.json";

/// plan.json. Readers ignore keys that they do not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Version of the format, "major.minor".
    pub format: String,
    pub tool: Tool,
    /// The plan's id: 64 hex digits, see [`Manifest::id`]. Equal rows, config and seed give equal ids.
    pub plan: String,
    /// Rows of the dataset.
    pub rows: u64,
    /// Rows that are not left out by `--where` or `--invalid drop`.
    pub rows_planned: u64,
    /// How row numbers are stored.
    pub row_type: RowType,
    /// Dimensions of the feature space.
    pub dims: u32,
    /// Number of modalities, M.
    pub modalities: u32,
    /// Number of strata.
    pub strata: u32,
    /// The recommended batch size, in rows.
    pub batch_size: u32,
    /// `batch_size` over `modalities`.
    pub samples_per_modality: f64,
    /// Share of the rows whose modalities get at least one row in every batch, in [0, 1].
    pub coverage: f64,
    /// Information that an update needs, in effective samples.
    pub information_threshold: f64,
    /// Share of the gradient's variance that the score groups explain: the `a` of n_eff = n / ((1 - a) + a x).
    pub modality_share: ModalityShare,
    /// Score group of every stratum: what batches are scored by.
    pub score_groups: Vec<u32>,
    /// Epochs written for every candidate.
    pub epochs: u32,
    pub seed: u64,
    /// The (batch size, accumulation) settings to choose from, by ascending batch size.
    pub candidates: Vec<Candidate>,
    pub estimator: Estimator,
    /// Predicted variance ratio; null if it cannot be predicted.
    pub gain: Option<Gain>,
    /// Of batches that are dealt in chunks: mean squared distance of two rows of a stratum over that of any two rows, in [0, 1].
    /// Absent where batches are dealt row by row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_distance: Option<f64>,
    /// Of batches of rows per label: what has too few rows. Absent where nobody asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Of batches without duplicates: the keys that rows share, and what of them is left. Absent where nobody asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// Of plans whose batch size changes in training: which size holds when. Absent where one size holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<SizeSchedule>,
    /// How the rows were split. Absent without splits, and with `--holdout` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<Splits>,
    /// The configuration as used, keys sorted, without what cannot change the plan (out, threads, memory, force, verbosity).
    pub config: Value,
    /// All files but plan.json and run.json, sorted by path.
    pub files: Vec<FileEntry>,
    /// The Parquet files of the dataset in row order.
    pub inputs: Vec<InputEntry>,
    /// BLAKE3 of the bytes of plan.json before the line of this key, the last one, 64 hex digits. Absent in format 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// Who wrote the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

impl Tool {
    /// This library.
    pub fn this() -> Self {
        Tool { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModalityShare {
    /// In [0, 0.9].
    pub value: f64,
    /// Where it came from: "label", "given", "default", or "not applicable" to batches that are dealt in chunks.
    pub source: String,
}

/// A (batch size, accumulation) setting to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    pub name: String,
    /// Rows of a batch; a multiple of the smallest candidate's.
    pub batch_size: u32,
    /// Batches that an update takes when all are of equal score.
    pub accumulation: u32,
    /// Path pattern: "batches/size-64/epoch-{epoch}.arrow".
    pub batches: String,
}

/// How the modalities were counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimator {
    pub name: String,
    /// Settings and choices of the fit.
    pub params: BTreeMap<String, Value>,
    /// In [0, 1].
    pub confidence: f64,
    /// 5 and 95 % of M over the fits that were nearly as good.
    pub interval: (u32, u32),
}

/// Expected gradient variance of dealt over shuffled batches, early in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gain {
    /// Variance ratio, in [0, 1]: 1 - the share explained by the strata.
    pub value: f64,
    pub kind: GainKind,
}

/// What the gain was predicted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GainKind {
    /// Label and features.
    Label,
    /// Features alone: an optimistic guess.
    Features,
}

/// Labels that have fewer rows than a batch takes of each, and their rows; nulls are such a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    pub labels: u64,
    pub rows: u64,
}

/// Keys that planned rows share, and how many rows of one meet in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repeats {
    /// Keys that several rows have.
    pub keys: u64,
    /// Rows that have such a key.
    pub rows: u64,
    /// Most rows of a key.
    pub largest: u64,
    /// Most rows of a key in a batch of the smallest size, in epoch 0: 1 is the promise kept.
    pub batch: u64,
    /// The same in a batch of the largest size that is no larger than an epoch.
    pub union: u64,
}

/// Batch sizes that change in training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SizeSchedule {
    /// Epochs of the training. After them the last size stays.
    pub train_epochs: u32,
    /// [share of the training from which, batch size], ascending, the first from "0".
    pub sizes: Vec<(String, u32)>,
    /// Batches of each of these epochs.
    pub steps: Vec<u64>,
}

/// What became of the splits that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Splits {
    /// `shares`, `folds`, `column`, `files`, `time` or `time-folds`.
    pub by: String,
    /// In order: batches are dealt from the first, or with folds from all but one.
    pub splits: Vec<SplitRows>,
    /// Rows that could be planned and are in no split: within the gap, without a time or value, set aside.
    pub aside: u64,
    /// Rows that were kept together. Absent where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<SplitGroups>,
    /// Borders between the tenths of the column of numbers that splits are balanced by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deciles: Vec<f64>,
    /// Of splits by time: the last time of each, as it is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<Option<Value>>,
}

/// A split or fold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitRows {
    pub name: String,
    /// Rows asked for; null: whatever it was given.
    pub wanted: Option<u64>,
    pub rows: u64,
    /// The stratum that is furthest from its share here, and by how many rows; null where strata were not balanced.
    pub worst: Option<(u32, f64)>,
    /// Rows in a group that an earlier split has rows of, too, and rows of this one that were set aside since a later split has; null where splits
    /// are dealt, which parts no group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaks: Option<(u64, u64)>,
}

/// Groups of rows that stay together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitGroups {
    /// Groups of two rows and more, and their rows.
    pub groups: u64,
    pub rows: u64,
    /// Rows of the largest.
    pub largest: u64,
    /// Groups with more rows than the smallest split is to have: (lowest row, rows), the largest first, at most 20.
    pub large: Vec<(u64, u64)>,
}

/// A file of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Relative to the plan, with `/`.
    pub path: String,
    /// The table it holds: the value of `batchwright.kind`.
    pub kind: String,
    pub rows: u64,
    pub bytes: u64,
    /// BLAKE3 of the file, 64 hex digits.
    pub blake3: String,
}

/// A Parquet file of the dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputEntry {
    /// Relative to the deepest common directory of all inputs, with `/`.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// BLAKE3 over the fingerprints of its row groups, 64 hex digits.
    pub fingerprint: String,
}

impl Manifest {
    /// The batch sizes to choose from, ascending.
    pub fn sizes(&self) -> Vec<u64> {
        self.candidates.iter().map(|candidate| candidate.batch_size.into()).collect()
    }

    /// The plan's id: BLAKE3 (hex) of the UTF-8 text
    ///
    /// ```text
    /// format 1.0
    /// config {"batches":{...},...}
    /// file <path> <blake3>
    /// ...
    /// ```
    ///
    /// with a line feed after every line, the config as [`canonical_json`], and one `file` line for every entry of `files`
    /// but `sources.arrow`, sorted by path in byte order. `sources.arrow` is left out so that the same rows in other row
    /// groups give the same plan.
    pub fn id(&self) -> String {
        let mut text = format!("format {BASE}\nconfig {}\n", canonical_json(&self.config));
        let mut files: Vec<_> = self.files.iter().filter(|f| f.path != Kind::Sources.path()).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in files {
            text += &format!("file {} {}\n", file.path, file.blake3);
        }
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// Sorts the files and the config's keys, sets the format, the id and the seal. [`super::Staging::commit`] calls it.
    pub fn seal(&mut self) {
        self.format = FORMAT.to_string();
        self.config = sorted(&self.config);
        for value in self.estimator.params.values_mut() {
            *value = sorted(value);
        }
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.plan = self.id();
        self.seal = Some(String::new());
        let text = self.to_json();
        let before = text.strip_suffix(&seal_line("")).expect("the seal is the last key");
        self.seal = Some(blake3::hash(before.as_bytes()).to_hex().to_string());
    }

    /// plan.json: keys in the order of the format, two spaces, a line feed at the end.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// Reads plan.json. The version is looked at first, so that a newer major format says so; then the seal.
    pub fn from_json(text: &str, path: &Path) -> Result<Manifest> {
        let damaged = |reason: &dyn std::fmt::Display| {
            Error::plan(
                path,
                format!("is damaged: {reason}"),
                "copy it again from where it is whole, or write the plan again (`batchwright plan ... --force`)",
            )
        };
        let value = json::read(text).map_err(|e| damaged(&e))?;
        if value.get("plan").is_none_or(|p| !p.is_string()) {
            return Err(Error::plan(
                path,
                "is not the plan.json of batchwright",
                "name the directory that `batchwright plan` wrote",
            ));
        }
        let minor = super::check_format(value.get("format").and_then(Value::as_str))
            .map_err(|reason| Error::plan(path, reason, "update batchwright, or write the plan again"))?;
        check_seal(minor, text, value.get("seal")).map_err(|reason| damaged(&reason))?;
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| damaged(&e))?;
        manifest.check().map_err(|reason| damaged(&reason))?;
        Ok(manifest)
    }

    /// Err(reason) if its own numbers contradict each other or a path leads out of the plan.
    fn check(&self) -> Result<(), String> {
        if self.rows_planned > self.rows {
            return Err(format!("{} planned rows of {}", self.rows_planned, self.rows));
        }
        if self.score_groups.len() != self.strata as usize {
            return Err(format!("{} score groups for {} strata", self.score_groups.len(), self.strata));
        }
        if let Some(group) = self.score_groups.iter().find(|&&group| group >= self.strata) {
            return Err(format!("score group {group} of {} strata", self.strata));
        }
        if self.row_type == RowType::U32 && self.rows > 1 << 32 {
            return Err(format!("{} rows do not fit UInt32", self.rows));
        }
        if self.inputs.iter().try_fold(0u64, |sum, i| sum.checked_add(i.rows)) != Some(self.rows) {
            return Err(format!("the inputs do not have {} rows in all", self.rows));
        }
        for pair in self.files.windows(2) {
            if pair[0].path >= pair[1].path {
                return Err(format!("files are not sorted at {:?}", pair[1].path));
            }
        }
        for file in &self.files {
            let inside = Path::new(&file.path).components().all(|c| matches!(c, Component::Normal(_)));
            if !inside || file.path.is_empty() {
                return Err(format!("{:?} leads out of the plan", file.path));
            }
        }
        for candidate in &self.candidates {
            if candidate.batch_size == 0 || !candidate.batches.contains("{epoch}") {
                return Err(format!("candidate {:?} has no batches", candidate.name));
            }
        }
        if self.candidate(self.batch_size).is_none() {
            return Err(format!("batch size {} is none of the candidates", self.batch_size));
        }
        // serde_json reads no NaN; too large a number is infinite.
        if !(self.information_threshold > 0.0 && self.information_threshold.is_finite()) {
            return Err(format!("the information threshold is {}", self.information_threshold));
        }
        if !(0.0..=0.9).contains(&self.modality_share.value) {
            return Err(format!("the modality share is {}", self.modality_share.value));
        }
        Ok(())
    }

    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        self.files.binary_search_by(|f| f.path.as_str().cmp(path)).ok().map(|i| &self.files[i])
    }

    pub fn candidate(&self, batch_size: u32) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.batch_size == batch_size)
    }
}

/// run.json: times, host facts, threads. Not part of `files` nor of the plan's id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunInfo {
    /// When the run began, in seconds since 1970-01-01 UTC.
    pub started: Option<u64>,
    /// Duration of the whole run in seconds.
    pub seconds: f64,
    /// Duration of every stage in seconds, in order.
    pub stages: Vec<StageTime>,
    pub threads: u32,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// Peak resident memory in bytes.
    pub peak_memory: Option<u64>,
    /// The inputs as they were given.
    pub inputs: Vec<String>,
    /// The deepest common directory of all inputs: what `path` of `inputs` and `file` of sources.arrow are relative to.
    pub root: String,
    /// Facts about the machine: os, arch, simd, ...
    pub host: BTreeMap<String, String>,
    /// Of every input, what tells versions of it apart: by its path in `inputs` of plan.json. `check --quick` and `update`
    /// trust a file that is still as noted here.
    pub files: BTreeMap<String, FileState>,
    /// The plan that this one was made from by `update`.
    pub made_from: Option<MadeFrom>,
}

/// What tells versions of a file apart without reading its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileState {
    pub bytes: u64,
    /// Its entity tag in an object store, else when it was last written to; empty where neither is known.
    pub version: String,
    /// BLAKE3 of its Parquet footer, 64 hex digits.
    pub footer: String,
}

/// How a plan was made from an older one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MadeFrom {
    /// Id of the older plan.
    pub plan: String,
    /// "appended" (only new row groups were read), "read anew" (all rows, by the old prototypes) or "refitted".
    pub how: String,
    /// Of every modality the number that it had, null for a new one.
    pub modalities: Vec<Option<u32>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageTime {
    pub stage: String,
    pub seconds: f64,
}

impl RunInfo {
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

/// The last lines of plan.json.
fn seal_line(seal: &str) -> String {
    format!("  \"seal\": \"{seal}\"\n}}\n")
}

/// Err(reason) if plan.json is not as it was written. There is no canonical form: the bytes count.
fn check_seal(minor: u32, text: &str, seal: Option<&Value>) -> Result<(), String> {
    let Some(seal) = seal else {
        return if minor == 0 { Ok(()) } else { Err("it has no seal".into()) };
    };
    if minor == 0 {
        return Err("it has a seal, which plans of format 1.0 have not".into());
    }
    let seal = seal.as_str().unwrap_or_default();
    match text.strip_suffix(&seal_line(seal)) {
        Some(before) if blake3::hash(before.as_bytes()).to_hex().as_str() == seal => Ok(()),
        _ => Err("its seal does not fit: it was changed after it was written".into()),
    }
}

fn to_json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("text keys and numbers are always JSON");
    text.push('\n');
    text
}

/// JSON without spaces, keys of every object sorted by their bytes, text escaped only where JSON demands it, numbers as
/// serde_json prints them (they stand in plan.json the same way).
pub fn canonical_json(value: &Value) -> String {
    serde_json::to_string(&sorted(value)).expect("a JSON value is always JSON")
}

/// The same value with the keys of every object in order, whatever map serde_json was built with.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        Value::Object(map) => {
            let ordered: BTreeMap<&String, Value> = map.iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(ordered.into_iter().map(|(k, v)| (k.clone(), v)).collect())
        }
        other => other.clone(),
    }
}
