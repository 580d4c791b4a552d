//! What a run will need, from footers and page headers alone: printed by `--dry-run`, checked before every real run.
//!
//! The memory figure is an upper bound: the largest of the phases (sample, fit, assignment pass, tables, settling, epochs),
//! each the sum of what the code of that phase holds at its worst. What only the data tells (modalities, classes, strata)
//! is bounded by what the files say of their columns. `benches/memory.py` compares it with the peak of many settings.

use super::prepare::{LONG_TEXT, Roles};
use super::summary::Estimate;
use super::{groups, local, row_values};
use crate::batches::batch_size::Candidates;
use crate::batches::strata;
use crate::config::{Config, Run};
use crate::features::{ENCODED_ROWS, Inputs, Transform};
use crate::format::{self, Kind};
use crate::kit::error::{Error, Result};
use crate::modalities::{EstimatorSpec, pca};
use crate::parts::rows_per_part;
use crate::plan::Plan;
use crate::source::{self, Dataset, Extent};
use crate::statistics::gain;

/// The program itself, its libraries and the allocator's slack.
const BASE: u64 = 48 << 20;
/// What a thread holds beside its rows and pages: search buffers, the bytes being hashed.
const THREAD: u64 = 8 << 20;
/// What a table cell takes at least, with its offset and a copy.
const CELL: u64 = 32;
/// Modalities that are reckoned with where they are counted: more would be as many small modes.
const COUNTED: u64 = 64;
/// Values of a column above which it cannot name strata or modalities.
const VALUES: u64 = 100_000;
/// Bytes of a row of `profile.arrow` in memory, with what it is made of.
const PROFILED: u64 = 320;

/// What the files say of the columns that a run reads.
struct Columns {
    dims: u64,
    /// Bytes of a row of the table columns, as cells.
    table: u64,
    /// Bytes that a thread holds of pages and dictionaries.
    pages: u64,
    /// Dictionaries of vectors that stay.
    dictionaries: u64,
    /// Over a network: chunks of a row group that a thread holds.
    held: u64,
    /// Values that a profiled column may list, of each one.
    listed: Vec<u64>,
    /// Footers and page indexes of all files.
    footers: u64,
}

/// At most so many values of a column.
fn distinct(dataset: &Dataset, extent: &Extent) -> u64 {
    // Nulls are a value, too.
    extent.distinct.map_or(VALUES, |n| n + 1).min(dataset.rows()).min(VALUES)
}

impl Columns {
    fn new(dataset: &Dataset, inputs: &Inputs, named: &[String], table: &[String]) -> Result<Columns> {
        // One-hot columns have up to 65 coordinates; how many is known only from the sample.
        let dims = (inputs.order.iter())
            .map(|(_, kind)| match kind {
                source::Kind::Vector { dims } => *dims as u64,
                source::Kind::Text | source::Kind::Boolean => 65,
                _ => 1,
            })
            .sum();
        let mut columns = Columns {
            dims,
            table: 0,
            pages: 0,
            dictionaries: 0,
            held: 0,
            listed: Vec::new(),
            footers: dataset.footer_bytes(),
        };
        let mut vector_page = 0;
        for name in inputs.stored_vectors() {
            let extent = dataset.extent(name)?;
            vector_page = vector_page.max(extent.page);
            // Stored halves become whole numbers.
            columns.dictionaries += 2 * extent.dictionary * (dataset.row_groups().len() as u64).min(256);
            columns.held += if dataset.is_remote() { extent.chunks } else { 0 };
        }
        for name in table {
            let extent = dataset.extent(name)?;
            let bytes = dataset.cell_bytes(name).max(extent.entry);
            // Long texts are read only where a setting names them; a few rows are looked at.
            let whole = named.contains(name);
            columns.table += CELL + if whole { bytes } else { bytes.min(LONG_TEXT as u64) };
            columns.pages += extent.page + 2 * extent.dictionary;
            let is_text = dataset.columns().iter().any(|c| c.name == *name && c.kind == source::Kind::Text);
            columns.listed.push(if is_text { distinct(dataset, &extent).min(10_000) } else { 32 });
            columns.held += if dataset.is_remote() && whole { extent.chunks } else { 0 };
        }
        // The pages of a table are open together, those of a vector column one after the other.
        columns.pages = columns.pages.max(vector_page);
        Ok(columns)
    }
}

/// How many of each there may be.
struct Counts {
    modalities: u64,
    strata: u64,
    /// (stratum, class) pairs.
    cells: u64,
}

impl Counts {
    /// `counted`: modalities where neither a number nor a column tells.
    fn new(dataset: &Dataset, roles: &Roles, config: &Config, counted: u64) -> Result<Counts> {
        let rows = dataset.rows();
        let of = |name: &String| Ok::<u64, Error>(distinct(dataset, &dataset.extent(name)?));
        let modalities = match (&roles.modality, config.modalities.count) {
            (Some(column), _) => of(column)?,
            (None, Some(count)) => u64::from(count),
            (None, None) => counted,
        };
        let fine = match roles.modality {
            Some(_) => modalities,
            None => modalities.max(u64::from(config.fine(rows))),
        };
        let strata = match &roles.stratify {
            Some(column) if config.strata.inside_modalities() => modalities * of(column)?,
            Some(column) => of(column)?,
            None => fine,
        };
        let classes = match &config.source.label {
            Some(label) => of(label)?.min(gain::CLASSES as u64 + 1),
            None => 1,
        };
        let (modalities, strata) = (modalities.min(rows), strata.min(rows));
        Ok(Counts { modalities, strata, cells: (strata * classes).min(rows) })
    }
}

/// Threads that have work: a pass is cut into parts, the sample into row groups.
struct Threads {
    sample: u64,
    pass: u64,
    /// Rows of a part.
    part: u64,
    /// Partial results that wait for their neighbours.
    waiting: u64,
}

impl Threads {
    fn new(dataset: &Dataset, dims: u64, encoded: bool, threads: usize) -> Threads {
        let (rows, threads) = (dataset.rows(), threads as u64);
        let step = if encoded { ENCODED_ROWS } else { rows_per_part(dims as usize) };
        let step = step as u64;
        let parts = rows.div_ceil(step).max(1);
        let pass = threads.min(parts);
        let deep = u64::from(parts.ilog2()) + 1;
        Threads {
            sample: threads.min(dataset.row_groups().len() as u64).max(1),
            pass,
            part: rows.min(step),
            waiting: (pass * deep + 1).min(parts),
        }
    }
}

/// Sums of one modality or cell that occur in partial results, the finished one included: no more than rows.
fn occurring(each: u64, waiting: u64, rows: u64) -> u64 {
    (each * waiting).min(rows) + each
}

/// What the assignment pass sums up: while it runs, and afterwards.
fn sums(columns: &Columns, counts: &Counts, threads: &Threads, rows: u64) -> (u64, u64) {
    let Columns { dims, .. } = *columns;
    let moments = 24 * dims + 320;
    let cell = 8 * dims.min(gain::WIDTH as u64) + 160;
    let waiting = threads.waiting;
    let mut running = occurring(counts.modalities, waiting, rows) * moments;
    // Each row is in one partial result and in one cell of it, and merging moves cells.
    running += (counts.cells * waiting).min(rows) * cell;
    // Shares, tallies, and the reference's covariances.
    running += waiting * (16 * dims + (256 << 10)) + occurring(counts.strata, waiting, rows) * 160;
    let lists = columns.listed.iter().map(|&v| occurring(counts.modalities * v.max(2), waiting, rows) * 32);
    running += lists.sum::<u64>();
    // Of all rows and of each modality: moments, quantiles, centres; lists of values.
    let groups = counts.modalities + 1;
    let profile = columns.listed.iter().map(|&v| groups * v.min(32) + v.min(256)).sum::<u64>() * PROFILED;
    // The classes of all rows and of one group are added up while the gain is told.
    let after =
        groups * moments + (counts.cells + 2 * counts.cells.min(gain::CLASSES as u64 + 1)) * cell + profile;
    (running, after)
}

/// Principal components of `rows` rows: covariance or the rows' products, their eigenvectors, some rows in f64.
fn components(rows: u64, dims: u64) -> u64 {
    let side = if dims > 1024 { dims.min(rows) } else { dims };
    let eigen = if side > 1024 { 8 * side * side + 4 * 8 * 168 * side } else { 24 * side * side };
    let together = if dims > 1024 { 128 } else { 1024 };
    eigen + rows.min(together) * dims * 8 + 2 * 8 * 168 * dims
}

/// The sample while it is gathered, what it leaves, and the fit.
struct Sampled {
    gathering: u64,
    /// Until the tables are made.
    kept: u64,
    fit: u64,
}

fn sampled(columns: &Columns, counts: &Counts, threads: &Threads, config: &Config, rows: u64) -> Sampled {
    let Columns { dims, table, pages, held, .. } = *columns;
    let resolution = u64::from(config.modalities.resolution);
    let by_column = config.modalities.estimator == EstimatorSpec::Column;
    // Every value of a modality column is in the sample.
    let sample_rows =
        rows.min(5 * resolution + config.sample_rows(rows) + if by_column { counts.modalities } else { 0 });
    let block = rows.min(resolution);
    let sample = sample_rows * (4 * dims + table + 40);
    // Gathered by row groups, some thousand rows at a time, then joined: twice the sample. As points it is there once
    // more where they are made of other numbers.
    let identity = matches!(config.features.transform, Transform::None);
    let gathering = (if identity { 2 } else { 3 }) * sample
        + threads.sample * (rows.min(4096) * (4 * dims + table) + pages + held);
    // Quantiles and centres of every modality, the projected sample, each row's ids.
    let groups = counts.modalities + 1;
    let of_modalities = groups * dims * (88 + 3 * 4) + groups * 400;
    let kept = sample + of_modalities + sample_rows * (4 * dims.min(128) + 64);
    if by_column {
        return Sampled {
            gathering,
            kept,
            fit: kept + sample_rows * 4 * dims + components(sample_rows, dims),
        };
    }
    // Neighbour lists of a block and its halves: up to .026 n neighbours each, and the margin that halves need.
    let neighbours = block * ((block as f64 * 0.026 * 1.25) as u64 + 48) * 26;
    // Where the whole sample is one block, up to 64 (20 bytes each while they are found), and those of the other spaces
    // stay (4 bytes).
    let dims_of = |p: &&usize| (**p as u64) < dims;
    let spaces = pca::COMPONENTS.iter().filter(dims_of).count() as u64 + u64::from(dims <= 128);
    let each = sample_rows * (64 * 5 / 4 + 32);
    let whole = if sample_rows > block { each * (20 + 4 * spaces.saturating_sub(1)) } else { 0 };
    let prototypes = (u64::from(config.prototypes(rows)) + counts.modalities) * (4 * dims.min(128) + 200);
    // Two blocks' rows, the rows outside, and two sets of components at a time.
    let fit = kept.max(sample)
        + 2 * block * 4 * (dims + dims.min(128))
        + sample_rows.saturating_sub(block) * 4 * dims
        + 2 * components(block, dims)
        + components(sample_rows, dims)
        + neighbours.max(whole)
        + 2 * prototypes
        + threads.pass * THREAD;
    Sampled { gathering, kept: kept + prototypes, fit }
}

/// An upper bound of the memory of a whole run.
fn memory(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    columns: &Columns,
    threads: &Threads,
    counted: u64,
) -> Result<u64> {
    let rows = dataset.rows();
    let counts = Counts::new(dataset, roles, config, counted)?;
    let Columns { dims, table, pages, dictionaries, .. } = *columns;
    let Sampled { gathering, kept, fit } = sampled(columns, &counts, threads, config, rows);
    let (running, after) = sums(columns, &counts, threads, rows);
    // Rows as read and as points, projected, and the table columns.
    let row = 8 * dims + 4 * dims.min(128) + 200 + 2 * table;
    let reading = threads.pass * (threads.part * row + pages + THREAD) + dictionaries;
    let pass = kept + reading + running;
    let held_out = match config.splits.kind() {
        None => (rows as f64 * config.batches.holdout) as u64 * 96,
        Some(kind) if kind.folds() => 0,
        // Half of the rows and more are seldom held out; a column may say so.
        Some(_) => rows / 2 * 96,
    } + row_values::memory(rows, config);
    let ranking = rows.min(1 << 22) * 28 + rows.min(1 << 20) * 100 + (96 << 20).min(rows * 48);
    let settle = kept + after + held_out + ranking + counts.strata * 200;
    // A record batch of the statistics and the modalities' rows, written while what they are made of is there.
    let features = (counts.modalities + 1) * dims;
    let tables = kept
        + after
        + features.min(1 << 20) * 220
        + features * 12
        + counts.strata * (8 * dims.min(128) + 300)
        + 4 * counts.strata.min(strata::LINKED as u64).pow(2);
    // Members and centralities are mapped files: they count while they are looked up in.
    let mapped = if config.epochs(rows) > 0 { rows * 20 } else { 0 };
    let order = local::needs(dataset, config, counts.strata, threads.pass)?.map_or(0, |needs| needs.memory);
    let keys = groups::memory(rows, config.batches.no_duplicates.len() as u64);
    let epochs = rows.min(1 << 19) * 96 + mapped + counts.strata * 200 + order + keys;
    // The weights of an encoder stay from the beginning to the end; while they are read they are there twice.
    let encoder = roles.encoder.map_or(0, |e| e.bytes() as u64 + threads.pass * e.working_bytes() as u64);
    let opening = roles.encoder.map_or(0, |e| e.bytes() as u64);
    let phases = [gathering, fit, pass, settle, tables, epochs, opening];
    Ok(BASE + columns.footers + encoder + phases.into_iter().max().unwrap_or(0))
}

/// Refuses what a fit has found, if it needs more memory than was reckoned with and than the run may take.
pub fn refuse_fitted(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    run: &Run,
    threads: usize,
    modalities: usize,
) -> Result<()> {
    if modalities as u64 <= COUNTED {
        return Ok(());
    }
    let columns = Columns::new(dataset, &roles.inputs, &roles.named, &roles.sample_table)?;
    let at_work = Threads::new(dataset, columns.dims, roles.encoder.is_some(), threads);
    refuse_memory(memory(dataset, roles, config, &columns, &at_work, modalities as u64)?, run)
}

/// Bytes of a plan's tables while they are decoded, one after the other; what has one entry a row stays mapped.
pub fn of_tables(plan: &Plan) -> u64 {
    let small = |path: &str| {
        ![Kind::Samples, Kind::Strata].iter().any(|k| k.path() == path) && !path.starts_with("batches/")
    };
    let tables = plan
        .manifest()
        .files
        .iter()
        .map(|f| if small(&f.path) { 3 * f.bytes } else { f.bytes.min(64 << 20) });
    tables.sum()
}

/// Refuses a check that may need more memory than it may take. Data without the plan's columns is an answer of the check.
pub fn refuse_check(dataset: &Dataset, plan: &Plan, run: &Run, threads: usize) -> Result<()> {
    let inputs = Inputs::choose(&plan.config()?.features, dataset.columns(), &[]);
    match inputs.and_then(|inputs| of_check(dataset, plan, &inputs, threads)) {
        Ok(needed) => refuse_memory(needed, run),
        Err(_) => Ok(()),
    }
}

/// An upper bound of the memory of a check: the plan's tables, the bytes that are hashed, one pass over what is new. All
/// rows may be new: that is known only when they have been compared.
fn of_check(dataset: &Dataset, plan: &Plan, inputs: &Inputs, threads: usize) -> Result<u64> {
    let (manifest, config) = (plan.manifest(), plan.config()?);
    let rows = dataset.rows();
    let named = config.named(inputs, dataset)?;
    let profiled: Vec<String> =
        dataset.columns().iter().filter(|c| c.kind.is_plain()).map(|c| c.name.clone()).collect();
    let columns = Columns::new(dataset, inputs, &named, &profiled)?;
    let threads = Threads::new(dataset, columns.dims, config.features.encode.is_some(), threads);
    let (modalities, strata) = (u64::from(manifest.modalities), u64::from(manifest.strata));
    let classes = match &config.source.label {
        Some(label) if dataset.columns().iter().any(|c| c.name == *label) => {
            distinct(dataset, &dataset.extent(label)?).min(gain::CLASSES as u64 + 1)
        }
        _ => 1,
    };
    let counts = Counts { modalities, strata, cells: (strata * classes).min(rows) };
    let (running, after) = sums(&columns, &counts, &threads, rows);
    let row = 8 * columns.dims + 4 * columns.dims.min(128) + 200 + 2 * columns.table;
    let hashing = threads.sample * (THREAD + columns.held);
    let reading = threads.pass * (threads.part * row + columns.pages + THREAD) + columns.dictionaries;
    let phases = [hashing, reading + running, after];
    Ok(BASE + columns.footers + of_tables(plan) + phases.into_iter().max().unwrap_or(0))
}

pub fn estimate(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    run: &Run,
    threads: usize,
) -> Result<Estimate> {
    let rows = dataset.rows();
    let columns = Columns::new(dataset, &roles.inputs, &roles.named, &roles.sample_table)?;
    let dims = columns.dims;
    let at_work = Threads::new(dataset, dims, roles.encoder.is_some(), threads);
    let memory_needed = memory(dataset, roles, config, &columns, &at_work, COUNTED)?;
    let sample_rows = rows.min(5 * u64::from(config.modalities.resolution));
    let width = if rows < 1 << 32 { 4 } else { 8 };
    let written = u64::from(config.epochs(rows));
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
    lines.extend(local::needs(dataset, config, 1, 1)?.map(|needs| needs.line));
    Ok(Estimate {
        files: dataset.files().len(),
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

/// Refuses more memory than the run may take.
pub fn refuse_memory(needed: u64, run: &Run) -> Result<()> {
    if needed <= run.memory {
        return Ok(());
    }
    let needed = mib(needed);
    Err(Error::config(
        "memory",
        format!("this run needs up to {needed} MiB and --memory allows {} MiB", mib(run.memory)),
        format!("use --memory {}MiB, or fewer --threads", needed.next_multiple_of(64)),
    ))
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Refuses a run that would not fit, before anything is read.
pub fn refuse(estimate: &Estimate, run: &Run) -> Result<()> {
    refuse_memory(estimate.memory_needed, run)?;
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
