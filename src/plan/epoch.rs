//! One epoch as a file: written by `plan` for the first epochs, and the same bytes computed from the plan for any other.

use std::path::Path;

use crate::epochs::Epochs;
use crate::error::Result;
use crate::ids::RowType;
use crate::progress::Progress;

use super::batches::{BatchRecord, BatchesWriter};
use super::manifest::FileEntry;
use super::samples::Samples;

/// Writes `batches/size-<B>/epoch-<e>.arrow` below `root`. `samples` gives the centralities; None: weights are off.
/// `advance` is told the rows done. O(rows), memory of one chunk of batches.
#[expect(clippy::too_many_arguments, reason = "what a file of batches is made of, and who is told")]
pub fn write(
    root: &Path,
    epochs: &Epochs<'_>,
    batch_size: u64,
    epoch: u32,
    samples: Option<&Samples>,
    row_type: RowType,
    progress: &Progress,
    mut advance: impl FnMut(u64) -> Result<()>,
) -> Result<FileEntry> {
    let weights = epochs.loss_weights();
    let size = batch_size as u32;
    let mut writer =
        BatchesWriter::create(root, size, epoch, row_type, samples.is_some(), weights.is_some())?;
    let (mut centrality, mut loss_weight) = (Vec::new(), Vec::new());
    epochs.epoch(epoch, batch_size).scan(progress, |record| {
        if let Some(samples) = samples {
            centrality.clear();
            let of = |&row: &u64| samples.centrality(row).expect("a dealt row is planned");
            centrality.extend(record.rows.iter().map(of));
        }
        if let Some(weights) = &weights {
            loss_weight.clear();
            loss_weight.extend(record.stratum.iter().map(|&h| weights[h as usize] as f32));
        }
        writer.push(&BatchRecord {
            batch: record.index as u32,
            rows: &record.rows,
            centrality: samples.is_some().then_some(&centrality),
            loss_weight: weights.is_some().then_some(&loss_weight),
            n_eff: record.n_eff as f32,
            x: record.x as f32,
            score: record.score as f32,
            update: record.update as u32,
            coefficient: record.coefficient as f32,
            ends_update: record.ends_update,
        })?;
        advance(record.rows.len() as u64)
    })?;
    writer.finish()
}
