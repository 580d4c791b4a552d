//! A file whose footer has been read, and the arrow reader over it.

use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, Schema, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetStatisticsPolicy};
use parquet::file::reader::ChunkReader;

use super::blob::{Blob, Reader};
use super::files::Found;
use crate::kit::error::{Error, Result};

/// A file whose footer has been read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub blob: Blob,
    pub metadata: ArrowReaderMetadata,
    pub partition: Vec<(String, Option<String>)>,
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
        Ok(Opened { blob: self.blob.clone(), metadata, partition: self.partition.clone() })
    }

    /// The leaves of a root column, by number.
    pub fn leaves(&self, root: usize) -> impl Iterator<Item = usize> + '_ {
        let schema = self.metadata.parquet_schema();
        (0..schema.num_columns()).filter(move |&leaf| schema.get_column_root_idx(leaf) == root)
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
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(reader.clone(), self.metadata.clone())
                .with_row_groups(vec![row_group])
                .with_projection(mask)
                .with_batch_size(batch_size.max(1));
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let built = guarded(|| builder.build()).flatten();
        let mut batches = Some(built.map_err(|e| self.blob.error(e))?);
        let mut next = move || match guarded(|| batches.as_mut()?.next()) {
            Ok(batch) => batch.map(|batch| batch.map_err(ParquetError::from)),
            // What is left of the reader is in no known state.
            Err(panic) => {
                batches = None;
                Some(Err(panic))
            }
        };
        Ok(std::iter::from_fn(move || next().map(|batch| batch.map_err(|e| self.blob.error(e)))))
    }
}

/// The parquet crate panics at some damaged page headers (version 60: a page without a header of its own kind); to the
/// user that is one more damaged file.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> std::result::Result<T, ParquetError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .map_err(|_| ParquetError::General("the reader gave up on a page header".into()))
}

/// Reads the footer of a file.
pub(super) fn open(found: Found) -> Result<(String, Opened)> {
    let Found { blob, path, partition } = found;
    let reader = blob.open()?;
    check_magic(&blob, &reader)?;
    let options = ArrowReaderOptions::new()
        // Where pages lie, for files that say it; otherwise their headers are walked.
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Optional)
        // A plan never looks at minima and maxima; a thousand wide row groups of them are real memory.
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let metadata = ArrowReaderMetadata::load(&reader, options).map_err(|e| blob.error(e))?;
    Ok((path, Opened { blob, metadata, partition }))
}

/// Tells what a file is that is no whole Parquet file.
fn check_magic(blob: &Blob, reader: &Reader) -> Result<()> {
    let not = |reason: &str, help: &str| Err(Error::input(&blob.name, reason, help));
    if blob.length < 12 {
        return not("is not a Parquet file: it is too short", "write it again, or leave it out");
    }
    let tail = reader.get_bytes(blob.length - 4, 4).map_err(|e| blob.error(e))?;
    match &tail[..] {
        b"PAR1" => Ok(()),
        b"PARE" => not("is encrypted", "decrypt it first: encrypted Parquet files are not read"),
        _ => match &reader.get_bytes(0, 4).map_err(|e| blob.error(e))?[..] {
            b"PAR1" => not("is cut off: its footer is missing", "write or download it again"),
            _ => not("is not a Parquet file", "name only Parquet files, or convert it"),
        },
    }
}
