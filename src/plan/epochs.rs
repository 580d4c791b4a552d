//! One epoch as a file: written by `plan` for the first epochs, and the same bytes computed from the plan for any other.

use std::path::Path;

use crate::batches::epochs::{Epochs, Record};
use crate::kit::error::Result;
use crate::kit::ids::RowType;
use crate::kit::progress::Progress;

use crate::format::batches::{BatchRecord, BatchesWriter};
use crate::format::manifest::FileEntry;
use crate::format::samples::Samples;

/// Writes `batches/size-<B>/epoch-<e>.arrow` below `root`. `samples` gives the centralities; None: weights are off.
/// `advance` is told the rows done. O(rows), memory of two chunks of batches and a record batch.
#[expect(clippy::too_many_arguments, reason = "called in two places, where all of it is at hand")]
pub fn write(
    root: &Path,
    epochs: &Epochs<'_>,
    batch_size: u64,
    epoch: u32,
    samples: Option<&Samples>,
    row_type: RowType,
    progress: &Progress,
    mut advance: impl FnMut(u64) -> Result<()> + Send,
) -> Result<FileEntry> {
    let weights = epochs.loss_weights();
    let size = batch_size as u32;
    let mut writer =
        BatchesWriter::create(root, size, epoch, row_type, samples.is_some(), weights.is_some())?;
    let looked_up = |record: Record| {
        let centrality = samples.map(|samples| {
            let of = |&row: &u64| samples.centrality(row).expect("a dealt row is planned");
            record.rows.iter().map(of).collect::<Vec<f32>>()
        });
        let of = |weights: &Vec<f64>| record.stratum.iter().map(|&h| weights[h as usize] as f32).collect();
        let loss_weight: Option<Vec<f32>> = weights.as_ref().map(of);
        (record, centrality, loss_weight)
    };
    epochs.epoch(epoch, batch_size).scan(
        progress,
        looked_up,
        |(record, centrality, loss_weight), place| {
            writer.push(&BatchRecord {
                batch: record.index as u32,
                rows: &record.rows,
                centrality: centrality.as_deref(),
                loss_weight: loss_weight.as_deref(),
                n_eff: record.n_eff as f32,
                x: record.x as f32,
                score: record.score as f32,
                update: place.update,
                coefficient: place.coefficient as f32,
                ends_update: place.ends_update,
            })?;
            advance(record.rows.len() as u64)
        },
    )?;
    writer.finish()
}
