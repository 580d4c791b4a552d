//! Columns as a training loop takes them: numbers side by side, and Arrow arrays of everything else, in the types that files
//! store, nothing converted.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, downcast_primitive_array};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, FieldRef, Schema};
use arrow_select::concat::concat;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::blob::Reader;
use super::columns::constant;
use super::dataset::Dataset;
use super::element::{Element, element};
use super::pages::{self, Layout};
use super::{Kind, Origin, RowGroup, width};
use crate::kernels::bytes;
use crate::kit::error::{Error, Result};

/// Bytes of vectors that are brought from the pages at a time: they stay in the cache until they are where they belong.
const STRETCH: usize = 1 << 20;
/// Rows that come through Arrow at a time.
const BATCH: usize = 4096;

/// How the cells of a column are handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Numbers or truth values (a byte each) side by side, `dims` of them in a row if it is a vector.
    Numbers { number: DataType, dims: Option<usize> },
    /// An Arrow array of this type.
    Arrow(DataType),
}

impl Form {
    /// Bytes of a row; None: they differ.
    pub fn width(&self) -> Option<usize> {
        match self {
            Form::Numbers { number: DataType::Boolean, dims } => Some(dims.unwrap_or(1)),
            Form::Numbers { number, dims } => Some(number.primitive_width()? * dims.unwrap_or(1)),
            Form::Arrow(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ArrayColumn {
    pub name: String,
    pub form: Form,
    /// May a cell be null, as far as the schema tells?
    pub nullable: bool,
    /// f32 vectors are read straight from the pages.
    direct: bool,
}

/// Some columns of a dataset.
#[derive(Clone, Debug)]
pub struct Arrays {
    dataset: Dataset,
    columns: Vec<ArrayColumn>,
}

/// A cell that is no number, or a row that is no vector of the column's length: its row among those handed on, and why.
pub type Gap = (usize, String);

/// Where rows go.
pub trait Sink {
    /// Rows `first ..` (global numbers) of column `column`, [`Form::width`] bytes each. Rows in `gaps`, ascending, are zeros.
    fn numbers(&mut self, column: usize, first: u64, rows: &[u8], gaps: &[Gap]) -> Result<()>;
    /// All rows that were asked for.
    fn array(&mut self, column: usize, rows: ArrayRef) -> Result<()>;
}

impl Dataset {
    /// The columns `names` in that order; all of them if none is named. Lists of floating point numbers are vectors of the length
    /// that the first of them has, but for those in `ragged`; lists of whole numbers are vectors if all rows have as many, by
    /// the footers.
    ///
    /// # Errors
    /// If a column is not there, or if files store it in different types: nothing is converted.
    pub fn arrays(&self, names: &[String], ragged: &[String]) -> Result<Arrays> {
        let every: Vec<String> = self.columns().iter().map(|column| column.name.clone()).collect();
        let names = if names.is_empty() { &every } else { names };
        if let Some(name) = ragged.iter().find(|name| !names.contains(name)) {
            self.column(name, "ragged")?;
            let reason = format!("column `{name}` is not among the columns that are read");
            return Err(Error::config("ragged", reason, "name it in `columns` too, or leave it out"));
        }
        let column = |name: &String| self.array_column(name, ragged.contains(name));
        Ok(Arrays { dataset: self.clone(), columns: names.iter().map(column).collect::<Result<_>>()? })
    }

    fn array_column(&self, name: &str, ragged: bool) -> Result<ArrayColumn> {
        let column = self.column(name, "columns")?;
        let with = |form, nullable, direct| ArrayColumn { name: name.into(), form, nullable, direct };
        let vector = match column.kind {
            Kind::Vector { dims } if dims > 0 && !ragged && column.differs.is_none() => Some(dims),
            _ => None,
        };
        // Files may name the items of a list differently, which a vector of numbers does not show.
        let elements = |dims: usize| {
            let with_rows = self.row_groups().iter().filter(|group| group.rows > 0);
            let of = with_rows.map(|group| {
                let file = self.opened(group.file);
                let root = file.root(name)?;
                let element = element(file, file.metadata.schema().field(root), self.bytes_as())?;
                Layout::new(file, root, element, dims).is_some().then_some(element)
            });
            of.reduce(|a, b| if a == b { a } else { None }).flatten()
        };
        if let Some(dims) = vector
            && elements(dims) == Some(Element::F32)
        {
            return Ok(with(Form::Numbers { number: DataType::Float32, dims: Some(dims) }, true, true));
        }
        let field = self.stored(&[name.to_string()])?.schema().field(0).clone();
        let number = |of: &DataType| is_number(of).then(|| of.clone());
        let form = match field.data_type() {
            of if column.origin != Origin::Key && is_number(of) => {
                Form::Numbers { number: of.clone(), dims: None }
            }
            DataType::FixedSizeList(item, dims) if *dims > 0 && is_number(item.data_type()) => {
                Form::Numbers { number: item.data_type().clone(), dims: Some(*dims as usize) }
            }
            DataType::List(item) | DataType::LargeList(item) => match (number(item.data_type()), vector) {
                (Some(number), Some(dims)) if Element::of(&number).is_some() || self.all_have(name, dims) => {
                    Form::Numbers { number, dims: Some(dims) }
                }
                _ => Form::Arrow(field.data_type().clone()),
            },
            DataType::FixedSizeBinary(_) if vector.and_then(elements).is_some() => {
                let number = match vector.and_then(elements) {
                    Some(Element::F16) => DataType::Float16,
                    Some(Element::F64) => DataType::Float64,
                    _ => DataType::Float32,
                };
                Form::Numbers { number, dims: vector }
            }
            DataType::Dictionary(_, value) => Form::Arrow((**value).clone()),
            other => Form::Arrow(other.clone()),
        };
        Ok(with(form, field.is_nullable(), false))
    }

    /// Whether the footers count `dims` values a row in every row group.
    fn all_have(&self, name: &str, dims: usize) -> bool {
        self.row_groups().iter().all(|group| {
            let file = self.opened(group.file);
            let chunks = file.metadata.metadata().row_group(group.row_group);
            let leaves = file.root(name).into_iter().flat_map(|root| file.leaves(root));
            leaves.map(|leaf| chunks.column(leaf).num_values() as u64).all(|n| n == group.rows * dims as u64)
        })
    }
}

fn is_number(of: &DataType) -> bool {
    of.is_integer() || of.is_floating() || *of == DataType::Boolean
}

impl Arrays {
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    pub fn columns(&self) -> &[ArrayColumn] {
        &self.columns
    }

    /// Bytes of a decoded row: see [`Dataset::decoded_row_bytes`].
    pub fn row_bytes(&self) -> Result<u64> {
        let bytes = |column: &ArrayColumn| match column.form.width() {
            Some(width) => Ok(width as u64),
            None => self.dataset.decoded_row_bytes(std::slice::from_ref(&column.name)),
        };
        self.columns.iter().map(bytes).sum()
    }

    /// Reads rows `rows` (global numbers) in order, from whatever row groups they lie in. O(rows), and the pages that they share
    /// with their neighbours.
    pub fn read(&self, rows: Range<u64>, sink: &mut dyn Sink) -> Result<()> {
        let mut arrays: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.columns.len()];
        let mut next = rows.start;
        while next < rows.end {
            let group = &self.dataset.row_groups()[self.dataset.group_of(next)];
            let end = rows.end.min(group.first_row + group.rows);
            self.read_group(group, next - group.first_row..end - group.first_row, sink, &mut arrays)?;
            next = end;
        }
        for (column, parts) in arrays.iter().enumerate() {
            if let Form::Arrow(of) = &self.columns[column].form {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                let joined = match parts[..] {
                    [] => arrow_array::new_empty_array(of),
                    _ => concat(&parts).map_err(|e| {
                        let reason =
                            format!("rows {} to {} are too many for one array: {e}", rows.start, rows.end);
                        Error::input(self.dataset.root(), reason, "plan with fewer --unit-rows")
                            .column(&self.columns[column].name)
                    })?,
                };
                sink.array(column, joined)?;
            }
        }
        Ok(())
    }

    fn read_group(
        &self,
        group: &RowGroup,
        rows: Range<u64>,
        sink: &mut dyn Sink,
        arrays: &mut [Vec<ArrayRef>],
    ) -> Result<()> {
        let file = self.dataset.opened(group.file);
        let reader = self.at_hand(file.blob.open()?, group, &rows)?;
        let mut through: Vec<usize> = Vec::new();
        for (number, column) in self.columns.iter().enumerate() {
            if !column.direct {
                through.push(number);
            } else if !self.read_pages(number, group, &reader, rows.clone(), sink)? {
                self.read_arrow(&[number], group, &reader, rows.clone(), sink, arrays)?;
            }
        }
        if !through.is_empty() {
            self.read_arrow(&through, group, &reader, rows, sink, arrays)?;
        }
        Ok(())
    }

    /// The reader with all that the columns need of these rows at hand, where reads cost requests.
    fn at_hand(&self, reader: Reader, group: &RowGroup, rows: &Range<u64>) -> Result<Reader> {
        if !reader.is_remote() {
            return Ok(reader);
        }
        let file = self.dataset.opened(group.file);
        let roots = self.columns.iter().filter_map(|column| file.root(&column.name));
        let mut ranges = Vec::new();
        for leaf in roots.flat_map(|root| file.leaves(root)) {
            ranges.extend(file.ranges(&reader, group.row_group, leaf, rows)?);
        }
        reader.fetched(ranges).map_err(|e| file.blob.error(e))
    }

    /// f32 vectors straight from the pages; false, and nothing handed on, if the first of them is stored in a way that is not read so.
    fn read_pages(
        &self,
        number: usize,
        group: &RowGroup,
        reader: &Reader,
        rows: Range<u64>,
        sink: &mut dyn Sink,
    ) -> Result<bool> {
        let column = &self.columns[number];
        let Form::Numbers { dims: Some(dims), .. } = column.form else { return Ok(false) };
        let file = self.dataset.opened(group.file);
        let root = file.root(&column.name).expect("all files with rows have the column");
        let Some(layout) = Layout::new(file, root, Element::F32, dims).map(Layout::verified) else {
            return Ok(false);
        };
        let step = (STRETCH / (4 * dims)).max(1) as u64;
        let mut stretch = vec![0.0f32; dims * step.min(rows.end - rows.start) as usize];
        for start in rows.clone().step_by(step as usize) {
            let some = start..(start + step).min(rows.end);
            let out = &mut stretch[..width(&some) * dims];
            let at = (group.file, file);
            let maps = self.dataset.maps();
            let read = pages::read(maps, at, reader, group.row_group, &layout, some.clone(), out)?;
            match read {
                Some((_, gaps)) => {
                    sink.numbers(number, group.first_row + start, bytes::of(out), &gaps)?;
                }
                None if start == rows.start => return Ok(false),
                None => {
                    self.read_arrow(&[number], group, reader, start..rows.end, sink, &mut [])?;
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    /// Some columns through the Arrow reader.
    fn read_arrow(
        &self,
        numbers: &[usize],
        group: &RowGroup,
        reader: &Reader,
        rows: Range<u64>,
        sink: &mut dyn Sink,
        arrays: &mut [Vec<ArrayRef>],
    ) -> Result<()> {
        let file = self.dataset.opened_for_tables(group.file);
        let named = |number: &usize| file.root(&self.columns[*number].name);
        let mut roots: Vec<usize> = numbers.iter().filter_map(named).collect();
        roots.sort_unstable();
        roots.dedup();
        let mut done = 0;
        let mut hand_on = |number: usize, array: Option<&ArrayRef>, done: usize, n: usize| -> Result<()> {
            let column = &self.columns[number];
            let failed = |reason: String| {
                Error::input(
                    &file.blob.name,
                    format!("row group {}: {reason}", group.row_group),
                    "write it again",
                )
                .column(&column.name)
            };
            let constants;
            let array = match (array, &column.form) {
                (Some(array), _) => array,
                (None, Form::Arrow(of)) => {
                    constants = constant(file.partition(&column.name).flatten(), of, n);
                    &constants
                }
                (None, _) => return Err(failed("has no such column".into())),
            };
            match &column.form {
                Form::Numbers { number: of, dims } => {
                    let width = column.form.width().expect("numbers have one");
                    let first = group.first_row + rows.start + done as u64;
                    let (bytes, gaps) = plain(array, of, *dims, width).map_err(failed)?;
                    sink.numbers(number, first, &bytes, &gaps)
                }
                Form::Arrow(of) => {
                    let array = match array.data_type() {
                        DataType::Dictionary(..) => cast(array, of).map_err(|e| failed(e.to_string()))?,
                        _ => array.clone(),
                    };
                    arrays[number].push(array);
                    Ok(())
                }
            }
        };
        if roots.is_empty() {
            let n = width(&rows);
            return numbers.iter().try_for_each(|&number| hand_on(number, None, 0, n));
        }
        let whole = rows == (0..group.rows);
        let selectors = || {
            let skipped = RowSelector::skip(rows.start as usize);
            RowSelection::from(vec![skipped, RowSelector::select(width(&rows))])
        };
        for batch in file.batches(reader, group.row_group, &roots, (!whole).then(selectors), BATCH)? {
            let batch = batch?;
            for &number in numbers {
                let array = batch.column_by_name(&self.columns[number].name);
                hand_on(number, array, done, batch.num_rows())?;
            }
            done += batch.num_rows();
        }
        if done != width(&rows) {
            let reason = format!("row group {} holds {done} of {} rows", group.row_group, width(&rows));
            return Err(Error::input(&file.blob.name, reason, "the file is damaged: write it again"));
        }
        Ok(())
    }
}

/// The numbers of an array side by side, `width` bytes a row, and the rows that have none: zeros.
fn plain(
    array: &ArrayRef,
    number: &DataType,
    dims: Option<usize>,
    width: usize,
) -> std::result::Result<(Vec<u8>, Vec<Gap>), String> {
    let n = array.len();
    let mut out = Vec::with_capacity(n * width);
    let mut gaps: Vec<Gap> = Vec::new();
    let Some(dims) = dims else {
        append(array, number, &mut out)?;
        for i in (0..n).filter(|&i| array.is_null(i)) {
            out[i * width..(i + 1) * width].fill(0);
            gaps.push((i, "is null".into()));
        }
        return Ok((out, gaps));
    };
    let mut rows = |items: &ArrayRef, of: &dyn Fn(usize) -> Range<usize>| {
        let mut all = Vec::new();
        append(items, number, &mut all)?;
        let size = width / dims;
        for i in 0..n {
            let cells = of(i);
            let null = || cells.clone().find(|&cell| items.is_null(cell));
            let reason = if array.is_null(i) {
                "is null".into()
            } else if cells.len() != dims {
                let (count, s) = (cells.len(), if cells.len() == 1 { "" } else { "s" });
                format!("has {count} number{s}, not {dims}")
            } else if let Some(cell) = null().filter(|_| items.null_count() > 0) {
                format!("has null at place {}", cell - cells.start)
            } else {
                out.extend_from_slice(&all[cells.start * size..cells.end * size]);
                continue;
            };
            out.resize((i + 1) * width, 0);
            gaps.push((i, reason));
        }
        Ok::<(), String>(())
    };
    match array.data_type() {
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list();
            let length = *length as usize;
            rows(list.values(), &|i| {
                let start = list.value_offset_at(i);
                start..start + length
            })?;
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            rows(list.values(), &|i| range(list.value_offsets(), i))?;
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            rows(list.values(), &|i| range(list.value_offsets(), i))?;
        }
        DataType::FixedSizeBinary(_) => {
            let binary = array.as_fixed_size_binary();
            for i in 0..n {
                if binary.is_null(i) {
                    out.resize((i + 1) * width, 0);
                    gaps.push((i, "is null".into()));
                } else {
                    out.extend_from_slice(binary.value(i));
                }
            }
        }
        other => return Err(format!("is {other}, which is no vector")),
    }
    if out.len() != n * width {
        return Err(format!("has rows of other lengths than {width} bytes"));
    }
    Ok((out, gaps))
}

fn range<O: OffsetSizeTrait>(offsets: &[O], i: usize) -> Range<usize> {
    offsets[i].as_usize()..offsets[i + 1].as_usize()
}

/// The values of an array of numbers as they lie in memory; truth values a byte each.
fn append(array: &ArrayRef, number: &DataType, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    fn native<T: ArrowPrimitiveType>(array: &arrow_array::PrimitiveArray<T>, out: &mut Vec<u8>) {
        out.extend_from_slice(array.values().inner().as_slice());
    }
    if array.data_type() != number {
        return Err(format!("is of type {}, not {number}", array.data_type()));
    }
    match array.data_type() {
        DataType::Boolean => {
            let truth = array.as_boolean();
            out.extend((0..truth.len()).map(|i| u8::from(truth.value(i))));
        }
        _ => downcast_primitive_array!(
            array => native(array, out),
            other => return Err(format!("{other} is no number"))
        ),
    }
    Ok(())
}

/// The columns as Arrow describes them: vectors are lists of one length.
impl Arrays {
    pub fn schema(&self) -> Schema {
        let field = |column: &ArrayColumn| -> FieldRef {
            let data_type = match &column.form {
                Form::Numbers { number, dims: None } => number.clone(),
                Form::Numbers { number, dims: Some(dims) } => {
                    DataType::FixedSizeList(Field::new_list_field(number.clone(), false).into(), *dims as i32)
                }
                Form::Arrow(of) => of.clone(),
            };
            Field::new(&column.name, data_type, column.nullable).into()
        };
        Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())
    }
}
