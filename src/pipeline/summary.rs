//! What a run tells a person at its end, and before it begins.

use serde::Serialize;

use crate::format::manifest::{Repeats, SizeSchedule, Splits};
use crate::plan::locality::Reading;

/// What a run of [`plan`] did, for a person or a script.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub plan_id: String,
    pub out: String,
    pub rows: u64,
    pub rows_planned: u64,
    pub filtered: u64,
    pub invalid: u64,
    pub held_out: u64,
    pub dims: usize,
    /// (what, text), in order: which columns are features, and why others are not.
    pub columns: Vec<(String, String)>,
    pub modalities: u32,
    pub confidence: f64,
    pub interval: (u32, u32),
    /// False: the data has no clear number of modalities.
    pub clear: bool,
    pub estimator: String,
    /// Settings and choices of the fit, as in plan.json.
    pub details: std::collections::BTreeMap<String, serde_json::Value>,
    /// False: the number, or the column that holds the modalities, was given.
    pub counted: bool,
    /// (name, rows, share), up to five.
    pub largest: Vec<(String, u64, f64)>,
    /// (name, rows, share), up to three.
    pub rarest: Vec<(String, u64, f64)>,
    pub strata: u32,
    pub batch_size: u64,
    pub samples_per_modality: f64,
    pub batch_size_why: String,
    /// Batch size that random batches would need for the same coverage.
    pub random_batch: u64,
    /// Share of rows whose modality is in every batch.
    pub covered: f64,
    pub candidates: Vec<u64>,
    pub epochs: u32,
    pub batches_per_epoch: u64,
    /// How batches in the local order are read.
    pub reading: Option<Reading>,
    /// (row groups, bytes) of data too large to keep, whose rows are read at random: a plan in the global order.
    pub at_random: Option<(u64, u64)>,
    /// Predicted gradient variance over that of random batches; true: predicted from the label.
    pub gain: Option<(f64, bool)>,
    /// Neighbouring rows that come into a batch together, 1: none; and then the mean squared distance of two rows of a stratum over
    /// that of any two.
    pub chunk: u64,
    pub run_distance: Option<f64>,
    /// Rows of an epoch of batches that have `chunk` rows of each of their labels.
    pub per_label: Option<u64>,
    /// Of batches without duplicates: the keys that rows share, and what of them is left.
    pub repeats: Option<Repeats>,
    /// Of plans whose batch size changes in training.
    pub schedule: Option<SizeSchedule>,
    /// None: without splits, or with held-out rows alone.
    pub splits: Option<Splits>,
    pub information_threshold: f64,
    pub files: usize,
    pub bytes: u64,
    pub seconds: f64,
    /// (stage, seconds) in order.
    pub stages: Vec<(String, f64)>,
    pub peak_memory: u64,
    pub warnings: Vec<String>,
}

/// What a run of [`plan`] would read, write and need.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Estimate {
    pub files: usize,
    pub rows: u64,
    pub dims: usize,
    pub bytes_read: u64,
    /// The plan and the working files beside it.
    pub bytes_written: u64,
    /// Of these, the working files: gone at the end.
    pub bytes_working: u64,
    pub memory_needed: u64,
    pub memory_allowed: u64,
    pub disk_free: u64,
    pub fits: bool,
    /// (what, text), in order.
    pub lines: Vec<(String, String)>,
}

/// The result of counting only.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counted {
    pub modalities: u32,
    pub confidence: f64,
    pub interval: (u32, u32),
    pub clear: bool,
    pub estimator: String,
    /// False: the number, or the column that holds the modalities, was given.
    pub counted: bool,
    pub resolution: u32,
    pub sample_rows: u64,
    /// As in [`Summary`].
    pub columns: Vec<(String, String)>,
    /// Sample rows of every modality, descending.
    pub sizes: Vec<u64>,
    pub details: serde_json::Map<String, serde_json::Value>,
    /// (k, criterion, value).
    pub curve: Vec<(u32, String, f64)>,
    pub seconds: f64,
}

/// What [`compare`](super::compare) found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The estimator whose labels the others are compared with.
    pub default: String,
    pub resolution: u32,
    pub sample_rows: u64,
    /// As in [`Summary`].
    pub columns: Vec<(String, String)>,
    pub estimators: Vec<Compared>,
    pub seconds: f64,
}

/// One estimator of a comparison.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Compared {
    pub estimator: String,
    /// None: it failed.
    #[serde(flatten)]
    pub answer: Option<Answer>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Of the fit alone.
    pub seconds: f64,
}

/// The number an estimator found, and how sure it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    pub modalities: u32,
    pub interval: (u32, u32),
    pub confidence: f64,
    /// False: no clear number of modalities.
    pub clear: bool,
    /// Share of the sample's rows in the largest modality.
    pub largest: f64,
    /// Adjusted Rand index with the default's labels.
    pub agreement: Option<f64>,
}
