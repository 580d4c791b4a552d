//! `materialize`: the rows of a plan, written again in the order of its batches. Every file, every row group and every batch of
//! the copy is then a miniature of the whole data, and reading it from the first row to the last reads stratified batches.
//!
//! An external permutation. Where every row goes is sorted by row into a working file (12 bytes a row); the data is read once,
//! in its own order, each row appended to the working file of the bucket of output files that it goes to; every bucket is
//! then put in order in memory and written. Two reads and two writes of the rows, none where all of them fit into a third of the
//! memory. The bytes of the copy depend on the plan, the epoch and the data, not on memory or threads.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow_schema::SchemaRef;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::update::carry_over;
use crate::batches::epochs::{Epoch, Epochs};
use crate::config::{Config, Run};
use crate::format::staging::{Staging, disk_free};
use crate::kit::error::{Error, Result};
use crate::kit::output::{Output, Replace};
use crate::kit::progress::{Progress, Stage};
use crate::plan::Plan;
use crate::source::{Stored, local_files};

mod permute;
mod files;
mod npy;

pub use files::Format;
use files::{Added, Rows, Writing};
use permute::{BLOCK, Block, Bucket, Ordered, arrow, chunks, destinations, taken};

/// A row group holds whole batches, about so many rows.
const GROUP_ROWS: u64 = 16_384;
/// A file holds whole row groups, about so many bytes once decoded, where nothing else is asked for.
pub const FILE_BYTES: u64 = 64 << 20;
/// Working files that are open at a time.
const BUCKETS: u64 = 512;
/// Bytes that are read at a time on each thread, decoded.
const READ_BYTES: u64 = 16 << 20;
/// A bucket is in memory twice while it is put in order, and its pages once more while they are written.
const COPIES: u64 = 4;

/// What to copy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The epoch whose order the copy has.
    pub epoch: u32,
    /// Rows of a batch, a candidate size of the plan; None: the plan's batch size.
    pub batch_size: Option<u32>,
    pub format: Format,
    /// Columns to copy, in this order; none: all.
    pub columns: Vec<String>,
    /// Columns to add beside `batch` and `row`.
    pub with: Vec<With>,
    /// Bytes of the rows of a file, decoded; about.
    pub file_bytes: u64,
    /// Where the plan of the copy goes; None: it gets none.
    pub plan: Option<PathBuf>,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            epoch: 0,
            batch_size: None,
            format: Format::default(),
            columns: Vec::new(),
            with: Vec::new(),
            file_bytes: FILE_BYTES,
            plan: None,
        }
    }
}

/// What a plan says of a row, as a column of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum With {
    /// Int64
    Modality,
    /// Int64
    Stratum,
    /// Float32 in 0..=1; null where the plan has no weights.
    Centrality,
}

impl With {
    pub const ALL: [With; 3] = [With::Modality, With::Stratum, With::Centrality];

    pub fn name(self) -> &'static str {
        match self {
            With::Modality => "modality",
            With::Stratum => "stratum",
            With::Centrality => "centrality",
        }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Materialized {
    pub rows: u64,
    /// Rows of the data that are in no batch of the epoch: filtered out, invalid, held out, or of a rest that is dropped.
    pub left_out: u64,
    pub batches: u64,
    pub batch_size: u32,
    pub epoch: u32,
    pub files: u64,
    pub bytes: u64,
    /// Names of the added columns.
    pub added: Vec<String>,
    /// Id of the copy's own plan.
    pub plan: Option<String>,
    /// Why it has none though one was asked for.
    pub no_plan: Option<String>,
    pub seconds: f64,
}

/// Writes the rows of an epoch of the plan in `plan` to files in the directory `run.out`, and the plan carried over to
/// them to `params.plan` (of Parquet files only): modalities and strata stay, nothing is counted again. `data` is what the plan was
/// made from. `copied` is called when the copy is whole and its plan is begun. O(rows) time; at most `run.memory` memory; working files of the decoded rows beside the output, unless the
/// memory holds them.
///
/// # Errors
/// If the data is not the plan's, if files store a column in different types, if an array cannot hold a column, if the disk or the memory is too small, if the
/// output is there already (`run.force` replaces an older copy) or is what is read.
pub fn materialize(
    plan: &Path,
    data: &[String],
    params: &Params,
    run: &Run,
    progress: &Progress,
    copied: impl FnOnce(),
) -> Result<Materialized> {
    let begun = Instant::now();
    if let Some(out) = params.plan.as_ref().filter(|_| params.format == Format::Parquet) {
        // What is in its way is told before the rows are copied.
        drop(Staging::begin(out, run.force)?);
    }
    let mut done = copy(plan, data, params, run, progress)?;
    if let Some(out) = params.plan.as_ref().filter(|_| done.no_plan.is_none()) {
        copied();
        let shards = [run.out.to_string_lossy().into_owned()];
        let run = Run { out: out.clone(), ..run.clone() };
        done.plan = Some(carry_over(plan, &shards, &run, progress)?.plan_id);
    }
    done.seconds = begun.elapsed().as_secs_f64();
    Ok(done)
}

fn copy(
    plan: &Path,
    data: &[String],
    params: &Params,
    run: &Run,
    progress: &Progress,
) -> Result<Materialized> {
    let plan = Plan::open(plan)?;
    let mut keep: Vec<PathBuf> = local_files(data)?;
    keep.push(plan.path().to_path_buf());
    let arrays = npy::files_in(&run.out);
    let own = |name: &str| files::is_part(name) || arrays.contains(name);
    let replace = if run.force { Replace::Any { own: &own } } else { Replace::Nothing };
    let output = Output::directory("--out", &run.out, replace, &keep)?;
    run.scope(progress, |engine| {
        let config = plan.config()?;
        let dataset = config.open(data, run.memory, progress)?;
        plan.check_dataset(&dataset, true)?;
        let stored = dataset.stored(&params.columns)?;
        let batch_size = batch_size(&plan, params)?;
        let epochs = plan.epochs()?;
        let epoch = epochs.epoch(params.epoch, u64::from(batch_size));
        let samples = plan.samples()?;
        let added = Added::new(&plan, &stored, params)?;
        let shape =
            Shape::new(&stored, &added, &epoch, u64::from(batch_size), params.file_bytes, run.memory)?;
        shape.fits(run, &output)?;
        let schema = added.schema(stored.schema());
        let arrays = match params.format {
            Format::Npy => Some(npy::Columns::new(&schema, &dataset)?),
            _ => None,
        };
        let scratch = output.path().join("scratch");
        fs::create_dir(&scratch).map_err(Error::io("create the directory", &scratch))?;
        let sorted = destinations(&epoch, shape.batch, dataset.rows(), &scratch, progress)?;

        let spill = added.spilled(stored.schema());
        let buckets: Vec<Bucket> = (0..shape.buckets())
            .map(|b| Bucket::new(&scratch.join(format!("bucket-{b}")), &spill, shape.in_memory))
            .collect::<Result<_>>()?;
        let stage = progress.stage("read", "rows", dataset.rows()).reading(dataset.bytes(&stored.names()));
        let groups: Vec<usize> = (0..dataset.row_groups().len()).collect();
        groups.par_iter().try_for_each(|&group| {
            let mut block = Block::default();
            stored.read(group, shape.at_once, |first, batch| {
                let rows = batch.num_rows() as u64;
                let places = block.destinations(&sorted, first..first + rows)?;
                for some in places.chunk_by(|a, b| shape.bucket(a.1) == shape.bucket(b.1)) {
                    let part = taken(&batch, first, some, &spill).map_err(arrow)?;
                    let numbers = part.num_columns() - 2;
                    arrays.iter().try_for_each(|arrays| arrays.check(&part, numbers, &dataset))?;
                    buckets[shape.bucket(some[0].1)].push(part)?;
                }
                stage.advance(rows)
            })
        })?;
        drop(stage);

        let width = (run.memory / (COPIES * shape.bucket_bytes())).clamp(1, engine.threads() as u64);
        let copy = Copy {
            dir: output.path(),
            shape: &shape,
            waves: buckets.chunks(width as usize).collect(),
            spill: &spill,
            rows: Rows { schema: schema.clone(), added: &added, samples, batch: shape.batch },
            stage: progress.stage("write", "rows", shape.rows),
        };
        let metadata = files::metadata(&plan, &stored, params.epoch, batch_size);
        let (files, bytes) = match &arrays {
            None if params.format == Format::Arrow => copy.files(Writing::arrow(&schema, metadata))?,
            None => copy.files(Writing::parquet(&schema, metadata)?)?,
            Some(columns) => copy.arrays(columns, &plan.manifest().plan, params.epoch, batch_size)?,
        };
        drop(copy);
        fs::remove_dir_all(&scratch).map_err(Error::io("remove", &scratch))?;
        output.commit()?;
        Ok(Materialized {
            rows: shape.rows,
            left_out: left_out(&plan, &epochs, shape.rows),
            batches: epoch.len(),
            batch_size,
            epoch: params.epoch,
            files,
            bytes,
            added: added.names(),
            no_plan: (params.plan.as_ref())
                .and_then(|_| no_plan(&config, &stored, params.format, epochs.draws.is_some())),
            ..Materialized::default()
        })
    })
}

/// The rows of a batch that are asked for.
fn batch_size(plan: &Plan, params: &Params) -> Result<u32> {
    let own = plan.manifest().batch_size;
    let batch_size = params.batch_size.unwrap_or(own);
    let sizes = || plan.manifest().candidates.iter().map(|c| c.batch_size);
    if batch_size != own && sizes().all(|size| size != batch_size) {
        let sizes: Vec<String> = sizes().map(|size| size.to_string()).collect();
        let reason = format!("{batch_size} is not a candidate of the plan");
        return Err(Error::config("--batch-size", reason, format!("choose one of {}", sizes.join(", "))));
    }
    Ok(batch_size)
}

/// Rows of the data that are not among the `rows` of an epoch.
fn left_out(plan: &Plan, epochs: &Epochs, rows: u64) -> u64 {
    let distinct = if epochs.draws.is_some() { plan.manifest().rows_planned } else { rows };
    plan.manifest().rows - distinct.min(plan.manifest().rows)
}

/// Buckets being put in order and written.
struct Copy<'a> {
    dir: &'a Path,
    shape: &'a Shape,
    /// Buckets that are in memory together.
    waves: Vec<&'a [Bucket]>,
    spill: &'a SchemaRef,
    rows: Rows<'a>,
    stage: Stage<'a>,
}

impl Copy<'_> {
    /// As numbered files, several at a time; files and bytes.
    fn files(&self, writing: Writing) -> Result<(u64, u64)> {
        let (mut files, mut bytes, mut first) = (0, 0, 0);
        for wave in &self.waves {
            let one = |(i, bucket): (usize, &Bucket)| {
                let ordered = bucket.ordered(self.spill)?;
                let mut sizes = Vec::new();
                for file in self.shape.files_of(first + i) {
                    let path = self.dir.join(files::part(file, writing.format()));
                    let places = self.shape.places_of(file);
                    sizes.push(writing.write(
                        &path,
                        places,
                        self.shape.group,
                        &self.rows,
                        &ordered,
                        &self.stage,
                    )?);
                }
                Ok(sizes)
            };
            let done: Vec<Result<Vec<u64>>> = wave.par_iter().enumerate().map(one).collect();
            for sizes in done {
                let sizes = sizes?;
                files += sizes.len() as u64;
                bytes += sizes.iter().sum::<u64>();
            }
            first += wave.len();
        }
        Ok((files, bytes))
    }

    /// As an array a column, bucket after bucket; files and bytes.
    fn arrays(&self, columns: &npy::Columns, plan: &str, epoch: u32, batch_size: u32) -> Result<(u64, u64)> {
        let mut arrays = npy::Arrays::create(self.dir, columns)?;
        for wave in &self.waves {
            let ordered: Vec<Result<Ordered>> =
                wave.par_iter().map(|bucket| bucket.ordered(self.spill)).collect();
            for ordered in ordered {
                let ordered = ordered?;
                let end = ordered.first + ordered.order.len() as u64;
                for first in (ordered.first..end).step_by(self.shape.group as usize) {
                    let places = first..(first + self.shape.group).min(end);
                    arrays.push(&self.rows.at(places.clone(), &ordered)?)?;
                    self.stage.advance(places.end - places.start)?;
                }
            }
        }
        arrays.finish(plan, epoch, batch_size)
    }
}

/// Writes only the order: the numbers of the rows, batch after batch, as one array of Int64, `order-EPOCH.npy` in the directory
/// `run.out`, which is made if it is not there. `data` may be empty; otherwise it must be what the plan was made from.
///
/// # Errors
/// As [`materialize`].
pub fn list(
    plan: &Path,
    data: &[String],
    params: &Params,
    run: &Run,
    progress: &Progress,
) -> Result<Materialized> {
    let begun = Instant::now();
    let plan = Plan::open(plan)?;
    let mut keep: Vec<PathBuf> = local_files(data)?;
    keep.push(plan.path().to_path_buf());
    let made = !run.out.exists() && fs::create_dir(&run.out).is_ok();
    let done = run.scope(progress, |_| {
        let path = list_path(&run.out, params.epoch);
        let replace = if run.force { Replace::Any { own: &|_| false } } else { Replace::Nothing };
        let output = Output::file("--out", &path, replace, &keep)?;
        if !data.is_empty() {
            plan.check_dataset(&plan.config()?.open(data, run.memory, progress)?, true)?;
        }
        let batch_size = batch_size(&plan, params)?;
        let epochs = plan.epochs()?;
        let epoch = epochs.epoch(params.epoch, u64::from(batch_size));
        let mut order = npy::Array::create(output.path(), "<i8", None)?;
        let stage = progress.stage("order", "batches", epoch.len());
        let mut rows = 0;
        for batches in chunks(&epoch, u64::from(batch_size)) {
            let some = epoch.rows(batches.clone(), progress)?;
            rows += some.len() as u64;
            let bytes: Vec<u8> = some.iter().flat_map(|&row| (row as i64).to_le_bytes()).collect();
            order.push(some.len() as u64, &bytes)?;
            stage.advance(batches.end - batches.start)?;
        }
        drop(stage);
        let bytes = order.finish()?;
        output.commit()?;
        Ok(Materialized {
            rows,
            left_out: left_out(&plan, &epochs, rows),
            batches: epoch.len(),
            batch_size,
            epoch: params.epoch,
            files: 1,
            bytes,
            seconds: begun.elapsed().as_secs_f64(),
            ..Materialized::default()
        })
    });
    if made && done.is_err() {
        // Nothing is in it: what was begun is gone.
        let _ = fs::remove_dir(&run.out);
    }
    done
}

/// Where [`list`] writes the rows of an epoch.
pub fn list_path(out: &Path, epoch: u32) -> PathBuf {
    out.join(format!("order-{epoch}.npy"))
}

/// Why a plan cannot be carried over to a copy.
fn no_plan(config: &Config, stored: &Stored, format: Format, drawn: bool) -> Option<String> {
    if format != Format::Parquet {
        return Some(format!("none: plans are made of Parquet files, not of {}", format.name()));
    }
    if drawn {
        return Some(
            "none: rows are drawn more than once or not at all, a plan would skew them again".into(),
        );
    }
    let mut needed = config
        .features
        .columns
        .iter()
        .map(String::as_str)
        .chain(config.roles().into_iter().map(|role| role.1));
    let lacking = needed.find(|name| stored.schema().field_with_name(name).is_err());
    lacking.map(|name| format!("none: the copy has no column `{name}`, which the plan was made from"))
}

/// How the copy is cut into row groups, files and buckets of files.
struct Shape {
    rows: u64,
    batch: u64,
    group: u64,
    file: u64,
    bucket: u64,
    row_bytes: u64,
    /// Rows that a thread reads at a time.
    at_once: usize,
    /// All rows are held while they are put in order.
    in_memory: bool,
}

impl Shape {
    fn new(
        stored: &Stored,
        added: &Added,
        epoch: &Epoch<'_>,
        batch: u64,
        file_bytes: u64,
        memory: u64,
    ) -> Result<Shape> {
        let row_bytes = stored.row_bytes()? + 8 * (2 + added.with.len() as u64);
        // All batches are full but the last.
        let last = epoch.len().checked_sub(1).map(|last| last * batch + epoch.record(last).rows.len() as u64);
        let rows = last.unwrap_or(0);
        let group = batch * (GROUP_ROWS.min(file_bytes / row_bytes) / batch).max(1);
        let file = group * (file_bytes / row_bytes / group).max(1);
        let bucket = file * rows.div_ceil(file).div_ceil(BUCKETS).max(1);
        Ok(Shape {
            rows,
            batch,
            group,
            file,
            bucket,
            row_bytes,
            at_once: (READ_BYTES / row_bytes).clamp(64, BLOCK) as usize,
            in_memory: rows * row_bytes <= memory / 3,
        })
    }

    fn buckets(&self) -> u64 {
        self.rows.div_ceil(self.bucket)
    }

    fn bucket(&self, place: u64) -> usize {
        (place / self.bucket) as usize
    }

    fn bucket_bytes(&self) -> u64 {
        self.bucket.min(self.rows).max(1) * self.row_bytes
    }

    /// Numbers of the files of a bucket.
    fn files_of(&self, bucket: usize) -> Range<u64> {
        let first = bucket as u64 * (self.bucket / self.file);
        first..(first + self.bucket / self.file).min(self.rows.div_ceil(self.file))
    }

    /// The places of the rows of a file.
    fn places_of(&self, file: u64) -> Range<u64> {
        file * self.file..((file + 1) * self.file).min(self.rows)
    }

    fn fits(&self, run: &Run, output: &Output) -> Result<()> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let needs = COPIES * self.bucket_bytes();
        if needs > run.memory {
            let reason = format!(
                "{} MiB are not enough: {} MiB of rows are put in order at a time",
                mib(run.memory),
                mib(self.bucket_bytes())
            );
            let help = format!("use --memory {}MiB or more, or a smaller --file-size", mib(needs));
            return Err(Error::config("memory", reason, help));
        }
        let copies = if self.in_memory { 1 } else { 2 };
        let (needs, free) = (copies * self.rows * self.row_bytes, disk_free(output.path())?);
        if needs > free {
            let reason = format!(
                "the copy and its working files take up to {} MiB, and {} MiB are free there",
                mib(needs),
                mib(free)
            );
            return Err(Error::config("--out", reason, "free some, or write to another disk"));
        }
        Ok(())
    }
}
