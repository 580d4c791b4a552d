//! Any rows of any columns: ranges by parts, or chosen rows gathered.
//!
//! Vector columns come from the pages where they can ([`pages`](super::pages)) and from the arrow reader where they
//! cannot; all others come from the arrow reader as one record batch of unified types, whatever the files store:
//!
//! | kind | type in the table |
//! |---|---|
//! | integers | Int64, or UInt64 where all files have that |
//! | times of day, durations | Int64, in the finest unit of all files |
//! | dates | Date32 |
//! | timestamps | Timestamp, in the finest unit of all files; in UTC where their zones differ |
//! | f16, f32, f64, and integers in other files | Float64 |
//! | decimals | Decimal128 or Decimal256 |
//! | booleans | Boolean |
//! | Utf8 in any form, dictionaries of it, UUIDs | Utf8 |
//! | lists of Utf8 in any form | List of Utf8 |
//!
//! Keys of hive partitions are Int64 if all their values are integers as such are written, else Utf8. A file in which the
//! column is of type Null has nulls.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::{concat, concat_batches};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use rayon::prelude::*;

use super::blob::Reader;
use super::dataset::Dataset;
use super::element::{Element, element};
use super::opened::Opened;
use super::pages::{self, Fault, Layout};
use super::schema::ReadAs;
use super::{Bad, Kind, RawRows, width};
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::parts::{Local, Part, Read};

/// A gather reads stretches of at most this many rows and copies the wanted ones out.
const STRETCH: u64 = 4096;
/// Wanted rows farther apart than this are read separately: a page is rarely longer.
const GAP: u64 = 512;
/// Rows decoded at a time on the arrow path.
const BATCH: usize = 4096;

/// Chosen columns of a dataset.
#[derive(Clone, Debug)]
pub struct Columns {
    dataset: Dataset,
    vectors: Vec<Vector>,
    /// Of the table, in request order; empty if none was asked for.
    schema: SchemaRef,
    way: Way,
}

/// By which way vectors are read: tests compare them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// From the pages, or through the arrow reader where that cannot be done.
    #[default]
    Best,
    /// From the pages or not at all.
    Pages,
    Arrow,
}

#[derive(Clone, Debug)]
struct Vector {
    name: String,
    dims: usize,
}

/// Buffers of [`Columns::gather`], one a thread: memory that is new to the process costs more than what is read into it.
pub(crate) type Stretches = Mutex<Vec<Vec<f32>>>;

/// Rows of one row group, as offsets inside it.
enum Wanted<'a> {
    Range(Range<u64>),
    Ascending(&'a [u64]),
}

impl Wanted<'_> {
    fn count(&self) -> usize {
        match self {
            Wanted::Range(range) => width(range),
            Wanted::Ascending(offsets) => offsets.len(),
        }
    }

    /// Of the row at this place among the wanted ones.
    fn offset(&self, place: usize) -> u64 {
        match self {
            Wanted::Range(range) => range.start + place as u64,
            Wanted::Ascending(offsets) => offsets[place],
        }
    }

    fn selection(&self) -> RowSelection {
        let mut selectors: Vec<RowSelector> = Vec::new();
        let mut at = 0;
        let mut select = |from: u64, count: usize| {
            match selectors.last_mut() {
                Some(last) if from == at => last.row_count += count,
                _ => selectors.extend([RowSelector::skip((from - at) as usize), RowSelector::select(count)]),
            }
            at = from + count as u64;
        };
        match self {
            Wanted::Range(range) => select(range.start, width(range)),
            Wanted::Ascending(offsets) => offsets.iter().for_each(|&offset| select(offset, 1)),
        }
        selectors.into()
    }
}

impl Columns {
    /// `vectors` are read as matrices, `table` as one record batch; both may be empty. Err if a column does not exist or
    /// is of no kind that can be read this way.
    pub fn new(dataset: &Dataset, vectors: Vec<String>, table: Vec<String>) -> Result<Self> {
        let vector = |name: String| match dataset.column(&name, "features.columns")?.kind {
            Kind::Vector { dims: 0 } => {
                let reason = "has only null or empty lists";
                let path = dataset.files().first().map_or("dataset", |f| f.path.as_str());
                Err(Error::input(path, reason, "choose a column with numbers in it, with --features")
                    .column(&name))
            }
            // A schema may promise rows of any length.
            Kind::Vector { dims } if 4 * dims as u64 > dataset.limit() => {
                let reason = format!("has {dims} numbers in a row, more than there is memory for");
                let path = dataset.files().first().map_or("dataset", |f| f.path.as_str());
                Err(Error::input(path, reason, "allow more with --memory, or leave the column out")
                    .column(&name))
            }
            Kind::Vector { dims } => Ok(Vector { name, dims }),
            _ => {
                let help =
                    "a vector is a List or FixedSizeList of numbers, or bytes read by --as f16, f32 or f64";
                let stored = &dataset.column(&name, "features.columns")?.stored;
                Err(Error::config(
                    "features.columns",
                    format!("column `{name}` is of type {stored}, which is no vector"),
                    help,
                ))
            }
        };
        let field = |name: String| match dataset.column(&name, "columns")?.kind {
            Kind::Vector { .. } | Kind::Other => {
                let stored = &dataset.column(&name, "columns")?.stored;
                let help = "choose a column of numbers, texts, booleans or dates";
                Err(Error::config(
                    "columns",
                    format!("column `{name}` has type {stored}, which is not a plain value"),
                    help,
                ))
            }
            _ => Ok(Field::new(&name, dataset.read_as(&name)?.table, true)),
        };
        let vectors = vectors.into_iter().map(vector).collect::<Result<_>>()?;
        let fields: Vec<Field> = table.into_iter().map(field).collect::<Result<_>>()?;
        Ok(Columns {
            dataset: dataset.clone(),
            vectors,
            schema: Arc::new(Schema::new(fields)),
            way: Way::Best,
        })
    }

    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The same columns, their vectors read one way.
    #[doc(hidden)]
    pub fn through(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// The rows named by `rows` (ascending global row numbers, each once), in parallel, reading only pages that hold
    /// some of them. Memory: O(result) + a few thousand rows a thread.
    pub fn gather(&self, rows: &[u64], engine: &Local) -> Result<RawRows> {
        debug_assert!(rows.is_sorted_by(|a, b| a < b), "ascending rows");
        let mut groups = Vec::new();
        let mut rest = rows;
        while let Some(&first) = rest.first() {
            let group = self.dataset.group_of(first);
            let end = self.dataset.row_groups()[group].first_row + self.dataset.row_groups()[group].rows;
            let (inside, after) = rest.split_at(rest.partition_point(|&row| row < end));
            groups.push((group, inside));
            rest = after;
        }
        let stretches = Stretches::default();
        let one = |(group, rows): (usize, &[u64])| {
            engine.progress().check()?;
            let file = self.dataset.opened(self.dataset.row_groups()[group].file);
            self.gather_group(group, rows, &file.blob.open()?, &stretches)
        };
        let parts: Vec<Result<RawRows>> = engine.install(|| groups.into_par_iter().map(one).collect());
        self.join(parts)
    }

    /// [`Columns::gather`] for rows of one row group.
    pub(crate) fn gather_group(
        &self,
        group: usize,
        rows: &[u64],
        reader: &Reader,
        buffers: &Stretches,
    ) -> Result<RawRows> {
        let first = self.dataset.row_groups()[group].first_row;
        let offsets: Vec<u64> = rows.iter().map(|row| row - first).collect();
        let mut out = self.empty(rows.len());
        // Files without rows need not have the columns.
        if rows.is_empty() {
            return Ok(out);
        }
        out.rows.extend(rows);
        let mut faults = Vec::new();
        let stretches = stretches(&offsets);
        for (vector, matrix) in self.vectors.iter().zip(&mut out.vectors) {
            let mut rest = matrix.as_mut_slice();
            let mut tasks = Vec::with_capacity(stretches.len());
            for places in &stretches {
                let (into, after) = rest.split_at_mut(places.len() * vector.dims);
                tasks.push((places.clone(), into));
                rest = after;
            }
            let read = |(places, into): (Range<usize>, &mut [f32])| {
                let offsets = &offsets[places.clone()];
                let range = offsets[0]..offsets[offsets.len() - 1] + 1;
                let mut all = buffers.lock().expect("no panic while holding").pop().unwrap_or_default();
                all.resize(width(&range) * vector.dims, 0.0);
                let found = self.read_vectors(vector, group, reader, range.clone(), &mut all)?;
                for (to, &offset) in into.chunks_exact_mut(vector.dims).zip(offsets) {
                    let from = (offset - range.start) as usize * vector.dims;
                    to.copy_from_slice(&all[from..from + vector.dims]);
                }
                buffers.lock().expect("no panic while holding").push(all);
                let wanted = |(index, reason): Fault| {
                    let place = offsets.binary_search(&(range.start + index as u64)).ok()?;
                    Some((places.start + place, reason))
                };
                Ok(found.into_iter().filter_map(wanted).collect())
            };
            let found: Vec<Result<Vec<Fault>>> = tasks.into_par_iter().map(read).collect();
            for found in found {
                faults.extend(found?.into_iter().map(|(index, reason)| bad(index, vector, reason)));
            }
        }
        mark(faults, &mut out);
        if self.has_table() {
            let columns = self.read_table(group, reader, &Wanted::Ascending(&offsets))?;
            out.table = Some(self.batch(columns, rows.len())?);
        }
        Ok(out)
    }

    /// One after the other; the first error is the one told.
    pub(crate) fn join(&self, parts: Vec<Result<RawRows>>) -> Result<RawRows> {
        let parts: Vec<RawRows> = parts.into_iter().collect::<Result<_>>()?;
        let mut out = self.empty(parts.iter().map(|p| p.rows.len()).sum());
        for (v, into) in out.vectors.iter_mut().enumerate() {
            let mut rest = into.as_mut_slice();
            let mut copies: Vec<(&mut [f32], &[f32])> = Vec::with_capacity(parts.len());
            for part in &parts {
                let from = part.vectors[v].as_slice();
                let (here, after) = rest.split_at_mut(from.len());
                copies.push((here, from));
                rest = after;
            }
            copies.into_par_iter().for_each(|(into, from)| into.copy_from_slice(from));
        }
        for part in &parts {
            let at = out.rows.len();
            out.bad.extend(part.bad.iter().map(|b| Bad { index: at + b.index, ..b.clone() }));
            out.rows.extend(&part.rows);
        }
        if self.has_table() {
            let batches: Vec<RecordBatch> = parts.into_iter().filter_map(|p| p.table).collect();
            out.table = Some(concat_batches(&self.schema, &batches).map_err(too_large)?);
        }
        Ok(out)
    }

    fn has_table(&self) -> bool {
        !self.schema.fields().is_empty()
    }

    fn empty(&self, rows: usize) -> RawRows {
        RawRows {
            rows: Vec::with_capacity(rows),
            vectors: self.vectors.iter().map(|v| Matrix::zeros(rows, v.dims)).collect(),
            table: self.has_table().then(|| RecordBatch::new_empty(self.schema.clone())),
            bad: Vec::new(),
        }
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(too_large)
    }

    /// A stretch of one row group; faulty rows are zeroed.
    fn read_vectors(
        &self,
        vector: &Vector,
        group: usize,
        reader: &Reader,
        rows: Range<u64>,
        out: &mut [f32],
    ) -> Result<Vec<Fault>> {
        let place = &self.dataset.row_groups()[group];
        let file = self.dataset.opened(place.file);
        let root = file.root(&vector.name).expect("all files have the vector columns");
        let field = file.metadata.schema().field(root);
        if *field.data_type() == DataType::Null {
            out.fill(0.0);
            return Ok((0..width(&rows)).map(|i| (i, "is null".to_string())).collect());
        }
        let element = element(file, field, self.dataset.bytes_as());
        let layout = element.and_then(|element| Layout::new(file, root, element, vector.dims));
        let layout = layout.filter(|_| self.way != Way::Arrow);
        let maps = self.dataset.maps();
        let read = |layout: Layout| {
            pages::read(maps, (place.file, file), reader, place.row_group, &layout, rows.clone(), out)
        };
        let mut faults = match layout.map(read).transpose()?.flatten() {
            Some((true, faults)) => return Ok(faults),
            Some((false, faults)) => faults,
            None if self.way == Way::Pages => panic!("`{}` cannot be read from the pages", vector.name),
            None => {
                let mut rounded = false;
                let found =
                    through_arrow(file, reader, place.row_group, root, element, rows, out, &mut rounded);
                if rounded {
                    self.dataset.note_rounded(&vector.name);
                }
                found?
            }
        };
        let mut known = faults.iter().map(|f| f.0).peekable();
        let mut strange = Vec::new();
        for (i, row) in out.chunks_exact_mut(vector.dims).enumerate() {
            if known.next_if_eq(&i).is_none() && !row.iter().all(|x| x.is_finite()) {
                let place = row.iter().position(|x| !x.is_finite()).expect("one is not finite");
                let what = match (row[place].is_nan(), element) {
                    (true, _) => "NaN",
                    (false, Some(Element::F64)) => "an infinite number, or one beyond the range of f32,",
                    (false, _) => "an infinite number",
                };
                strange.push((i, format!("has {what} at place {place}")));
                row.fill(0.0);
            }
        }
        faults.extend(strange);
        faults.sort_unstable_by_key(|fault| fault.0);
        Ok(faults)
    }

    /// The table's columns of some rows of a row group, in request order.
    fn read_table(&self, group: usize, reader: &Reader, wanted: &Wanted) -> Result<Vec<ArrayRef>> {
        let place = &self.dataset.row_groups()[group];
        let file = self.dataset.opened_for_tables(place.file);
        let rows = wanted.count();
        let mut roots: Vec<usize> = self.schema.fields().iter().filter_map(|f| file.root(f.name())).collect();
        roots.sort_unstable();
        roots.dedup();
        let mut batches: Vec<RecordBatch> = Vec::new();
        if !roots.is_empty() {
            let whole = rows as u64 == place.rows;
            let selection = (!whole).then(|| wanted.selection());
            for batch in file.batches(reader, place.row_group, &roots, selection, rows)? {
                batches.push(batch?);
            }
            let got: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if got != rows {
                let reason = format!("holds {got} of {rows} rows that its footer promises");
                return Err(Error::input(&file.blob.name, reason, "the file is damaged: write it again"));
            }
        }
        let column = |field: &Arc<Field>| -> Result<ArrayRef> {
            if file.root(field.name()).is_none() {
                let value = file.partition(field.name()).expect("a column is in the file or its partition");
                return Ok(constant(value, field.data_type(), rows));
            }
            let to = self.dataset.read_as(field.name())?;
            let mut done = 0;
            let mut parts = Vec::with_capacity(batches.len());
            for batch in &batches {
                let stored = batch.column_by_name(field.name()).expect("it was asked for");
                let converted = self.convert(stored, field, &to);
                parts.push(converted.map_err(|(i, cause)| {
                    let (path, row) = self.dataset.describe_row(place.first_row + wanted.offset(done + i));
                    let reason = format!("has a value that {} cannot hold", field.data_type());
                    let help = "rewrite the column in a type that holds all its values, or leave it out";
                    Error::input(path, reason, help).column(field.name()).row(row).because(cause)
                })?);
                done += stored.len();
            }
            joined(parts, field)
        };
        self.schema.fields().iter().map(column).collect()
    }

    /// In the type of the table; or the place of the first value that it cannot hold.
    fn convert(
        &self,
        array: &ArrayRef,
        field: &Field,
        to: &ReadAs,
    ) -> std::result::Result<ArrayRef, (usize, ArrowError)> {
        let converted = match array.data_type() {
            DataType::FixedSizeBinary(16) => uuids(array),
            _ => cast(&cast(array, &to.through)?, &to.table)?,
        };
        if rounds(array, &converted) {
            self.dataset.note_rounded(field.name());
        }
        Ok(converted)
    }
}

impl Read for Columns {
    type Item = RawRows;

    /// Of the vectors, as `f32`.
    fn row_bytes(&self) -> u64 {
        self.vectors.iter().map(|vector| 4 * vector.dims as u64).sum()
    }

    /// Reads a part, on one thread. A part may span row groups and files. O(rows) whatever its place.
    fn read(&self, part: &Part, into: &mut RawRows) -> Result<()> {
        into.rows.clear();
        into.rows.extend(part.range());
        into.bad.clear();
        into.vectors.resize_with(self.vectors.len(), Matrix::default);
        for (vector, matrix) in self.vectors.iter().zip(&mut into.vectors) {
            matrix.reset(part.rows, vector.dims);
        }
        let mut faults = Vec::new();
        let mut columns = vec![Vec::new(); self.schema.fields().len()];
        let mut row = part.range().start;
        while row < part.range().end {
            let group = self.dataset.group_of(row);
            let place = &self.dataset.row_groups()[group];
            let from = row - place.first_row;
            let range = from..place.rows.min(part.range().end - place.first_row);
            let reader = self.dataset.opened(place.file).blob.open()?;
            let done = (row - part.first) as usize;
            for (vector, matrix) in self.vectors.iter().zip(&mut into.vectors) {
                let out = &mut matrix.as_mut_slice()[done * vector.dims..][..width(&range) * vector.dims];
                let found = self.read_vectors(vector, group, &reader, range.clone(), out)?;
                faults.extend(found.into_iter().map(|(index, reason)| bad(done + index, vector, reason)));
            }
            if self.has_table() {
                let read = self.read_table(group, &reader, &Wanted::Range(range.clone()))?;
                columns
                    .iter_mut()
                    .zip(read)
                    .for_each(|(all, array): (&mut Vec<ArrayRef>, _)| all.push(array));
            }
            row = place.first_row + range.end;
        }
        mark(faults, into);
        into.table = None;
        if self.has_table() {
            let fields = self.schema.fields().iter();
            let columns = columns.into_iter().zip(fields).map(|(parts, field)| joined(parts, field));
            into.table = Some(self.batch(columns.collect::<Result<_>>()?, part.rows)?);
        }
        Ok(())
    }
}

fn bad(index: usize, vector: &Vector, reason: String) -> Bad {
    Bad { index, column: vector.name.clone(), reason }
}

/// Ascending, one entry a row (of the first column in request order), and every vector of such a row zero.
fn mark(mut faults: Vec<Bad>, rows: &mut RawRows) {
    faults.sort_by_key(|bad| bad.index);
    faults.dedup_by_key(|bad| bad.index);
    for bad in &faults {
        for matrix in &mut rows.vectors {
            matrix.row_mut(bad.index).fill(0.0);
        }
    }
    rows.bad = faults;
}

/// Places of neighbouring wanted rows that are read together.
fn stretches(offsets: &[u64]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for (i, &offset) in offsets.iter().enumerate() {
        match out.last_mut() {
            Some(last) if offset - offsets[last.start] < STRETCH && offset - offsets[i - 1] <= GAP => {
                last.end = i + 1
            }
            _ => out.push(i..i + 1),
        }
    }
    out
}

/// Vectors by way of Arrow arrays: finds the faulty rows, which are zeroed, and what is wrong with them; and whether a whole
/// number was `rounded`.
#[expect(clippy::too_many_arguments, reason = "where to read from, what, and where to")]
fn through_arrow(
    file: &Opened,
    reader: &Reader,
    row_group: usize,
    root: usize,
    element: Option<Element>,
    rows: Range<u64>,
    out: &mut [f32],
    rounded: &mut bool,
) -> Result<Vec<Fault>> {
    let count = width(&rows);
    let dims = out.len() / count.max(1);
    out.fill(0.0);
    let mut faults = Vec::new();
    let mut at = 0;
    let selection = Wanted::Range(rows).selection();
    // A null row of a FixedSizeList takes as much as any other.
    let batch_rows = (file.limit / (4 * dims.max(1)) as u64).clamp(1, BATCH as u64) as usize;
    for batch in file.batches(reader, row_group, &[root], Some(selection), batch_rows)? {
        let batch = batch?;
        let array = batch.column(0);
        for i in 0..array.len() {
            let into = &mut out[at * dims..(at + 1) * dims];
            if let Err(reason) = vector_row(array, i, element, into, rounded) {
                into.fill(0.0);
                faults.push((at, reason));
            }
            at += 1;
        }
    }
    if at != count {
        let reason = format!("holds {at} of {count} rows that its footer promises");
        return Err(Error::input(&file.blob.name, reason, "the file is damaged: write it again"));
    }
    Ok(faults)
}

/// One cell of a vector column, or why there is no vector. `element`: of bytes.
fn vector_row(
    array: &ArrayRef,
    i: usize,
    element: Option<Element>,
    into: &mut [f32],
    rounded: &mut bool,
) -> Result<(), String> {
    if array.is_null(i) {
        return Err("is null".into());
    }
    let values = match array.data_type() {
        DataType::FixedSizeBinary(_) => {
            let element = element.ok_or("is not known to be numbers")?;
            pages::numbers(array.as_fixed_size_binary().value(i), element, into);
            return Ok(());
        }
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(i),
        DataType::LargeList(_) => array.as_list::<i64>().value(i),
        _ => array.as_list::<i32>().value(i),
    };
    if values.len() != into.len() {
        let s = if values.len() == 1 { "" } else { "s" };
        return Err(format!("has {} number{s}, not {}", values.len(), into.len()));
    }
    if let Some(place) = (0..values.len()).find(|&j| values.is_null(j)) {
        return Err(format!("has null at place {place}"));
    }
    fn copy<T: ArrowPrimitiveType>(values: &ArrayRef, into: &mut [f32], number: impl Fn(T::Native) -> f32) {
        let from = values.as_primitive::<T>().values();
        into.iter_mut().zip(from).for_each(|(to, &x)| *to = number(x));
    }
    match values.data_type() {
        DataType::Float16 => copy::<Float16Type>(&values, into, |x| x.to_f32()),
        DataType::Float32 => copy::<Float32Type>(&values, into, |x| x),
        DataType::Float64 => copy::<Float64Type>(&values, into, |x| x as f32),
        DataType::Int8 => copy::<Int8Type>(&values, into, f32::from),
        DataType::UInt8 => copy::<UInt8Type>(&values, into, f32::from),
        DataType::Int16 => copy::<Int16Type>(&values, into, f32::from),
        DataType::UInt16 => copy::<UInt16Type>(&values, into, f32::from),
        DataType::Int32 => copy::<Int32Type>(&values, into, |x| x as f32),
        DataType::UInt32 => copy::<UInt32Type>(&values, into, |x| x as f32),
        DataType::Int64 => copy::<Int64Type>(&values, into, |x| x as f32),
        DataType::UInt64 => copy::<UInt64Type>(&values, into, |x| x as f32),
        DataType::Boolean => {
            into.iter_mut().enumerate().for_each(|(j, to)| *to = f32::from(values.as_boolean().value(j)))
        }
        other => return Err(format!("is of {other}")),
    }
    // Numbers of this size may have been rounded, and whole ones are all exact below it.
    *rounded |= values.data_type().is_integer() && into.iter().any(|x| x.abs() > EXACT_F32);
    Ok(())
}

pub(super) fn constant(value: Option<&str>, data_type: &DataType, rows: usize) -> ArrayRef {
    match data_type {
        DataType::Int64 => {
            let number: Option<i64> = value.map(|v| v.parse().expect("all values were parsed at open"));
            Arc::new(Int64Array::from(vec![number; rows]))
        }
        _ => Arc::new(StringArray::from(vec![value; rows])),
    }
}

/// The array in another type; or the place of the first value that this cannot hold.
fn cast(array: &ArrayRef, to: &DataType) -> std::result::Result<ArrayRef, (usize, ArrowError)> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let options = |safe| CastOptions { safe, ..Default::default() };
    // Times of day go through the integer of their own width.
    let step = match (array.data_type(), to) {
        (DataType::Time32(_), DataType::Int64) => cast(array, &DataType::Int32)?,
        _ => array.clone(),
    };
    cast_with_options(&step, to, &options(false)).map_err(|cause| {
        let lost = cast_with_options(&step, to, &options(true)).ok();
        let lost = lost.and_then(|left| (0..left.len()).find(|&i| left.is_null(i) && step.is_valid(i)));
        (lost.unwrap_or(0), cause)
    })
}

/// `00112233-4455-6677-8899-aabbccddeeff`
fn uuids(array: &ArrayRef) -> ArrayRef {
    let text = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    };
    Arc::new(array.as_fixed_size_binary().iter().map(|b| b.map(text)).collect::<StringArray>())
}

/// Whole numbers up to this are all exact in the type.
const EXACT_F32: f32 = (1 << 24) as f32;
const EXACT_F64: u64 = 1 << 53;

/// Whether a column of whole numbers has some that are not exact as `f64`, which is what features are made from.
fn rounds(stored: &ArrayRef, converted: &ArrayRef) -> bool {
    match stored.data_type() {
        DataType::Int64 => {
            stored.as_primitive::<Int64Type>().iter().flatten().any(|x| x.unsigned_abs() > EXACT_F64)
        }
        DataType::UInt64 => stored.as_primitive::<UInt64Type>().iter().flatten().any(|x| x > EXACT_F64),
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            let beyond = |x: f64| x.abs() > EXACT_F64 as f64;
            let numbers = cast_with_options(converted, &DataType::Float64, &CastOptions::default());
            numbers.is_ok_and(|x| x.as_primitive::<Float64Type>().iter().flatten().any(beyond))
        }
        _ => false,
    }
}

fn joined(parts: Vec<ArrayRef>, field: &Field) -> Result<ArrayRef> {
    match &parts[..] {
        [] => Ok(arrow_array::new_empty_array(field.data_type())),
        [one] => Ok(one.clone()),
        all => concat(&all.iter().map(|a| a.as_ref()).collect::<Vec<_>>()).map_err(too_large),
    }
}

/// More than 2 GiB of text in one column of one part.
fn too_large(cause: arrow_schema::ArrowError) -> Error {
    let help = "leave out columns of very long texts";
    Error::input("the table", format!("does not fit into memory as one batch: {cause}"), help).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_short_and_dense() {
        assert_eq!(stretches(&[]), Vec::<Range<usize>>::new());
        assert!(stretches(&[5, 6, 7]).iter().eq([&(0..3)]));
        assert_eq!(stretches(&[5, 6, 6 + GAP, 7 + 2 * GAP]), [0..3, 3..4]);
        let dense: Vec<u64> = (0..3 * STRETCH).collect();
        let lengths: Vec<usize> = stretches(&dense).iter().map(|r| r.len()).collect();
        assert_eq!(lengths, [STRETCH as usize; 3]);
    }

    #[test]
    fn selections_join_neighbours() {
        let selection = Wanted::Ascending(&[0, 1, 5, 6]).selection();
        let expected =
            RowSelection::from(vec![RowSelector::select(2), RowSelector::skip(3), RowSelector::select(2)]);
        assert_eq!(selection, expected);
    }
}
