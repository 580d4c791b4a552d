//! A file whose footer has been read, and the arrow reader over it.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowGroups, RowSelection,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Type as Physical;
use parquet::column::page::PageIterator;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetStatisticsPolicy, RowGroupMetaData,
};
use parquet::file::reader::ChunkReader;

use super::blob::{Blob, Reader};
use super::chunk::{Fault, Pages, Place, Single};
use super::codec;
use super::files::Found;
use super::footer::{Footer, STRUCTS};
use super::index::{self, Location};
use super::magic;
use crate::kit::error::{Error, Result};
use crate::kit::guard;

/// A file whose footer has been read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub blob: Blob,
    pub metadata: ArrowReaderMetadata,
    pub partition: Vec<(String, Option<String>)>,
    /// All offset indexes and the byte they begin at, where fetching each would cost a request.
    indexes: Option<(u64, Bytes)>,
    /// Leaves that are encrypted.
    encrypted: Vec<usize>,
    /// The most bytes that one page may take.
    pub limit: u64,
}

impl Opened {
    /// Rows, as the footer has them.
    pub fn rows(&self) -> u64 {
        self.metadata.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as u64).sum()
    }

    /// The place of a column among the file's roots; None for a key of the partition.
    pub fn root(&self, column: &str) -> Option<usize> {
        self.metadata.schema().index_of(column).ok()
    }

    /// Its partition's value of `key`: outer None if there is no such key, inner None for null.
    pub fn partition(&self, key: &str) -> Option<Option<&str>> {
        self.partition.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_deref())
    }

    /// Whether a column is stored as INT96 and read in nanoseconds, which do not hold all that INT96 does.
    pub fn is_int96(&self, root: usize) -> bool {
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let stored = |leaf| self.metadata.parquet_schema().column(leaf).physical_type();
        *self.metadata.schema().field(root).data_type() == nanoseconds
            && self.leaves(root).next().map(stored) == Some(Physical::INT96)
    }

    /// The same file, INT96 read in microseconds.
    pub fn in_microseconds(&self) -> Result<Opened> {
        let schema = self.metadata.schema();
        let microseconds = DataType::Timestamp(TimeUnit::Microsecond, None);
        let field = |(root, field): (usize, &FieldRef)| match self.is_int96(root) {
            true => Arc::new(field.as_ref().clone().with_data_type(microseconds.clone())),
            false => field.clone(),
        };
        let fields: Vec<FieldRef> = schema.fields().iter().enumerate().map(field).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        let metadata = ArrowReaderMetadata::try_new(self.metadata.metadata().clone(), options);
        let metadata = metadata.map_err(|e| self.blob.error(e))?;
        Ok(Opened {
            blob: self.blob.clone(),
            metadata,
            partition: self.partition.clone(),
            indexes: self.indexes.clone(),
            encrypted: self.encrypted.clone(),
            limit: self.limit,
        })
    }

    /// The leaves of a root column, by number.
    pub fn leaves(&self, root: usize) -> impl Iterator<Item = usize> + '_ {
        let schema = self.metadata.parquet_schema();
        (0..schema.num_columns()).filter(move |&leaf| schema.get_column_root_idx(leaf) == root)
    }

    /// A chunk of a column, for messages.
    pub(super) fn place(&self, row_group: usize, leaf: usize) -> Place {
        let column = self.metadata.parquet_schema().get_column_root(leaf).name().into();
        Place { file: self.blob.name.clone(), column, row_group }
    }

    /// Where the data pages of a chunk lie, if the file says it.
    pub(super) fn index(
        &self,
        reader: &Reader,
        row_group: usize,
        leaf: usize,
    ) -> Result<Option<Vec<Location>>> {
        let group = self.metadata.metadata().row_group(row_group);
        let chunk = group.column(leaf);
        let Some(bytes) = chunk.offset_index_range() else { return Ok(None) };
        let reader = match &self.indexes {
            Some((start, held)) => &reader.clone().holding(*start, held.clone()),
            None => reader,
        };
        let bytes = reader.get_bytes(bytes.start, (bytes.end - bytes.start) as usize);
        let bytes = bytes.map_err(|e| self.blob.error(e))?;
        let (start, length) = chunk.byte_range();
        let listed = index::locations(&bytes, &(start..start + length), group.num_rows() as u64);
        let listed = listed
            .ok_or_else(|| self.place(row_group, leaf).damaged("its offset index is damaged".into()))?;
        Ok(Some(listed).filter(|listed| !listed.is_empty()))
    }

    /// The bytes that hold some rows of a column chunk: its dictionary and those pages, or all of it where the file does not list them.
    pub(super) fn ranges(
        &self,
        reader: &Reader,
        row_group: usize,
        leaf: usize,
        rows: &Range<u64>,
    ) -> Result<Vec<Range<u64>>> {
        let (start, length) = self.metadata.metadata().row_group(row_group).column(leaf).byte_range();
        let whole = start..start + length;
        let Some(pages) = self.index(reader, row_group, leaf)? else { return Ok(vec![whole]) };
        let from = pages.partition_point(|page| page.first_row <= rows.start).saturating_sub(1);
        let to = pages.partition_point(|page| page.first_row < rows.end).max(from + 1);
        Ok(vec![start..pages[0].bytes.start, pages[from].bytes.start..pages[to - 1].bytes.end])
    }

    /// Batches of some columns of a row group through the arrow reader: only rows of `selection`, if given.
    pub fn batches(
        &self,
        reader: &Reader,
        row_group: usize,
        roots: &[usize],
        selection: Option<RowSelection>,
        batch_size: usize,
    ) -> Result<impl Iterator<Item = Result<arrow_array::RecordBatch>>> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots.iter().copied());
        let fault = Fault::default();
        let group = Group { file: self, reader, number: row_group, fault: fault.clone() };
        let build = || {
            let hint = Some(self.metadata.schema().fields());
            let levels = parquet_to_arrow_field_levels(self.metadata.parquet_schema(), mask, hint)?;
            let batch_size = batch_size.clamp(1, group.num_rows().max(1));
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &group, batch_size, selection)
        };
        // Our own error, where it is one that had to come through the crate.
        let failed = move |e| match fault.lock().expect("no panic while holding").take() {
            Some(ours) => ours,
            None => self.blob.error(e),
        };
        let built = guarded(build).flatten();
        let mut batches = Some(built.map_err(&failed)?);
        let mut next = move || match guarded(|| batches.as_mut()?.next()) {
            Ok(batch) => batch.map(|batch| batch.map_err(ParquetError::from)),
            // What is left of the reader is in no known state.
            Err(panic) => {
                batches = None;
                Some(Err(panic))
            }
        };
        Ok(std::iter::from_fn(move || next().map(|batch| batch.map_err(&failed))))
    }
}

/// One row group as the parquet crate asks for it.
struct Group<'a> {
    file: &'a Opened,
    reader: &'a Reader,
    number: usize,
    fault: Fault,
}

impl Group<'_> {
    fn pages(&self, leaf: usize) -> Result<Pages> {
        let place = self.file.place(self.number, leaf);
        let chunk = self.file.metadata.metadata().row_group(self.number).column(leaf);
        if self.file.encrypted.contains(&leaf) {
            let help = "leave that column out, or decrypt it first: encrypted columns are not read";
            return Err(Error::input(&place.file, "is encrypted", help).column(&place.column));
        }
        if !codec::is_read(chunk.compression()) {
            let reason = format!("is compressed with {}, which is not read", chunk.compression());
            let help = "write it with zstd, for example";
            return Err(Error::input(&place.file, reason, help).column(&place.column));
        }
        let listed = self.file.index(self.reader, self.number, leaf)?;
        let (reader, limit) = (self.reader.clone(), self.file.limit);
        Ok(Pages::new(place, self.fault.clone(), reader, chunk.clone(), self.num_rows(), listed, limit))
    }
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        RowGroups::metadata(self).row_group(self.number).num_rows() as usize
    }

    fn column_chunks(&self, leaf: usize) -> ParquetResult<Box<dyn PageIterator>> {
        match self.pages(leaf) {
            Ok(pages) => Ok(Box::new(Single(Some(pages)))),
            Err(error) => {
                let text = error.to_string();
                *self.fault.lock().expect("no panic while holding") = Some(error);
                Err(ParquetError::General(text))
            }
        }
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(RowGroups::metadata(self).row_group(self.number)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.file.metadata.metadata()
    }
}

/// The parquet crate panics at some damage (version 60: a page without a header of its own kind); to the user that is one
/// more damaged file.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> std::result::Result<T, ParquetError> {
    guard::guarded(work).map_err(|panic| ParquetError::General(format!("the reader gave up ({panic})")))
}

/// Bytes at the end of a file that are read at once over a network: most footers are shorter.
const TAIL: u64 = 64 << 10;
/// Bytes of the end of a file, its length and its magic number.
const END: u64 = 8;
/// The longest footer that is read: a hundred times that of 10 000 columns in 100 row groups.
const LONGEST: u64 = 512 << 20;
/// The longest run of offset indexes that is fetched as one.
const SPAN: u64 = 16 << 20;
/// Rows of a row group that take their time.
const MANY: i64 = 1 << 20;
/// Bytes looked through at a time.
const BLOCK: u64 = 4 << 20;

/// Reads the footer of a file, whose pages may take `limit` bytes each.
pub(super) fn open(found: Found, limit: u64) -> Result<(String, Opened)> {
    let Found { blob, path, partition } = found;
    let reader = blob.open()?;
    let mut footer = footer(&blob, &reader)?;
    let start = blob.length - footer.len() as u64;
    let thrift = &footer[..footer.len() - END as usize];
    let wrong = |reason: String| {
        Error::input(&blob.name, format!("is damaged: footer: {reason}"), "write or download it again")
    };
    let checked =
        Footer::check(thrift, start).map_err(|reason| match reason.strip_suffix("is encrypted") {
            Some(_) => {
                Error::input(&blob.name, reason, "leave that column out of the file, or decrypt it first")
            }
            None => wrong(reason),
        })?;
    two_in_one(&blob, &reader, checked.used.unwrap_or(4..4), start)?;
    if let Some(list) = checked.untyped {
        let mut typed = footer.to_vec();
        typed[list] = STRUCTS;
        footer = typed.into();
    }
    let options = ArrowReaderOptions::new()
        // Where pages lie is looked up when they are read ([`Opened::index`]).
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Skip)
        // A plan never looks at minima and maxima; a thousand wide row groups of them are real memory.
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let reader = reader.holding(start, footer);
    let metadata = guarded(|| ArrowReaderMetadata::load(&reader, options)).flatten();
    let metadata = metadata.map_err(|e| blob.error(e))?;
    let indexes = match checked.indexes {
        Some(span) if reader.is_remote() && span.end - span.start <= SPAN => {
            let bytes = reader.get_bytes(span.start, (span.end - span.start) as usize);
            Some((span.start, bytes.map_err(|e| blob.error(e))?))
        }
        _ => None,
    };
    let encrypted = checked.encrypted;
    let opened = Opened { blob, metadata, partition, indexes, encrypted, limit };
    incredible(&opened, &reader)?;
    Ok((path, opened))
}

/// Rows that take less than a thousandth of a byte in each column may be (all of them are alike), but are not believed before
/// their page headers have been looked at: what is done with rows takes time for each.
fn incredible(file: &Opened, reader: &Reader) -> Result<()> {
    for (number, group) in file.metadata.metadata().row_groups().iter().enumerate() {
        let rows = group.num_rows();
        let few = |chunk: &ColumnChunkMetaData| chunk.compressed_size() < rows / 1000;
        if rows > MANY && group.columns().iter().all(few) && !group.columns().is_empty() {
            let (fault, chunk) = (Fault::default(), group.column(0).clone());
            let place = file.place(number, 0);
            Pages::new(place, fault, reader.clone(), chunk, rows as usize, None, file.limit).check()?;
        }
    }
    Ok(())
}

/// The footer with its length and magic number; an error that tells what a file is that is no whole Parquet file.
fn footer(blob: &Blob, reader: &Reader) -> Result<Bytes> {
    let not = |reason: &str, help: &str| Err(Error::input(&blob.name, reason, help));
    let again = "write or download it again";
    if blob.length < 12 {
        return Err(magic::error(blob, reader));
    }
    let failed = |e| blob.error(e);
    let first = if reader.is_remote() { TAIL } else { END }.min(blob.length);
    let tail = reader.get_bytes(blob.length - first, first as usize).map_err(failed)?;
    let (before, end) = tail.split_at(tail.len() - END as usize);
    match &end[4..] {
        b"PAR1" => {}
        b"PARE" => return not("is encrypted", "decrypt it first: encrypted Parquet files are not read"),
        _ => {
            if &reader.get_bytes(0, 4).map_err(failed)?[..] != b"PAR1" {
                return Err(magic::error(blob, reader));
            }
            return match junk(blob, reader).map_err(failed)? {
                Some(junk) => {
                    not(&format!("has {junk} bytes after its footer"), "cut them off, or download it again")
                }
                None => not("is cut off: its footer is missing", again),
            };
        }
    }
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if length + END + 4 > blob.length || length > LONGEST {
        return not(&format!("is damaged: a footer of {length} bytes in a file of {}", blob.length), again);
    }
    match before.len().checked_sub(length as usize) {
        Some(at) => Ok(tail.slice(at..)),
        None => {
            let whole = length + END;
            reader.get_bytes(blob.length - whole, whole as usize).map_err(failed)
        }
    }
}

/// Bytes after a footer that is followed by something else, if one is found near the end.
fn junk(blob: &Blob, reader: &Reader) -> ParquetResult<Option<u64>> {
    let length = TAIL.min(blob.length);
    let tail = reader.get_bytes(blob.length - length, length as usize)?;
    let before = blob.length - length;
    let is_end = |at: usize| -> Option<bool> {
        let end = at.checked_sub(4)?;
        let from = end.checked_sub(u32::from_le_bytes(*tail[end..].first_chunk()?) as usize)?;
        Some(Footer::check(&tail[from..end], before + from as u64).is_ok())
    };
    let mut ends = (0..tail.len().saturating_sub(3)).rev().filter(|&at| &tail[at..at + 4] == b"PAR1");
    Ok(ends.find(|&at| is_end(at) == Some(true)).map(|at| (tail.len() - at - 4) as u64))
}

/// Whether a second Parquet file begins or ends where the footer tells of nothing: two files one after the other are the
/// first one's bytes under the second one's footer.
fn two_in_one(blob: &Blob, reader: &Reader, used: Range<u64>, start: u64) -> Result<()> {
    for gap in [4..used.start, used.end..start] {
        let mut at = gap.start;
        while at + 4 <= gap.end {
            let length = BLOCK.min(gap.end - at);
            let bytes = reader.get_bytes(at, length as usize).map_err(|e| blob.error(e))?;
            if bytes.windows(4).any(|four| four == b"PAR1") {
                let help =
                    "write the rows of both into one file with a Parquet library, or keep them as two files";
                return Err(Error::input(&blob.name, "is two Parquet files in one", help));
            }
            // A magic number may lie across the border.
            at += length.max(4) - 3;
        }
    }
    Ok(())
}
