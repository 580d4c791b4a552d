//! The local order of a plan: its streams, its window, and the units that are read at a time.

use crate::batches::epochs::Epochs;
use crate::batches::local::LocalOrder;
use crate::batches::locality::{self, Window};
use crate::batches::units::{count, units_of};
use crate::config::{Config, Run};
use crate::format::samples::Samples;
use crate::format::units::{Locality, Units};
use crate::kit::error::{Error, Result};
use crate::plan::locality::{DRIFT, Reading};
use crate::source::Dataset;

/// Rows between the places where a row group that lists no pages may be cut.
const STEP: u64 = 64;

/// Bytes of a decoded row of the columns that are read. Where nobody named them, those that cannot be read are not.
fn row_bytes(dataset: &Dataset, params: &locality::Params) -> Result<u64> {
    let bytes = |column: String| match dataset.decoded_row_bytes(&[column]) {
        Err(Error::Input { .. }) if params.read.is_empty() => Ok(0),
        other => other,
    };
    columns(dataset, params).into_iter().map(bytes).sum()
}

/// The columns that training reads.
fn columns(dataset: &Dataset, params: &locality::Params) -> Vec<String> {
    match &params.read[..] {
        [] => dataset.columns().iter().map(|column| column.name.clone()).collect(),
        named => named.to_vec(),
    }
}

/// What a run needs for a local order.
pub struct Needs {
    /// Upper bound of the memory for units, and for dealing `threads` rounds at a time.
    pub memory: u64,
    /// (what, text) for people.
    pub line: (String, String),
}

/// Before anything but footers, and pages of columns of texts and lists, is read; None: a global order. `strata`: at most.
///
/// # Errors
/// If the memory of the window holds none.
pub fn needs(dataset: &Dataset, config: &Config, strata: u64, threads: u64) -> Result<Option<Needs>> {
    let params = &config.locality;
    if params.is_global() {
        return Ok(None);
    }
    let row_bytes = row_bytes(dataset, params)?;
    let streams = params.least_streams(config.batch_size.world_size);
    let Window { units, unit_rows } = params.window(row_bytes, streams, 1, |_| u64::MAX)?;
    let number = dataset.rows() / unit_rows + 2 * dataset.row_groups().len() as u64 + 1;
    let cells = (number * strata.min(unit_rows)).min(dataset.rows());
    let round = (units * streams * unit_rows).min(dataset.rows());
    let counting = number * 800 + cells * 40 + threads * streams * strata * 400;
    // Rows are dealt only where epochs are written: two rounds are kept, one is made.
    let memory = counting + if config.epochs(dataset.rows()) > 0 { round * 40 } else { 0 };
    let text = format!(
        "local order: {row_bytes} bytes a row decoded, up to {units} units of {unit_rows} rows of each of {streams} streams at a time"
    );
    Ok(Some(Needs { memory, line: ("reading".into(), text) }))
}

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
    let columns = columns(dataset, params);
    let row_bytes = row_bytes(dataset, params)?;
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

/// What a person should know of a local order before it is used.
pub fn warnings(
    epochs: &Epochs<'_>,
    local: &Locality,
    reading: &Reading,
    params: &locality::Params,
) -> Vec<String> {
    let memory = too_large(epochs, reading, params);
    memory.into_iter().chain(drifting(epochs, local, reading)).collect()
}

/// Units that are larger than they were to be, since pages are, and a round that takes more than it may.
fn too_large(epochs: &Epochs<'_>, reading: &Reading, params: &locality::Params) -> Option<String> {
    let largest = u64::from(*epochs.local?.units.rows.iter().max()?);
    let larger = largest > 2 * reading.unit_rows && reading.round_bytes > params.window_memory;
    larger.then(|| {
        format!(
            "pages of up to {largest} rows are read in one piece: a round of the local order opens {} MiB, decoded, more than \
             locality.window_memory ({} MiB); write the files with smaller pages, or choose a smaller --window",
            reading.round_bytes.div_ceil(1 << 20),
            params.window_memory >> 20
        )
    })
}

/// Of rounds that are far from the data's mix: what would help.
fn drifting(epochs: &Epochs<'_>, local: &Locality, reading: &Reading) -> Option<String> {
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
        None => {
            "no window does: write the rows anew with `batchwright materialize`, or keep the global order"
                .into()
        }
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
