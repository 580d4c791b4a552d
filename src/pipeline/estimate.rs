//! What a plan will need, from the footers alone: printed by `--dry-run`, checked before every real run.
//!
//! The memory figure is the largest of the phases (sample and fit, assignment pass, settling, epochs), each an upper
//! estimate of what the code of that phase allocates; the measured peak of the test datasets lies below it.

use super::prepare::{LONG_TEXT, Roles};
use super::summary::Estimate;
use crate::batches::batch_size::Candidates;
use crate::config::{Config, Run};
use crate::features::{ENCODED_ROWS, Transform};
use crate::format;
use crate::kit::error::{Error, Result};
use crate::modalities::pca;
use crate::parts::rows_per_part;
use crate::source::{Dataset, Kind};

/// The program itself, its libraries and the allocator's slack.
const BASE: u64 = 64 << 20;
/// What a thread holds beside its rows: pages of one column, compressed and not, and search buffers.
const THREAD: u64 = 24 << 20;
/// What a table cell takes at least, with its offset and a copy.
const CELL: u64 = 32;

pub fn estimate(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    run: &Run,
    threads: usize,
) -> Result<Estimate> {
    let rows = dataset.rows();
    // One-hot columns have up to 65 coordinates; how many is known only from the sample.
    let dims: u64 = (roles.inputs.order.iter())
        .map(|(_, kind)| match kind {
            Kind::Vector { dims } => *dims as u64,
            Kind::Text | Kind::Boolean => 65,
            _ => 1,
        })
        .sum();
    let threads = threads as u64;
    // Long texts are read only where a setting names them.
    let cell = |name: &String| {
        let bytes = dataset.cell_bytes(name);
        CELL + if roles.named.contains(name) { bytes } else { bytes.min(LONG_TEXT as u64) }
    };
    let table: u64 = roles.sample_table.iter().map(cell).sum();

    let resolution = u64::from(config.modalities.resolution);
    let sample_rows = rows.min(5 * resolution);
    let block = rows.min(resolution);
    let sample = sample_rows * (4 * dims + table + 40);
    // Neighbour lists of a block and its halves: up to .026 n neighbours each, and the margin that halves need.
    let neighbours = block * ((block as f64 * 0.026 * 1.25) as u64 + 48) * 26;
    // Where the whole sample is one block, up to 64 (20 bytes each while they are found), and those of the other spaces stay
    // (4 bytes).
    let dims_of = |p: &&usize| (**p as u64) < dims;
    let spaces = pca::COMPONENTS.iter().filter(dims_of).count() as u64 + u64::from(dims <= 128);
    let each = sample_rows * (64 * 5 / 4 + 32);
    let whole = if sample_rows > block { each * (20 + 4 * spaces.saturating_sub(1)) } else { 0 };
    let neighbours = neighbours.max(whole);
    // Gathered by row groups, some thousand rows at a time, then joined: twice the sample.
    let gathering = 2 * sample + threads * 4096 * (4 * dims + table);
    let fit =
        gathering + block * 4 * (dims + 128) + 24 * dims.min(1024) * dims + neighbours + threads * THREAD;

    // Rows as read and as points, projected, and the table columns.
    let step = if roles.encoder.is_some() { ENCODED_ROWS } else { rows_per_part(dims as usize) };
    let part = rows.min(step as u64);
    let partials = (threads + 8) * 64 * dims * 40;
    let pass = sample + threads * (part * (8 * dims + 512 + table) + THREAD) + partials;

    let held_out = (rows as f64 * config.batches.holdout) as u64 * 32;
    let settle = held_out + rows.min(1 << 22) * 28 + rows.min(1 << 20) * 100 + (96 << 20).min(rows * 48);
    // Members and centralities are mapped files: they count while they are looked up in.
    let mapped = if config.batches.epochs(rows) > 0 { rows * 8 } else { 0 };
    let epochs = rows.min(1 << 19) * 96 + mapped;

    // Its weights stay from the beginning to the end; while they are read they are there twice.
    let encoder = roles.encoder.map_or(0, |e| (e.bytes() + threads as usize * e.working_bytes()) as u64);
    let reading = roles.encoder.map_or(0, |e| e.bytes() as u64);
    let memory_needed = BASE + encoder + fit.max(pass).max(settle).max(epochs).max(reading);
    let width = if rows < 1 << 32 { 4 } else { 8 };
    let written = u64::from(config.batches.epochs(rows));
    let candidates = match &config.batch_size.candidates {
        Candidates::Auto => 3,
        Candidates::List(list) => list.len() as u64 + 1,
    };
    let bytes_written = rows * (16 + width) + written * candidates * rows * (width + 4) + (1 << 20);
    let bytes_scratch = rows * (20 + width + 12 + 8);
    let bytes_read = 2 * dataset.bytes(&roles.named);
    let disk_free = format::disk_free(&run.out)?;
    let fits = memory_needed <= run.memory && bytes_written + bytes_scratch <= disk_free;
    let groups = dataset.row_groups().len();
    let s = if groups == 1 { "" } else { "s" };
    let mut lines = vec![("files".into(), format!("{}, {groups} row group{s}", dataset.files().len()))];
    lines.extend(roles.told.iter().cloned());
    if let (Some(encoder), Some((column, _))) = (roles.encoder, &roles.inputs.encode) {
        // What the sample has is not encoded again where nothing more is done to it.
        let again = match config.features.transform {
            Transform::None if roles.inputs.order.len() == 1 => String::new(),
            _ => format!(", {sample_rows} of them twice"),
        };
        let which = if config.source.filter.is_some() { "at most " } else { "" };
        lines.push((
            "encoder".into(),
            format!("{} ({}): {which}{rows} rows of `{column}`{again}", encoder.name(), encoder.about()),
        ));
    }
    Ok(Estimate {
        rows,
        dims: dims as usize,
        bytes_read,
        bytes_written: bytes_written + bytes_scratch,
        bytes_working: bytes_scratch,
        memory_needed,
        memory_allowed: run.memory,
        disk_free,
        fits,
        lines,
    })
}

/// Refuses a run that would not fit, before anything is read.
pub fn refuse(estimate: &Estimate, run: &Run) -> Result<()> {
    let mib = |b: u64| b.div_ceil(1 << 20);
    if estimate.memory_needed > run.memory {
        return Err(Error::config(
            "memory",
            format!(
                "this run needs about {} MiB and --memory allows {} MiB",
                mib(estimate.memory_needed),
                mib(run.memory)
            ),
            format!(
                "use --memory {}MiB, fewer --threads, or a smaller --resolution",
                mib(estimate.memory_needed).next_multiple_of(64)
            ),
        ));
    }
    let disk = estimate.bytes_written;
    if disk > estimate.disk_free {
        return Err(Error::config(
            "out",
            format!(
                "the plan and its working files need about {} MiB and {} has {} MiB free",
                mib(disk),
                run.out.display(),
                mib(estimate.disk_free)
            ),
            "choose another --out, or write fewer --epochs (any epoch can be computed from the plan later)",
        ));
    }
    Ok(())
}
