//! What a run tells a person at its end, and before it begins.

use serde::Serialize;

/// A modality in a summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    pub modality: u32,
    /// What sets it apart, from the profile; may be empty.
    pub name: String,
    pub rows: u64,
    pub share: f64,
}

/// What [`plan`](super::plan) did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub plan: String,
    pub out: String,
    pub rows: u64,
    pub rows_planned: u64,
    pub filtered: u64,
    pub invalid: u64,
    pub held_out: u64,
    pub dims: u64,
    pub modalities: u32,
    pub confidence: f64,
    pub interval: (u32, u32),
    /// False where no reproducible modes were found: M is then a convention, and fine strata carry the batches.
    pub clear: bool,
    pub estimator: String,
    /// Up to five, by rows.
    pub largest: Vec<Named>,
    /// Up to three others, by rows ascending.
    pub rarest: Vec<Named>,
    pub strata: u64,
    pub batch_size: u64,
    pub samples_per_modality: f64,
    pub batch_size_why: String,
    /// Smallest unstratified batch that holds every modality with probability 0.99.
    pub random_batch: u64,
    /// Share of the rows whose modality has at least one row in every batch.
    pub covered: f64,
    pub candidates: Vec<u64>,
    pub epochs: u64,
    pub batches_per_epoch: u64,
    /// Predicted early gradient variance of a planned batch relative to a shuffled one.
    pub gain: Option<f64>,
    /// Whether `gain` used the label; without one it is only an optimistic guess.
    pub gain_from_label: bool,
    pub information_threshold: f64,
    pub files: u64,
    pub bytes: u64,
    pub seconds: f64,
    /// (stage, seconds)
    pub stages: Vec<(String, f64)>,
    /// Largest resident set of this process in bytes, 0 where the system does not tell.
    pub peak_memory: u64,
    pub warnings: Vec<String>,
}

/// What [`plan`](super::plan) would need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub files: u64,
    pub row_groups: u64,
    pub rows: u64,
    pub dims: u64,
    pub bytes_read: u64,
    /// Bytes of the plan.
    pub bytes_written: u64,
    /// Bytes of working files beside it, gone at the end.
    pub bytes_scratch: u64,
    pub memory_needed: u64,
    pub memory_limit: u64,
    pub disk_free: u64,
    pub fits: bool,
}

/// What [`modalities`](super::modalities) found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counted {
    pub modalities: u32,
    pub confidence: f64,
    pub interval: (u32, u32),
    pub clear: bool,
    pub estimator: String,
    pub resolution: u32,
    pub rows: u64,
    pub sample_rows: u64,
    /// Sample rows of every modality.
    pub sizes: Vec<u64>,
    pub details: serde_json::Map<String, serde_json::Value>,
    /// (k, criterion, value)
    pub curve: Vec<(u32, String, f64)>,
    pub seconds: f64,
}
