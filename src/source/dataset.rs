//! The dataset: its files, row groups and columns, read from the footers alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field};
use parquet::file::reader::ChunkReader;
use rayon::prelude::*;

use super::blob::Blob;
use super::element::{Element, binary_element};
use super::files;
use super::opened::{Opened, open};
use super::pages::Maps;
use super::{Column, File, Kind, RowGroup};
use crate::format::manifest::FileState;
use crate::kit::error::{Error, Result};

/// Column names listed in an error message.
const LISTED: usize = 50;

/// Parquet files as one table with numbered rows. Cheap to clone.
///
/// Opening reads the footers, and of every List column the first rows, to learn how many numbers a row has; nothing else.
/// Rows are numbered file by file (byte order of the paths relative to the deepest common directory), row group by row
/// group. Directories named `key=value` become columns, unless the files have a column of that name.
///
/// A FixedSizeBinary column is a vector of `f32` in little-endian order when its width is a multiple of 4; the field
/// metadata `batchwright.element` = `f16`, `f32` or `f64` says otherwise. UUIDs are no vectors.
#[derive(Clone, Debug)]
pub struct Dataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: Vec<File>,
    row_groups: Vec<RowGroup>,
    rows: u64,
    columns: Vec<Column>,
    /// Of each column, what it is read as (see [`Kind`]); the type of vectors is not used.
    types: Vec<DataType>,
    opened: Arc<Vec<Opened>>,
    maps: Maps,
}

/// Where a row lies: `offset` counts inside the row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub file: usize,
    /// Place in [`Dataset::row_groups`].
    pub row_group: usize,
    pub offset: u64,
}

impl Dataset {
    /// Opens files, directories (searched for `*.parquet`; names beginning with `_` or `.` are skipped), globs and URLs
    /// (`s3://`, `gs://`, `az://`; a name ending in `/` means everything below it).
    pub fn open(inputs: &[String]) -> Result<Self> {
        Self::open_with(inputs, &BTreeMap::new())
    }

    /// Like [`Dataset::open`]; `options` are settings of the object store such as `aws_endpoint` and
    /// `aws_access_key_id`, which otherwise come from its environment variables.
    pub fn open_with(inputs: &[String], options: &BTreeMap<String, String>) -> Result<Self> {
        let found = files::find(inputs, options)?;
        // Each footer is its own read; the first error in file order is the one told.
        let opened: Vec<Result<(String, Opened)>> = found.into_par_iter().map(open).collect();
        let mut files = Vec::new();
        let mut all = Vec::new();
        let mut row_groups = Vec::new();
        let mut rows = 0;
        for result in opened {
            let (path, file) = result?;
            let mut in_file = 0;
            for (row_group, group) in file.metadata.metadata().row_groups().iter().enumerate() {
                let group_rows = group.num_rows().max(0) as u64;
                row_groups.push(RowGroup {
                    file: files.len(),
                    row_group,
                    first_row: rows + in_file,
                    rows: group_rows,
                });
                in_file += group_rows;
            }
            rows += in_file;
            files.push(File { path, rows: in_file, bytes: file.blob.length });
            all.push(file);
        }
        if rows == 0 {
            return Err(Error::input(
                inputs.join(", "),
                "has no rows",
                "name files that hold at least one row",
            ));
        }
        let (columns, types) = schema(&all)?;
        let opened = Arc::new(all);
        let inner = Inner { files, row_groups, rows, columns, types, opened, maps: Maps::default() };
        Ok(Dataset { inner: Arc::new(inner) })
    }

    /// The same files, but only these of the row groups (ascending places in [`Dataset::row_groups`]), their rows numbered
    /// anew from 0.
    pub fn only(&self, row_groups: &[usize]) -> Dataset {
        let mut rows = 0;
        let chosen = row_groups.iter().map(|&g| {
            let group = RowGroup { first_row: rows, ..self.row_groups()[g].clone() };
            rows += group.rows;
            group
        });
        let row_groups = chosen.collect();
        let Inner { files, columns, types, opened, .. } = &*self.inner;
        let inner = Inner {
            files: files.clone(),
            row_groups,
            rows,
            columns: columns.clone(),
            types: types.clone(),
            opened: opened.clone(),
            maps: Maps::default(),
        };
        Dataset { inner: Arc::new(inner) }
    }

    /// Bytes read of all files so far, footers included.
    pub fn bytes_read(&self) -> u64 {
        self.inner.opened.iter().map(|file| file.blob.read.load(Ordering::Relaxed)).sum()
    }

    /// Of every file, what tells whether it is still the same. Reads the footers.
    pub fn file_states(&self) -> Result<Vec<FileState>> {
        let state = |file: &Opened| {
            let (blob, reader) = (&file.blob, file.blob.open()?);
            let bytes = |start, length| reader.get_bytes(start, length).map_err(|e| blob.error(e));
            let tail = bytes(blob.length - 8, 8)?;
            let length = u32::from_le_bytes(tail[..4].try_into().expect("four bytes"));
            let start = blob.length.saturating_sub(8 + u64::from(length));
            let footer = blake3::hash(&bytes(start, (blob.length - start) as usize)?).to_hex().to_string();
            Ok(FileState { bytes: blob.length, version: blob.version(), footer })
        };
        self.inner.opened.par_iter().map(state).collect()
    }

    /// Errors if a local file is gone or was written to since the dataset was opened: then what was read of it may be
    /// of two versions. One system call a file.
    pub fn unchanged(&self) -> Result<()> {
        self.inner.opened.iter().try_for_each(|file| file.blob.open().map(drop))
    }

    /// In row order.
    pub fn files(&self) -> &[File] {
        &self.inner.files
    }

    /// In row order.
    pub fn row_groups(&self) -> &[RowGroup] {
        &self.inner.row_groups
    }

    /// The files as they can be opened: paths or URLs, as they were found. In row order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.inner.opened.iter().map(|file| file.blob.name.as_str())
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.inner.rows
    }

    /// In the order of the first file's schema, keys of hive partitions last.
    pub fn columns(&self) -> &[Column] {
        &self.inner.columns
    }

    /// The column `name`; `role` is the setting that asked for it, for the message when there is none.
    pub fn column(&self, name: &str, role: &str) -> Result<&Column> {
        self.columns().iter().find(|c| c.name == name).ok_or_else(|| {
            let hint = self.near_name(name).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let names: Vec<&str> = self.columns().iter().take(LISTED).map(|c| c.name.as_str()).collect();
            let more = if self.columns().len() > LISTED { ", ..." } else { "" };
            let help = format!("{hint}the columns are {}{more}", names.join(", "));
            Error::config(role, format!("there is no column `{name}`"), help)
        })
    }

    /// Encoded bytes of these columns in all files.
    pub fn bytes(&self, columns: &[String]) -> u64 {
        let of = |group: &RowGroup| -> u64 {
            let file = &self.inner.opened[group.file];
            let metadata = file.metadata.metadata().row_group(group.row_group);
            let roots = columns.iter().filter_map(|c| file.root(c));
            roots.flat_map(|r| file.leaves(r)).map(|leaf| metadata.column(leaf).byte_range().1).sum()
        };
        self.inner.row_groups.iter().map(of).sum()
    }

    /// Bytes of one cell of a column on average, decoded, as far as the footers tell (a text that repeats is counted once
    /// by writers that do not note its full size).
    pub fn cell_bytes(&self, column: &str) -> u64 {
        let of = |group: &RowGroup| -> u64 {
            let file = &self.inner.opened[group.file];
            let metadata = file.metadata.metadata().row_group(group.row_group);
            let leaves = file.root(column).into_iter().flat_map(|root| file.leaves(root));
            let chunks = leaves.map(|leaf| metadata.column(leaf));
            chunks
                .map(|c| c.unencoded_byte_array_data_bytes().unwrap_or(c.uncompressed_size()).max(0) as u64)
                .sum()
        };
        self.inner.row_groups.iter().map(of).sum::<u64>().div_ceil(self.inner.rows.max(1))
    }

    /// The column whose name is most like `name`, if any is like it at all.
    pub fn near_name(&self, name: &str) -> Option<&str> {
        let lower = name.to_lowercase();
        let distance = |c: &Column| edit_distance(&lower, &c.name.to_lowercase());
        let nearest = self.columns().iter().min_by_key(|c| distance(c))?;
        (distance(nearest) <= 1 + name.chars().count() / 3).then_some(nearest.name.as_str())
    }

    /// O(log row groups). `row` must be below [`Dataset::rows`].
    pub fn locate(&self, row: u64) -> Location {
        let row_group = self.group_of(row);
        let group = &self.row_groups()[row_group];
        Location { file: group.file, row_group, offset: row - group.first_row }
    }

    /// The file of a row and its number in that file, for messages.
    pub fn describe_row(&self, row: u64) -> (String, u64) {
        let Location { file, row_group, offset } = self.locate(row);
        let groups = self.inner.opened[file].metadata.metadata().row_groups();
        let before: i64 =
            groups[..self.row_groups()[row_group].row_group].iter().map(|g| g.num_rows().max(0)).sum();
        (self.files()[file].path.clone(), before as u64 + offset)
    }

    /// Place of the row group that holds a row; empty row groups hold none.
    pub(crate) fn group_of(&self, row: u64) -> usize {
        assert!(row < self.rows(), "row {row} of {}", self.rows());
        self.row_groups().partition_point(|g| g.first_row + g.rows <= row)
    }

    pub(crate) fn opened(&self, file: usize) -> &Opened {
        &self.inner.opened[file]
    }

    /// What a column is read as; for vectors the stored type.
    pub(crate) fn data_type(&self, name: &str) -> Option<&DataType> {
        let place = self.columns().iter().position(|c| c.name == name)?;
        Some(&self.inner.types[place])
    }

    pub(crate) fn maps(&self) -> &Maps {
        &self.inner.maps
    }
}

/// The columns that all files have in common, and what each is read as.
fn schema(files: &[Opened]) -> Result<(Vec<Column>, Vec<DataType>)> {
    let mut columns = Vec::new();
    let mut types = Vec::new();
    let first = &files[0];
    for field in first.metadata.schema().fields() {
        let (mut kind, data_type) = classify(first, field);
        for other in &files[1..] {
            agree(first, field, &kind, &data_type, other)?;
        }
        if kind == (Kind::Vector { dims: 0 }) {
            kind = Kind::Vector { dims: list_dims(files, field.name())? };
        }
        columns.push(Column { name: field.name().clone(), kind });
        types.push(data_type);
    }
    for other in &files[1..] {
        for field in other.metadata.schema().fields() {
            if first.root(field.name()).is_none() {
                return Err(missing(&first.blob, &other.blob, field.name()));
            }
        }
    }
    for (key, _) in &first.partition {
        if first.root(key).is_some() {
            continue;
        }
        let mut values = Vec::new();
        for file in files {
            let value = file.partition(key).ok_or_else(|| missing(&file.blob, &first.blob, key))?;
            values.extend(value);
        }
        let integers = values.iter().all(|v| v.parse::<i64>().is_ok());
        let (kind, data_type) =
            if integers { (Kind::Integer, DataType::Int64) } else { (Kind::Text, DataType::Utf8) };
        columns.push(Column { name: key.clone(), kind });
        types.push(data_type);
    }
    for file in files {
        if let Some((key, _)) = file.partition.iter().find(|(key, _)| !columns.iter().any(|c| c.name == *key))
        {
            return Err(missing(&first.blob, &file.blob, key));
        }
    }
    Ok((columns, types))
}

fn missing(without: &Blob, with: &Blob, column: &str) -> Error {
    let reason = format!("is missing, but {} has it", with.name);
    Error::input(&without.name, reason, "all files need the same columns: leave out the files that differ")
        .column(column)
}

/// Whether `other` has the same kind of column under the same name.
fn agree(first: &Opened, field: &Field, kind: &Kind, data_type: &DataType, other: &Opened) -> Result<()> {
    let Some(root) = other.root(field.name()) else {
        return Err(missing(&other.blob, &first.blob, field.name()));
    };
    let theirs = other.metadata.schema().field(root);
    let (their_kind, their_type) = classify(other, theirs);
    let same_type = matches!(kind, Kind::Vector { .. } | Kind::Other) || *data_type == their_type;
    if their_kind == *kind && same_type {
        return Ok(());
    }
    let reason = format!("is {} here but {} in {}", theirs.data_type(), field.data_type(), first.blob.name);
    let help = "all files need the same type in a column: rewrite it, or leave out the files that differ";
    Err(Error::input(&other.blob.name, reason, help).column(field.name()))
}

/// What a field is used for and read as. A List has 0 dims until its rows are looked at.
fn classify(file: &Opened, field: &Field) -> (Kind, DataType) {
    use DataType::*;
    let data_type = field.data_type();
    let read_as = |kind, as_type| (kind, as_type);
    match data_type {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Time32(_) | Time64(_)
        | Duration(_) => read_as(Kind::Integer, Int64),
        Date32 | Date64 => read_as(Kind::Integer, Date32),
        Timestamp(..) => read_as(Kind::Integer, data_type.clone()),
        Float16 | Float32 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => {
            read_as(Kind::Float, Float64)
        }
        Boolean => read_as(Kind::Boolean, Boolean),
        Utf8 | LargeUtf8 | Utf8View => read_as(Kind::Text, Utf8),
        Dictionary(_, value) => classify(file, &Field::new(field.name(), (**value).clone(), true)),
        FixedSizeList(item, dims) if Element::of(item.data_type()).is_some() && *dims > 0 => {
            read_as(Kind::Vector { dims: *dims as usize }, data_type.clone())
        }
        List(item) | LargeList(item) if Element::of(item.data_type()).is_some() => {
            read_as(Kind::Vector { dims: 0 }, data_type.clone())
        }
        FixedSizeBinary(width) => match binary_element(file, field) {
            Some(element) => {
                read_as(Kind::Vector { dims: *width as usize / element.width() }, data_type.clone())
            }
            None => read_as(Kind::Other, data_type.clone()),
        },
        _ => read_as(Kind::Other, data_type.clone()),
    }
}

/// Numbers in the first row of a List column that is not null.
fn list_dims(files: &[Opened], column: &str) -> Result<usize> {
    for file in files {
        let Some(root) = file.root(column) else { continue };
        let reader = file.blob.open()?;
        for group in 0..file.metadata.metadata().num_row_groups() {
            for batch in file.batches(&reader, group, &[root], None, 64)? {
                let dims = (0..).zip(list_lengths(batch?.column(0))).find_map(|(_, n)| n.filter(|&n| n > 0));
                if let Some(dims) = dims {
                    return Ok(dims);
                }
            }
        }
    }
    Ok(0)
}

fn list_lengths(array: &ArrayRef) -> Vec<Option<usize>> {
    use arrow_array::cast::AsArray;
    let length = |i: usize| match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value_length(i) as usize,
        _ => array.as_list::<i64>().value_length(i) as usize,
    };
    (0..array.len()).map(|i| array.is_valid(i).then(|| length(i))).collect()
}

/// Levenshtein's edit distance (1966), O(len a x len b).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits() {
        assert_eq!(edit_distance("embeding", "embedding"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("label", "labels"), 1);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
