//! A copy as arrays: one `.npy` a column over all rows, which NumPy and others map into memory
//! ([NEP 1](https://numpy.org/neps/nep-0001-npy-format.html), version 1.0).
//!
//! | column | file | dtype | shape |
//! |---|---|---|---|
//! | integers, floats, booleans | `NAME.npy` | their own | (n,) |
//! | lists of such numbers, all of one length d | `NAME.npy` | their own | (n, d) |
//! | bytes of fixed size d | `NAME.npy` | `\|u1` | (n, d) |
//! | texts, bytes | `NAME.offsets.npy`, `NAME.bytes.npy` | `<i8`, `\|u1` | (n + 1,), (bytes,) |
//!
//! An array knows no nulls, and nothing else fits into one: such columns are refused by name. `copy.json` says what made the
//! arrays, which cannot say it themselves.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{DataType, Schema};
use serde::{Deserialize, Serialize};

use super::permute::arrow;
use crate::kit::error::{Error, Result};
use crate::source::{Dataset, Kind};

/// The file that lists the arrays.
pub const NOTE: &str = "copy.json";
/// Bytes of a header: the array begins at a multiple of 64.
const HEADER: usize = 128;
const HELP: &str = "leave it out with --columns, or use --format arrow";

/// One array in the making.
pub struct Array {
    file: BufWriter<File>,
    path: PathBuf,
    dtype: &'static str,
    /// Numbers of a row; None: the array has one dimension.
    width: Option<usize>,
    rows: u64,
}

impl Array {
    pub fn create(path: &Path, dtype: &'static str, width: Option<usize>) -> Result<Array> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let mut array = Array { file: BufWriter::new(file), path: path.into(), dtype, width, rows: 0 };
        array.write(&[0; HEADER])?;
        Ok(array)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))
    }

    /// Some more rows, their numbers one after the other as they lie in memory.
    pub fn push(&mut self, rows: u64, bytes: &[u8]) -> Result<()> {
        self.rows += rows;
        self.write(bytes)
    }

    /// Makes it durable; its bytes.
    pub fn finish(self) -> Result<u64> {
        let io = || Error::io("write", &self.path);
        let width = self.width.map_or(String::new(), |width| format!(" {width}"));
        let said = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': ({},{width}), }}",
            self.dtype, self.rows
        );
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend_from_slice(&(HEADER as u16 - 10).to_le_bytes());
        header.extend_from_slice(said.as_bytes());
        header.resize(HEADER - 1, b' ');
        header.push(b'\n');
        let file = self.file.into_inner().map_err(|e| io()(e.into_error()))?;
        file.write_all_at(&header, 0).and_then(|()| file.sync_all()).map_err(io())?;
        file.metadata().map(|m| m.len()).map_err(Error::io("read", &self.path))
    }
}

/// The dtype of plain numbers.
fn dtype(of: &DataType) -> Option<&'static str> {
    const { assert!(cfg!(target_endian = "little"), "arrays are written as they lie in memory") };
    Some(match of {
        DataType::Boolean => "|b1",
        DataType::Int8 => "|i1",
        DataType::Int16 => "<i2",
        DataType::Int32 => "<i4",
        DataType::Int64 => "<i8",
        DataType::UInt8 => "|u1",
        DataType::UInt16 => "<u2",
        DataType::UInt32 => "<u4",
        DataType::UInt64 => "<u8",
        DataType::Float16 => "<f2",
        DataType::Float32 => "<f4",
        DataType::Float64 => "<f8",
        _ => return None,
    })
}

/// How a column becomes arrays.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// `width`: numbers of a row, None where it is one.
    Numbers {
        dtype: &'static str,
        width: Option<usize>,
    },
    Texts,
}

impl Layout {
    /// `dims`: numbers of a row where the type does not say it.
    fn of(kind: &DataType, dims: Option<usize>) -> Option<Layout> {
        let vector =
            |item: &DataType, width| Some(Layout::Numbers { dtype: dtype(item)?, width: Some(width) });
        match kind {
            DataType::FixedSizeList(item, size) => vector(item.data_type(), *size as usize),
            DataType::List(item) | DataType::LargeList(item) => vector(item.data_type(), dims?),
            DataType::FixedSizeBinary(size) => vector(&DataType::UInt8, *size as usize),
            DataType::Dictionary(_, values) => Layout::of(values, dims),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Layout::Texts),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(Layout::Texts),
            number => Some(Layout::Numbers { dtype: dtype(number)?, width: None }),
        }
    }

    /// The first row that has no place in an array, and why.
    fn misfit(self, column: &ArrayRef) -> Option<(usize, String)> {
        let null = |array: &dyn arrow_array::Array| {
            let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0)?;
            (0..nulls.len()).find(|&i| nulls.is_null(i))
        };
        if let Some(i) = null(column) {
            return Some((i, "is null".into()));
        }
        let Layout::Numbers { width: Some(width), .. } = self else { return None };
        let length = |i: usize| match column.data_type() {
            DataType::List(_) => column.as_list::<i32>().value_length(i) as usize,
            DataType::LargeList(_) => column.as_list::<i64>().value_length(i) as usize,
            _ => width,
        };
        if let Some(i) = (0..column.len()).find(|&i| length(i) != width) {
            return Some((i, format!("has {} numbers, and others have {width}", length(i))));
        }
        let i = null(&numbers(column))? / width.max(1);
        Some((i, "has a null among its numbers".into()))
    }
}

/// The numbers of all rows, one after the other; the rows of lists are as long as each other.
fn numbers(column: &ArrayRef) -> ArrayRef {
    let all = |values: &ArrayRef, first: i64, end: i64| values.slice(first as usize, (end - first) as usize);
    match column.data_type() {
        DataType::FixedSizeList(..) => column.as_fixed_size_list().values().clone(),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            all(list.values(), offsets[0].into(), offsets[list.len()].into())
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let offsets = list.value_offsets();
            all(list.values(), offsets[0], offsets[list.len()])
        }
        _ => column.clone(),
    }
}

/// Bytes of numbers without nulls.
fn bytes_of(numbers: &ArrayRef) -> Vec<u8> {
    let width = match numbers.data_type() {
        DataType::Boolean => return numbers.as_boolean().values().iter().map(u8::from).collect(),
        DataType::FixedSizeBinary(size) => *size as usize,
        other => other.primitive_width().expect("a dtype is of fixed width"),
    };
    let data = numbers.to_data();
    data.buffers()[0].as_slice()[data.offset() * width..][..data.len() * width].to_vec()
}

/// The columns of a copy as arrays.
pub struct Columns(Vec<(String, Layout)>);

impl Columns {
    /// # Errors
    /// If a column is of a type that no array has, or has a name that no file can have; all of them are named.
    pub fn new(schema: &Schema, dataset: &Dataset) -> Result<Columns> {
        let dims = |name: &str| match dataset.columns().iter().find(|c| c.name == name)?.kind {
            Kind::Vector { dims } => Some(dims),
            _ => None,
        };
        let mut columns = Vec::new();
        let mut wrong: Vec<String> = Vec::new();
        let mut taken = BTreeSet::new();
        for field in schema.fields() {
            let name = field.name();
            let Some(layout) = Layout::of(field.data_type(), dims(name)) else {
                wrong.push(format!("`{name}` is of type {}, which no array has", field.data_type()));
                continue;
            };
            let files = files_of(name, layout);
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 200 {
                wrong.push(format!("`{name}` is no name of a file"));
            } else if let Some(file) = files.iter().find(|file| taken.contains(*file)) {
                wrong.push(format!("`{name}` would be {file}, as another column is"));
            }
            taken.extend(files);
            columns.push((name.clone(), layout));
        }
        if wrong.is_empty() {
            return Ok(Columns(columns));
        }
        let help =
            if wrong.len() == 1 { HELP } else { "leave them out with --columns, or use --format arrow" };
        Err(Error::config("--format", format!("npy cannot hold every column: {}", wrong.join("; ")), help))
    }

    /// Looks at rows of the data, the row numbers behind them.
    pub fn check(&self, rows: &RecordBatch, numbers: usize, dataset: &Dataset) -> Result<()> {
        for ((name, layout), column) in self.0.iter().zip(&rows.columns()[..numbers]) {
            if let Some((i, reason)) = layout.misfit(column) {
                let row = rows.column(numbers).as_primitive::<Int64Type>().value(i) as u64;
                let (path, row) = dataset.describe_row(row);
                let reason = format!("{reason}, which no .npy holds");
                return Err(Error::input(path, reason, HELP).column(name).row(row));
            }
        }
        Ok(())
    }
}

fn files_of(name: &str, layout: Layout) -> Vec<String> {
    match layout {
        Layout::Numbers { .. } => vec![format!("{name}.npy")],
        Layout::Texts => vec![format!("{name}.offsets.npy"), format!("{name}.bytes.npy")],
    }
}

/// The arrays of a column.
enum Held {
    Numbers(Array),
    Texts { offsets: Array, bytes: Array, end: i64 },
}

/// What [`NOTE`] says.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    plan: String,
    epoch: u32,
    batch_size: u32,
    rows: u64,
    columns: Vec<NoteColumn>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct NoteColumn {
    name: String,
    files: Vec<String>,
}

/// All arrays of a copy.
pub struct Arrays<'a> {
    dir: &'a Path,
    columns: &'a Columns,
    held: Vec<Held>,
    rows: u64,
}

impl<'a> Arrays<'a> {
    pub fn create(dir: &'a Path, columns: &'a Columns) -> Result<Arrays<'a>> {
        let create = |(name, layout): &(String, Layout)| {
            let paths: Vec<PathBuf> = files_of(name, *layout).iter().map(|file| dir.join(file)).collect();
            Ok(match *layout {
                Layout::Numbers { dtype, width } => Held::Numbers(Array::create(&paths[0], dtype, width)?),
                Layout::Texts => {
                    let mut offsets = Array::create(&paths[0], "<i8", None)?;
                    offsets.push(1, &0i64.to_le_bytes())?;
                    Held::Texts { offsets, bytes: Array::create(&paths[1], "|u1", None)?, end: 0 }
                }
            })
        };
        let held = columns.0.iter().map(create).collect::<Result<_>>()?;
        Ok(Arrays { dir, columns, held, rows: 0 })
    }

    /// The next rows of the copy.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        for (((name, layout), held), column) in self.columns.0.iter().zip(&mut self.held).zip(rows.columns())
        {
            if let Some((_, reason)) = layout.misfit(column) {
                let path = self.dir.display().to_string();
                return Err(Error::input(path, format!("{reason}, which no .npy holds"), HELP).column(name));
            }
            let column = match column.data_type() {
                DataType::Dictionary(_, values) => &cast(column, values).map_err(arrow)?,
                _ => column,
            };
            match held {
                Held::Numbers(array) => array.push(column.len() as u64, &bytes_of(&numbers(column)))?,
                Held::Texts { offsets, bytes, end } => {
                    let column = match column.data_type() {
                        DataType::Utf8 | DataType::Utf8View => {
                            &cast(column, &DataType::LargeUtf8).map_err(arrow)?
                        }
                        _ => column,
                    };
                    let column = cast(column, &DataType::LargeBinary).map_err(arrow)?;
                    let texts = column.as_binary::<i64>();
                    let own = texts.value_offsets();
                    let ends: Vec<u8> =
                        own[1..].iter().flat_map(|o| (*end + o - own[0]).to_le_bytes()).collect();
                    offsets.push(texts.len() as u64, &ends)?;
                    let (first, last) = (own[0], own[texts.len()]);
                    bytes.push((last - first) as u64, &texts.value_data()[first as usize..last as usize])?;
                    *end += last - first;
                }
            }
        }
        Ok(())
    }

    /// Makes all of them durable, and says what made them; files and bytes.
    pub fn finish(self, plan: &str, epoch: u32, batch_size: u32) -> Result<(u64, u64)> {
        let of = |(name, layout): &(String, Layout)| NoteColumn {
            name: name.clone(),
            files: files_of(name, *layout),
        };
        let columns = self.columns.0.iter().map(of).collect();
        let note = Note { plan: plan.into(), epoch, batch_size, rows: self.rows, columns };
        let text = serde_json::to_string_pretty(&note).expect("plain values") + "\n";
        let path = self.dir.join(NOTE);
        let write = File::create_new(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        write.map_err(Error::io("write", &path))?;
        let (mut files, mut size) = (1, text.len() as u64);
        for held in self.held {
            match held {
                Held::Numbers(array) => size += array.finish()?,
                Held::Texts { offsets, bytes, .. } => {
                    size += offsets.finish()? + bytes.finish()?;
                    files += 1;
                }
            }
            files += 1;
        }
        Ok((files, size))
    }
}

/// The files of a copy in this directory, as its own note lists them; none where there is no such note.
pub fn files_in(dir: &Path) -> BTreeSet<String> {
    let note = std::fs::read(dir.join(NOTE)).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    let Some(note) = note.filter(|note| !note.columns.is_empty()) else { return BTreeSet::new() };
    note.columns.into_iter().flat_map(|column| column.files).chain([NOTE.to_string()]).collect()
}
