//! `materialize`: the rows of a plan, written again in the order of its batches. Every file, every row group and every batch of
//! the copy is then a miniature of the whole data, and reading it from the first row to the last reads stratified batches.
//!
//! An external permutation. Where every row goes is sorted by row into a working file (12 bytes a row); the data is read once,
//! in its own order, each row appended to the working file of the bucket of output files that it goes to; every bucket is
//! then put in order in memory and written. Two reads and two writes of the rows, none where all of them fit into a third of the
//! memory. The bytes of the copy depend on the plan, the epoch and the data, not on memory or threads.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float32Array, Int64Array, RecordBatch, UInt32Array, types::Int64Type};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::synth::system_said;
use super::update::carry_over;
use crate::batches::epochs::Epoch;
use crate::config::{Config, Run};
use crate::format::staging::{Staging, disk_free};
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::kit::output::{Output, Replace};
use crate::kit::progress::Progress;
use crate::kit::scratch::{Scatter, Sorted};
use crate::plan::Plan;
use crate::source::{Stored, local_files};

/// A row group holds whole batches, about so many rows.
const GROUP_ROWS: u64 = 16_384;
/// A file holds whole row groups, about so many bytes once decoded, where nothing else is asked for.
pub const FILE_BYTES: u64 = 64 << 20;
/// Working files that are open at a time.
const BUCKETS: u64 = 512;
/// Rows whose destinations are sorted together.
const BLOCK: u64 = 1 << 16;
/// Bytes of a destination: the row in its block, and where it goes.
const DESTINATION: usize = 12;
/// Bytes that are read at a time on each thread, decoded.
const READ_BYTES: u64 = 16 << 20;
/// Bytes for the buffers of the destinations.
const SORT_BYTES: usize = 64 << 20;
/// A bucket is in memory twice while it is put in order, and its pages once more while they are written.
const COPIES: u64 = 4;

/// What to copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// The epoch whose order the copy has.
    pub epoch: u32,
    /// Rows of a batch, a candidate size of the plan; None: the plan's batch size.
    pub batch_size: Option<u32>,
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
        let (columns, with) = (Vec::new(), Vec::new());
        Params { epoch: 0, batch_size: None, columns, with, file_bytes: FILE_BYTES, plan: None }
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

/// Writes the rows of an epoch of the plan in `plan` to Parquet files in the directory `run.out`, and the plan carried over to
/// them to `params.plan`: modalities and strata stay, nothing is counted again. `data` is what the plan was
/// made from. `copied` is called when the copy is whole and its plan is begun. O(rows) time; at most `run.memory` memory; working files of the decoded rows beside the output, unless the
/// memory holds them.
///
/// # Errors
/// If the data is not the plan's, if files store a column in different types, if the disk or the memory is too small, if the
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
    if let Some(out) = &params.plan {
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
    let replace = if run.force { Replace::Any { own: is_shard } } else { Replace::Nothing };
    let output = Output::directory("--out", &run.out, replace, &keep)?;
    run.scope(progress, |engine| {
        let config = plan.config()?;
        let dataset = config.open(data, run.memory, progress)?;
        plan.check_dataset(&dataset, true)?;
        let stored = dataset.stored(&params.columns)?;
        let batch_size = params.batch_size.unwrap_or(plan.manifest().batch_size);
        let known = plan.manifest().candidates.iter().any(|c| c.batch_size == batch_size);
        if !known && batch_size != plan.manifest().batch_size {
            let sizes: Vec<String> =
                plan.manifest().candidates.iter().map(|c| c.batch_size.to_string()).collect();
            let reason = format!("{batch_size} is not a candidate of the plan");
            return Err(Error::config("--batch-size", reason, format!("choose one of {}", sizes.join(", "))));
        }
        let epochs = plan.epochs()?;
        let epoch = epochs.epoch(params.epoch, u64::from(batch_size));
        let samples = plan.samples()?;
        let added = Added::new(&plan, &stored, params)?;
        let shape =
            Shape::new(&stored, &added, &epoch, u64::from(batch_size), params.file_bytes, run.memory)?;
        shape.fits(run, &output)?;
        let scratch = output.path().join("scratch");
        std::fs::create_dir(&scratch).map_err(Error::io("create the directory", &scratch))?;
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
                    buckets[shape.bucket(some[0].1)].push(part)?;
                }
                stage.advance(rows)
            })
        })?;
        drop(stage);

        let stage = progress.stage("write", "rows", shape.rows);
        let width = (run.memory / (COPIES * shape.bucket_bytes())).clamp(1, engine.threads() as u64) as usize;
        let properties = properties(&plan, &stored, &added, params.epoch, batch_size)?;
        let mut written = Vec::new();
        for (wave, some) in buckets.chunks(width).enumerate() {
            let one = |(i, bucket): (usize, &Bucket)| {
                let ordered = bucket.ordered(&spill)?;
                let mut sizes = Vec::new();
                for file in shape.files_of(wave * width + i) {
                    let path = output.path().join(format!("part-{file:05}.parquet"));
                    sizes.push(write(&path, file, &ordered, &shape, &added, samples, &properties, &stage)?);
                }
                Ok(sizes)
            };
            let done: Vec<Result<Vec<u64>>> = some.par_iter().enumerate().map(one).collect();
            for sizes in done {
                written.extend(sizes?);
            }
        }
        drop(stage);
        std::fs::remove_dir_all(&scratch).map_err(Error::io("remove", &scratch))?;
        output.commit()?;
        let distinct = if epochs.draws.is_some() { plan.manifest().rows_planned } else { shape.rows };
        Ok(Materialized {
            rows: shape.rows,
            left_out: dataset.rows() - distinct.min(dataset.rows()),
            batches: epoch.len(),
            batch_size,
            epoch: params.epoch,
            files: written.len() as u64,
            bytes: written.iter().sum(),
            added: added.names(),
            no_plan: params.plan.as_ref().and_then(|_| no_plan(&config, &stored, epochs.draws.is_some())),
            ..Materialized::default()
        })
    })
}

/// Why a plan cannot be carried over to a copy.
fn no_plan(config: &Config, stored: &Stored, drawn: bool) -> Option<String> {
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

fn is_shard(name: &str) -> bool {
    let number = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(".parquet"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn arrow(error: ArrowError) -> Error {
    let help = "leave the column out with --columns, or write it in another type";
    Error::input("dataset", "has a column that cannot be copied", help).because(error.to_string())
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

/// Where the rows go, sorted by blocks of rows.
fn destinations(
    epoch: &Epoch<'_>,
    batch: u64,
    rows: u64,
    scratch: &Path,
    progress: &Progress,
) -> Result<Sorted> {
    const TOGETHER: u64 = 1 << 20;
    let chunk = (TOGETHER / batch).max(1);
    let chunks = || (0..epoch.len()).step_by(chunk as usize).map(|b| b..(b + chunk).min(epoch.len()));
    let stage = progress.stage("order", "batches", 2 * epoch.len());
    let mut counts = vec![0u64; rows.div_ceil(BLOCK) as usize];
    for batches in chunks() {
        epoch.rows(batches.clone(), progress)?.iter().for_each(|row| counts[(row / BLOCK) as usize] += 1);
        stage.advance(batches.end - batches.start)?;
    }
    let mut scatter = Scatter::create(&scratch.join("destinations"), DESTINATION, &counts, SORT_BYTES)?;
    let mut place = 0u64;
    for batches in chunks() {
        for row in epoch.rows(batches.clone(), progress)? {
            let mut record = [0; DESTINATION];
            record[..4].copy_from_slice(&((row % BLOCK) as u32).to_le_bytes());
            record[4..].copy_from_slice(&place.to_le_bytes());
            scatter.push((row / BLOCK) as usize, &record)?;
            place += 1;
        }
        stage.advance(batches.end - batches.start)?;
    }
    scatter.finish()
}

/// Destinations of the block of rows that was asked for last: (row, where it goes), sorted.
#[derive(Default)]
struct Block {
    number: Option<u64>,
    bytes: Vec<u8>,
    places: Vec<(u64, u64)>,
}

impl Block {
    /// Where some rows go: (row, place), by place. A row may go to several.
    fn destinations(&mut self, sorted: &Sorted, rows: Range<u64>) -> Result<Vec<(u64, u64)>> {
        let mut out = Vec::new();
        for number in rows.start / BLOCK..rows.end.div_ceil(BLOCK) {
            if self.number != Some(number) {
                sorted.bucket(number as usize, &mut self.bytes)?;
                let record = |r: &[u8; DESTINATION]| {
                    let row = u32::from_le_bytes(*r.first_chunk().expect("four of twelve bytes"));
                    let place = u64::from_le_bytes(*r.last_chunk().expect("eight of twelve bytes"));
                    (number * BLOCK + u64::from(row), place)
                };
                self.places = self.bytes.as_chunks().0.iter().map(record).collect();
                self.places.sort_unstable();
                self.number = Some(number);
            }
            let from = self.places.partition_point(|(row, _)| *row < rows.start);
            let to = self.places.partition_point(|(row, _)| *row < rows.end);
            out.extend_from_slice(&self.places[from..to]);
        }
        out.sort_unstable_by_key(|&(_, place)| place);
        Ok(out)
    }
}

/// Some rows of a batch that begins at row `first`, with their numbers and where they go.
fn taken(
    batch: &RecordBatch,
    first: u64,
    places: &[(u64, u64)],
    schema: &SchemaRef,
) -> std::result::Result<RecordBatch, ArrowError> {
    let indices: UInt32Array = places.iter().map(|(row, _)| (row - first) as u32).collect();
    let rows: Int64Array = places.iter().map(|(row, _)| *row as i64).collect();
    let to: Int64Array = places.iter().map(|(_, place)| *place as i64).collect();
    let part = take_record_batch(batch, &indices)?;
    // A view keeps the text of all rows that it was taken from.
    let own = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column.clone(),
        }
    };
    let columns = part.columns().iter().map(own).chain([Arc::new(rows) as ArrayRef, Arc::new(to)]);
    RecordBatch::try_new(schema.clone(), columns.collect())
}

/// The rows of some output files, in any order.
struct Bucket {
    path: PathBuf,
    held: Mutex<Vec<RecordBatch>>,
    spilled: Option<Mutex<StreamWriter<BufWriter<File>>>>,
}

impl Bucket {
    fn new(path: &Path, schema: &SchemaRef, in_memory: bool) -> Result<Bucket> {
        let spilled = match in_memory {
            true => None,
            false => {
                let file = File::create(path).map_err(Error::io("create", path))?;
                let writer = StreamWriter::try_new_buffered(file, schema).map_err(failed(path))?;
                Some(Mutex::new(writer))
            }
        };
        Ok(Bucket { path: path.to_path_buf(), held: Mutex::default(), spilled })
    }

    fn push(&self, rows: RecordBatch) -> Result<()> {
        match &self.spilled {
            None => self.held.lock().expect("no panic while holding").push(rows),
            Some(file) => {
                file.lock().expect("no panic while holding").write(&rows).map_err(failed(&self.path))?;
            }
        }
        Ok(())
    }

    /// All rows as one batch in the order of the copy, and the place of the first.
    fn ordered(&self, schema: &SchemaRef) -> Result<Ordered> {
        let mut batches = std::mem::take(&mut *self.held.lock().expect("no panic while holding"));
        if let Some(file) = &self.spilled {
            let mut file = file.lock().expect("no panic while holding");
            file.finish().and_then(|()| file.flush()).map_err(failed(&self.path))?;
            let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
            let reader = StreamReader::try_new(BufReader::new(file), None).map_err(failed(&self.path))?;
            batches = reader.collect::<std::result::Result<_, _>>().map_err(failed(&self.path))?;
            std::fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))?;
        }
        let all = concat_batches(schema, &batches).map_err(arrow)?;
        drop(batches);
        let places = all.column(all.num_columns() - 1).as_primitive::<Int64Type>().values();
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.par_sort_unstable_by_key(|&i| places[i as usize]);
        let first = order.first().map_or(0, |&i| places[i as usize] as u64);
        Ok(Ordered { all, order, first })
    }
}

fn failed(path: &Path) -> impl FnOnce(ArrowError) -> Error + '_ {
    move |error| {
        let cause = match error {
            ArrowError::IoError(_, cause) => cause,
            other => std::io::Error::other(other),
        };
        Error::io("write", path)(cause)
    }
}

struct Ordered {
    all: RecordBatch,
    order: Vec<u32>,
    /// Place of the first row in the copy.
    first: u64,
}

/// The columns that a copy has beside those of the data.
struct Added {
    batch: String,
    row: String,
    with: Vec<(With, String)>,
}

impl Added {
    fn new(plan: &Plan, stored: &Stored, params: &Params) -> Result<Added> {
        let mut taken = stored.names();
        // A name that is there already gets a suffix.
        let mut unused = |name: &str| {
            let mut free = name.to_string();
            while taken.contains(&free) {
                free += "_plan";
            }
            taken.push(free.clone());
            free
        };
        let (batch, row) = (unused("batch"), unused("row"));
        let with = params.with.iter().map(|&with| (with, unused(with.name()))).collect();
        if params.with.contains(&With::Centrality)
            && plan.samples()?.centrality(0).is_none()
            && plan.weights()?.is_empty()
        {
            let help = "leave it out, or make a plan with weights";
            return Err(Error::config("--with", "the plan has no centralities", help));
        }
        Ok(Added { batch, row, with })
    }

    fn names(&self) -> Vec<String> {
        let with = self.with.iter().map(|(_, name)| name.clone());
        [self.batch.clone(), self.row.clone()].into_iter().chain(with).collect()
    }

    /// The columns of a working file: the data's, the row's number and its place in the copy.
    fn spilled(&self, data: &SchemaRef) -> SchemaRef {
        let own = [&self.row, &self.batch].map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
        Arc::new(Schema::new(data.fields().iter().cloned().chain(own).collect::<Vec<_>>()))
    }

    /// The columns of the copy.
    fn schema(&self, data: &SchemaRef) -> SchemaRef {
        let own = [&self.batch, &self.row].map(|name| Field::new(name, DataType::Int64, false));
        let with = self.with.iter().map(|(with, name)| match with {
            With::Centrality => Field::new(name, DataType::Float32, true),
            _ => Field::new(name, DataType::Int64, false),
        });
        let added = own.into_iter().chain(with).map(Arc::new);
        Arc::new(Schema::new(data.fields().iter().cloned().chain(added).collect::<Vec<_>>()))
    }
}

/// Zstandard, and for numbers of vectors their bytes apart; what made the copy stands in the metadata.
fn properties(
    plan: &Plan,
    stored: &Stored,
    added: &Added,
    epoch: u32,
    batch_size: u32,
) -> Result<WriterProperties> {
    let schema = added.schema(stored.schema());
    let columns = ArrowSchemaConverter::new().convert(&schema).map_err(|e| arrow(e.into()))?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_max_row_group_row_count(None);
    for column in columns.columns() {
        let float = matches!(column.physical_type(), Physical::FLOAT | Physical::DOUBLE);
        if float && column.max_rep_level() > 0 {
            let path = column.path().clone();
            properties = properties
                .set_column_encoding(path.clone(), Encoding::BYTE_STREAM_SPLIT)
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    let mut metadata: Vec<KeyValue> = (stored.metadata().iter())
        .filter(|(key, _)| *key != "ARROW:schema" && !key.starts_with("batchwright."))
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        .collect();
    metadata.sort_by(|a, b| a.key.cmp(&b.key));
    metadata.push(KeyValue::new("batchwright.plan".into(), plan.manifest().plan.clone()));
    metadata.push(KeyValue::new("batchwright.epoch".into(), epoch.to_string()));
    metadata.push(KeyValue::new("batchwright.batch_size".into(), batch_size.to_string()));
    Ok(properties.set_key_value_metadata(Some(metadata)).build())
}

/// Writes one file; its bytes.
#[expect(clippy::too_many_arguments, reason = "called in one place, where all of it is at hand")]
fn write(
    path: &Path,
    file: u64,
    from: &Ordered,
    shape: &Shape,
    added: &Added,
    samples: &crate::format::samples::Samples,
    properties: &WriterProperties,
    stage: &crate::kit::progress::Stage<'_>,
) -> Result<u64> {
    let failed = |e: ParquetError| Error::io("write", path)(system_said(e));
    let out = File::create(path).map_err(Error::io("create", path))?;
    let data = from.all.num_columns() - 2;
    let schema = {
        let fields = from.all.schema().fields()[..data].to_vec();
        added.schema(&Arc::new(Schema::new(fields)))
    };
    let mut writer = ArrowWriter::try_new(out, schema.clone(), Some(properties.clone())).map_err(failed)?;
    let rows = file * shape.file..((file + 1) * shape.file).min(shape.rows);
    for first in rows.clone().step_by(shape.group as usize) {
        let end = (first + shape.group).min(rows.end);
        let order = &from.order[(first - from.first) as usize..(end - from.first) as usize];
        let group = take_record_batch(&from.all, &UInt32Array::from(order.to_vec())).map_err(arrow)?;
        let numbers = group.column(data).clone();
        let batches: Int64Array = (first..end).map(|place| (place / shape.batch) as i64).collect();
        let mut columns: Vec<ArrayRef> = group.columns()[..data].to_vec();
        columns.push(Arc::new(batches));
        columns.push(numbers.clone());
        let of = numbers.as_primitive::<Int64Type>().values();
        for (with, _) in &added.with {
            let id = |id: u32| if id == NONE { -1 } else { i64::from(id) };
            columns.push(match with {
                With::Modality => {
                    Arc::new(of.iter().map(|&r| Some(id(samples.modality(r as u64)))).collect::<Int64Array>())
                }
                With::Stratum => {
                    Arc::new(of.iter().map(|&r| Some(id(samples.stratum(r as u64)))).collect::<Int64Array>())
                }
                With::Centrality => {
                    Arc::new(of.iter().map(|&r| samples.centrality(r as u64)).collect::<Float32Array>())
                }
            });
        }
        let group = RecordBatch::try_new(schema.clone(), columns).map_err(arrow)?;
        writer.write(&group).and_then(|()| writer.flush()).map_err(failed)?;
        stage.advance(end - first)?;
    }
    let out = writer.into_inner().map_err(failed)?;
    out.sync_all().map_err(Error::io("write", path))?;
    out.metadata().map(|m| m.len()).map_err(Error::io("read", path))
}
