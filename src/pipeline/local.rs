//! The local order of a plan: its streams, its window, and the units that are read at a time.

use crate::batches::units::{count, units_of};
use crate::config::Config;
use crate::format::samples::Samples;
use crate::format::units::{Locality, Units};
use crate::kit::error::Result;
use crate::source::Dataset;

/// Rows between the places where a row group that lists no pages may be cut.
const STEP: u64 = 64;

/// Cuts the dataset into units and counts them. `base`: rows of the smallest batch; `groups`: score group of every stratum.
/// O(rows).
///
/// # Errors
/// If batch size, streams and ranks do not fit each other, or the memory of the window holds none.
pub fn lay(
    dataset: &Dataset,
    config: &Config,
    base: u64,
    groups: &[u32],
    samples: &Samples,
) -> Result<(Units, Locality)> {
    let params = &config.locality;
    let streams = params.streams(base, config.batch_size.world_size)?;
    let columns = match &params.read[..] {
        [] => dataset.columns().iter().map(|column| column.name.clone()).collect(),
        named => named.to_vec(),
    };
    let row_bytes = dataset.decoded_row_bytes(&columns)?;
    let borders = dataset.page_starts(&columns, STEP)?;
    let row_groups: Vec<(u64, u64)> =
        dataset.row_groups().iter().map(|group| (group.first_row, group.rows)).collect();
    let units = |unit_rows| units_of(&row_groups, unit_rows, &borders);
    let window =
        params.window(row_bytes, streams, base / streams, |unit_rows| units(unit_rows).0.len() as u64)?;
    let (first_row, rows) = units(window.unit_rows);
    let footers = dataset.file_states()?.into_iter().map(|state| state.footer).collect();
    let local = Locality { streams, window: window.units, unit_rows: window.unit_rows, row_bytes, footers };
    Ok((count(&first_row, &rows, groups, samples), local))
}
