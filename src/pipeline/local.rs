//! The local order of a plan: its streams, its window, and the units that are read at a time.

use crate::batches::epochs::Epochs;
use crate::batches::local::LocalOrder;
use crate::batches::units::{count, units_of};
use crate::config::{Config, Run};
use crate::format::samples::Samples;
use crate::format::units::{Locality, Units};
use crate::kit::error::Result;
use crate::plan::locality::{DRIFT, Reading};
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
    let local = Locality {
        streams,
        window: window.units,
        unit_rows: window.unit_rows,
        row_bytes,
        footers,
        ..Locality::default()
    };
    Ok((count(&first_row, &rows, groups, samples), local))
}

/// Of a plan whose rounds are far from the data's mix: what would help.
pub fn warning(epochs: &Epochs<'_>, local: &Locality, reading: &Reading) -> Option<String> {
    let drift = local.evenness.drift;
    if drift <= DRIFT {
        return None;
    }
    let order = epochs.local?;
    let wider = |window: &u64| {
        let epochs = Epochs { local: Some(LocalOrder { window: *window, ..order }), ..*epochs };
        let epoch = epochs.epoch(0, epochs.base);
        epoch.local().is_some_and(|local| local.drift(epochs.score_groups) <= DRIFT)
    };
    let rounds = local.evenness.rounds;
    let windows = (1..).map(|i| local.window << i).take_while(|&window| window < 2 * local.window * rounds);
    let help = match windows.into_iter().find(wider) {
        Some(window) => {
            let bytes = reading.round_bytes / local.window * window;
            format!(
                "--window {window} brings it below {DRIFT} (about {} MiB a round, decoded)",
                bytes.div_ceil(1 << 20)
            )
        }
        None => "no window does, so the global order (--locality global) is the way".into(),
    };
    Some(format!(
        "the rounds of the local order hold other mixes than the data: drift {drift:.2} (0: as the global order, 1: as random \
         batches); {help}"
    ))
}

/// (row groups, bytes) of the data of a plan in the global order, if they do not fit into a quarter of the memory.
pub fn at_random(dataset: &Dataset, reading: &Option<Reading>, run: &Run) -> Option<(u64, u64)> {
    let bytes = dataset.files().iter().map(|file| file.bytes).sum();
    (reading.is_none() && bytes > run.memory / 4).then_some((dataset.row_groups().len() as u64, bytes))
}
