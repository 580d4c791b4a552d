//! Rows in another order, more of them than fit into memory: where each goes, the working files of what goes to neighbouring
//! places, and each of these put in order.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array, types::Int64Type};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use rayon::prelude::*;

use crate::batches::epochs::Epoch;
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::kit::scratch::{Scatter, Sorted};

/// Rows whose destinations are sorted together.
pub const BLOCK: u64 = 1 << 16;
/// Bytes of a destination: the row in its block, and where it goes.
const DESTINATION: usize = 12;
/// Bytes for the buffers of the destinations.
const SORT_BYTES: usize = 64 << 20;
/// Rows of an order that are dealt together.
const TOGETHER: u64 = 1 << 20;

/// The batches of an epoch, about [`TOGETHER`] rows at a time.
pub fn chunks(epoch: &Epoch<'_>, batch: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let (batches, chunk) = (epoch.len(), (TOGETHER / batch).max(1));
    (0..batches).step_by(chunk as usize).map(move |b| b..(b + chunk).min(batches))
}

/// Where the rows go, sorted by blocks of rows.
pub fn destinations(
    epoch: &Epoch<'_>,
    batch: u64,
    rows: u64,
    scratch: &Path,
    progress: &Progress,
) -> Result<Sorted> {
    let stage = progress.stage("order", "batches", 2 * epoch.len());
    let mut counts = vec![0u64; rows.div_ceil(BLOCK) as usize];
    for batches in chunks(epoch, batch) {
        epoch.rows(batches.clone(), progress)?.iter().for_each(|row| counts[(row / BLOCK) as usize] += 1);
        stage.advance(batches.end - batches.start)?;
    }
    let mut scatter = Scatter::create(&scratch.join("destinations"), DESTINATION, &counts, SORT_BYTES)?;
    let mut place = 0u64;
    for batches in chunks(epoch, batch) {
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
pub struct Block {
    number: Option<u64>,
    bytes: Vec<u8>,
    places: Vec<(u64, u64)>,
}

impl Block {
    /// Where some rows go: (row, place), by place. A row may go to several.
    pub fn destinations(&mut self, sorted: &Sorted, rows: Range<u64>) -> Result<Vec<(u64, u64)>> {
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
pub fn taken(
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
pub struct Bucket {
    path: PathBuf,
    held: Mutex<Vec<RecordBatch>>,
    spilled: Option<Mutex<StreamWriter<BufWriter<File>>>>,
}

impl Bucket {
    pub fn new(path: &Path, schema: &SchemaRef, in_memory: bool) -> Result<Bucket> {
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

    pub fn push(&self, rows: RecordBatch) -> Result<()> {
        match &self.spilled {
            None => self.held.lock().expect("no panic while holding").push(rows),
            Some(file) => {
                file.lock().expect("no panic while holding").write(&rows).map_err(failed(&self.path))?;
            }
        }
        Ok(())
    }

    /// All rows as one batch in the order of the copy, and the place of the first.
    pub fn ordered(&self, schema: &SchemaRef) -> Result<Ordered> {
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

/// A type that arrow cannot move or write.
pub fn arrow(error: ArrowError) -> Error {
    let help = "leave the column out with --columns, or write it in another type";
    Error::input("dataset", "has a column that cannot be copied", help).because(error.to_string())
}

pub fn failed(path: &Path) -> impl FnOnce(ArrowError) -> Error + '_ {
    move |error| {
        let cause = match error {
            ArrowError::IoError(_, cause) => cause,
            other => std::io::Error::other(other),
        };
        Error::io("write", path)(cause)
    }
}

pub struct Ordered {
    pub all: RecordBatch,
    pub order: Vec<u32>,
    /// Place of the first row in the copy.
    pub first: u64,
}
