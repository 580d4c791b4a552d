//! The dataset: its files, row groups and columns, read from the footers alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_schema::{DataType, TimeUnit};
use parquet::file::reader::ChunkReader;
use rayon::prelude::*;

use super::chunk::SHARE;
use super::element::Element;
use super::files;
use super::opened::{Opened, open};
use super::pages::Maps;
use super::schema::{ReadAs, unite};
use super::{Column, File, RowGroup};
use crate::format::manifest::FileState;
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::kit::secrets;
/// Every page may take this much: sixty times what most writers put into one.
const LEAST: u64 = 64 << 20;

/// Parquet files as one table with numbered rows. Cheap to clone.
///
/// Opening reads the footers, and of every List column the first rows, to learn how many numbers a row has; nothing else.
/// Rows are numbered file by file (byte order of the paths relative to the deepest common directory), row group by row
/// group. Directories named `key=value` become columns, unless the files have a column of that name. A column that files
/// disagree about is there, but cannot be used.
///
/// A FixedSizeBinary column is a vector of little-endian numbers if its field metadata says of which
/// (`batchwright.element` = `f16`, `f32` or `f64`, or Arrow's `arrow.fixed_shape_tensor`), or the caller
/// ([`Dataset::with_bytes_as`]).
#[derive(Clone, Debug)]
pub struct Dataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub files: Vec<File>,
    pub row_groups: Vec<RowGroup>,
    pub rows: u64,
    pub columns: Vec<Column>,
    pub types: Vec<ReadAs>,
    pub bytes_as: Option<Element>,
    pub opened: Arc<Vec<Opened>>,
    /// Columns in which a whole number was met that the type it is read as rounds.
    pub rounded: Arc<Mutex<BTreeSet<String>>>,
    /// The files with INT96 in microseconds, where some value needs them; None: nanoseconds do. See [`Dataset::read_as`].
    pub microseconds: Arc<OnceLock<Option<Vec<Opened>>>>,
    /// Bytes that other processes have read of the files.
    pub read_elsewhere: Arc<AtomicU64>,
    pub maps: Maps,
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
    /// Memory of a run that does not say how much it has.
    pub const MEMORY: u64 = 4 << 30;

    /// Opens files, directories (searched for `*.parquet`, `*.parq` and `*.pq`; names that begin with `.`, or with `_` and
    /// are no partition, are left out), patterns (which match what they match in a shell) and URLs (`s3://`, `gs://`,
    /// `az://`, `file://`; a name ending in `/` means everything below it).
    pub fn open(inputs: &[String]) -> Result<Self> {
        Self::open_within(inputs, Self::MEMORY, &Progress::default())
    }

    /// Like [`Dataset::open`], for a run that has so many bytes of memory: a page may take an eighth of them. `progress` is told
    /// what of a folder was left out, and can stop the search.
    pub fn open_within(inputs: &[String], memory: u64, progress: &Progress) -> Result<Self> {
        Self::open_with(inputs, &BTreeMap::new(), memory, progress)
    }

    /// Like [`Dataset::open_within`]; `options` are settings of the object store such as `aws_endpoint` and
    /// `aws_access_key_id`, which otherwise come from its environment variables.
    pub fn open_with(
        inputs: &[String],
        options: &BTreeMap<String, String>,
        memory: u64,
        progress: &Progress,
    ) -> Result<Self> {
        let limit = (memory / SHARE).max(LEAST);
        let found = files::find(inputs, options, progress)?;
        // Each footer is its own read; the first error in file order is the one told.
        let opened: Vec<Result<(String, Opened)>> =
            found.into_par_iter().map(|found| open(found, limit)).collect();
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
                inputs.iter().map(|input| secrets::without(input)).collect::<Vec<_>>().join(", "),
                "has no rows",
                "name files that hold at least one row",
            ));
        }
        let (columns, types) = unite(&all, None)?;
        let keys = all.iter().flat_map(|file| &file.partition).map(|(key, _)| key.as_str());
        let is_column = |key: &&str| all.iter().any(|file| file.root(key).is_some());
        for key in keys.filter(is_column).collect::<BTreeSet<_>>() {
            progress.warn(&format!("`{key}` is a column and a key of the folders: the column is used"));
        }
        let inner = Inner {
            files,
            row_groups,
            rows,
            columns,
            types,
            bytes_as: None,
            opened: Arc::new(all),
            rounded: Arc::default(),
            microseconds: Arc::default(),
            read_elsewhere: Arc::default(),
            maps: Maps::default(),
        };
        Ok(Dataset::of(inner))
    }

    pub(super) fn of(inner: Inner) -> Dataset {
        Dataset { inner: Arc::new(inner) }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The same files, FixedSizeBinary columns that do not say what they hold read as vectors of such numbers.
    pub fn with_bytes_as(&self, bytes_as: Option<Element>) -> Result<Dataset> {
        if bytes_as == self.inner.bytes_as {
            return Ok(self.clone());
        }
        let (columns, types) = unite(&self.inner.opened, bytes_as)?;
        Ok(self.with(|inner| Inner { columns, types, bytes_as, ..inner }))
    }

    /// What bytes are read as that do not say what they hold.
    pub fn bytes_as(&self) -> Option<Element> {
        self.inner.bytes_as
    }

    fn with(&self, change: impl FnOnce(Inner) -> Inner) -> Dataset {
        let Inner {
            files,
            row_groups,
            rows,
            columns,
            types,
            bytes_as,
            opened,
            rounded,
            microseconds,
            read_elsewhere,
            ..
        } = &*self.inner;
        let copy = Inner {
            files: files.clone(),
            row_groups: row_groups.clone(),
            rows: *rows,
            columns: columns.clone(),
            types: types.clone(),
            bytes_as: *bytes_as,
            opened: opened.clone(),
            rounded: rounded.clone(),
            microseconds: microseconds.clone(),
            read_elsewhere: read_elsewhere.clone(),
            maps: Maps::default(),
        };
        Dataset::of(change(copy))
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
        self.with(|inner| Inner { row_groups, rows, ..inner })
    }

    /// Bytes read of all files so far, footers included.
    pub fn bytes_read(&self) -> u64 {
        let here: u64 = self.inner.opened.iter().map(|file| file.blob.read.load(Ordering::Relaxed)).sum();
        here + self.inner.read_elsewhere.load(Ordering::Relaxed)
    }

    /// Counts what another process has read of the files.
    pub(crate) fn note_read(&self, bytes: u64) {
        self.inner.read_elsewhere.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Of every file, what tells whether it is still the same. Reads the footers.
    pub fn file_states(&self) -> Result<Vec<FileState>> {
        let state = |file: &Opened| {
            let footer = footer(file)?;
            Ok(FileState { bytes: file.blob.length, version: file.blob.version(), footer })
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

    /// The deepest common directory of all files, absolute where it is a local one.
    pub fn root(&self) -> String {
        let (Some(name), Some(file)) = (self.names().next(), self.files().first()) else {
            return String::new();
        };
        let root = name.strip_suffix(&file.path).unwrap_or(name);
        match root.contains("://") {
            true => root.into(),
            false => std::path::absolute(if root.is_empty() { "." } else { root })
                .map_or_else(|_| root.into(), |root| root.display().to_string()),
        }
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.inner.rows
    }

    /// In the order of the first file's schema, what other files add after it, keys of hive partitions last.
    pub fn columns(&self) -> &[Column] {
        &self.inner.columns
    }

    /// The column `name`, which the setting `role` asked for: [`Column::named`].
    pub fn column(&self, name: &str, role: &str) -> Result<&Column> {
        Column::named(self.columns(), name, role)
    }

    /// Columns in which a whole number was read that became another one: beyond 2^53 in columns of plain numbers, beyond
    /// 2^24 in vectors.
    pub fn rounded(&self) -> BTreeSet<String> {
        self.inner.rounded.lock().expect("no panic while holding").clone()
    }

    pub(crate) fn note_rounded(&self, column: &str) {
        let mut rounded = self.inner.rounded.lock().expect("no panic while holding");
        if !rounded.contains(column) {
            rounded.insert(column.to_string());
        }
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

    /// Bytes of the footers and page indexes in memory.
    pub fn footer_bytes(&self) -> u64 {
        let opened = self.inner.opened.iter();
        opened.map(|file| file.metadata.metadata().memory_size() as u64 + (8 << 10)).sum()
    }

    /// Whether any of the files is read over a network.
    pub fn is_remote(&self) -> bool {
        self.inner.opened.iter().any(|file| file.blob.is_remote())
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

    /// What a column is read as; for vectors the stored type. Looks through columns of INT96, once, whether nanoseconds
    /// hold all their values; microseconds are taken where not.
    pub(crate) fn read_as(&self, name: &str) -> Result<ReadAs> {
        let place = self.columns().iter().position(|c| c.name == name).expect("the column is there");
        let read_as = self.inner.types[place].clone();
        if read_as.int96 && self.microseconds()?.is_some() {
            let DataType::Timestamp(_, zone) = read_as.table else { unreachable!("INT96 is a timestamp") };
            let table = DataType::Timestamp(TimeUnit::Microsecond, zone);
            return Ok(ReadAs { through: table.clone(), table, ..read_as });
        }
        Ok(read_as)
    }

    /// A file as tables are read from it; all their columns have been asked for ([`Dataset::read_as`]).
    pub(crate) fn opened_for_tables(&self, file: usize) -> &Opened {
        match self.inner.microseconds.get() {
            Some(Some(files)) => &files[file],
            _ => self.opened(file),
        }
    }

    fn microseconds(&self) -> Result<Option<&[Opened]>> {
        if self.inner.microseconds.get().is_none() {
            let files = &self.inner.opened;
            let files: Vec<Opened> = files.iter().map(Opened::in_microseconds).collect::<Result<_>>()?;
            // Of all row groups, also where this is a part of the dataset: there is one answer for all parts.
            let groups = |file: usize| 0..files[file].metadata.metadata().num_row_groups();
            let groups: Vec<(usize, usize)> =
                (0..files.len()).flat_map(|file| groups(file).map(move |group| (file, group))).collect();
            let beyond =
                |(file, group): (usize, usize)| beyond_nanoseconds(self.opened(file), &files[file], group);
            let beyond: Vec<Result<bool>> = groups.into_par_iter().map(beyond).collect();
            let beyond: Vec<bool> = beyond.into_iter().collect::<Result<_>>()?;
            let _ = self.inner.microseconds.set(beyond.contains(&true).then_some(files));
        }
        Ok(self.inner.microseconds.get().expect("just set").as_deref())
    }

    /// The most bytes that one page may take.
    pub(crate) fn limit(&self) -> u64 {
        self.inner.opened.first().map_or(Self::MEMORY / SHARE, |file| file.limit)
    }

    pub(crate) fn maps(&self) -> &Maps {
        &self.inner.maps
    }
}

/// BLAKE3 (hex) of a file's footer, its length and magic number included.
pub(super) fn footer(file: &Opened) -> Result<String> {
    let (blob, reader) = (&file.blob, file.blob.open()?);
    let bytes = |start, length| reader.get_bytes(start, length).map_err(|e| blob.error(e));
    let tail = bytes(blob.length - 8, 8)?;
    let length = u32::from_le_bytes(tail[..4].try_into().expect("four bytes"));
    let start = blob.length.saturating_sub(8 + u64::from(length));
    Ok(blake3::hash(&bytes(start, (blob.length - start) as usize)?).to_hex().to_string())
}

/// Whether INT96 of a row group, read in microseconds, have a value that nanoseconds do not hold.
fn beyond_nanoseconds(file: &Opened, microseconds: &Opened, group: usize) -> Result<bool> {
    let roots = 0..file.metadata.schema().fields().len();
    let roots: Vec<usize> = roots.filter(|&root| file.is_int96(root)).collect();
    if roots.is_empty() {
        return Ok(false);
    }
    let beyond = |x: i64| x.checked_mul(1000).is_none();
    for batch in microseconds.batches(&file.blob.open()?, group, &roots, None, 4096)? {
        for column in batch?.columns() {
            if column.as_primitive::<TimestampMicrosecondType>().iter().flatten().any(beyond) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
