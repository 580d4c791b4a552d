//! A table in memory as a Parquet file, for everything that reads files twice, in parts and by row number.
//!
//! The file depends on the values alone: not on how the table lies in chunks, nor on whether its texts and lists are of the
//! large, the view or the dictionary kind. So the same rows give the same fingerprints, from whatever library they come.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::{ArrowError, Field, Schema};
use arrow_select::coalesce::BatchCoalescer;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::kit::error::{Error, Result};
use crate::pipeline::synth::system_said;

/// Rows that are handed to the writer at a time: its pages end where such a run does.
const RUN: usize = 1024;
/// Rows of a row group, and bytes that it ends at if they come first: a writer holds one in memory.
const GROUP_ROWS: usize = 65_536;
const GROUP_BYTES: usize = 128 << 20;
/// How a data frame calls an index that has no name.
const INDEX: &str = "__index_level_";

/// The file being written.
pub struct Spool {
    path: PathBuf,
    writer: ArrowWriter<File>,
    runs: BatchCoalescer,
    /// Columns of the table that are written.
    columns: Vec<usize>,
    rows: u64,
}

impl Spool {
    /// Begins the file of a table with this schema; an unnamed index of a data frame is not part of it.
    ///
    /// # Errors
    /// A column whose type Parquet has not, by name.
    pub fn create(path: &Path, schema: &Schema) -> Result<Spool> {
        let columns: Vec<usize> =
            (0..schema.fields().len()).filter(|&i| !schema.field(i).name().starts_with(INDEX)).collect();
        let kept = Arc::new(schema.project(&columns).expect("columns of the schema"));
        for field in kept.fields() {
            try_one(field).map_err(|e| unsuited(field.name(), e))?;
        }
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let file = File::create(path).map_err(Error::io("create", path))?;
        let writer =
            ArrowWriter::try_new_with_options(file, kept.clone(), options).map_err(|e| failed(path, e))?;
        Ok(Spool { path: path.into(), writer, runs: BatchCoalescer::new(kept, RUN), columns, rows: 0 })
    }

    /// Adds rows, any number of them.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        let wrong = |e: ArrowError| Error::input("the table", "cannot be read", "").because(e);
        self.runs.push_batch(batch.project(&self.columns).map_err(wrong)?).map_err(wrong)?;
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        while let Some(run) = self.runs.next_completed_batch() {
            self.writer.write(&run).map_err(|e| failed(&self.path, e))?;
        }
        Ok(())
    }

    /// Ends the file; returns its rows.
    pub fn finish(mut self) -> Result<u64> {
        self.runs.finish_buffered_batch().map_err(|e| failed(&self.path, e.into()))?;
        self.write()?;
        self.writer.close().map_err(|e| failed(&self.path, e))?;
        Ok(self.rows)
    }
}

fn failed(path: &Path, e: ParquetError) -> Error {
    Error::io("write", path)(system_said(e))
}

/// Writes a cell to nowhere: some types are only missed by then.
fn try_one(field: &Field) -> std::result::Result<(), ParquetError> {
    let alone = Arc::new(Schema::new(vec![field.clone().with_nullable(true)]));
    ArrowSchemaConverter::new().convert(&alone)?;
    let cell = RecordBatch::try_new(alone.clone(), vec![new_null_array(field.data_type(), 1)])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), alone, None)?;
    writer.write(&cell)?;
    writer.close().map(drop)
}

fn unsuited(column: &str, e: ParquetError) -> Error {
    let help = "convert the column, or leave it out of the table";
    Error::input("the table", "has a type that Parquet files cannot hold", help).column(column).because(e)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{
        ArrayRef, DictionaryArray, Int64Array, LargeStringArray, StringArray, StringViewArray,
    };

    use super::*;

    const WORDS: [&str; 5] = ["a", "b", "a", "", "ü"];

    /// 5 000 rows in chunks of `chunk` with text of one kind or another.
    fn spooled(dir: &Path, chunk: usize, text: impl Fn(&[&str]) -> ArrayRef) -> Vec<u8> {
        let path = dir.join("table.parquet");
        let mut spool: Option<Spool> = None;
        for first in (0..5_000).step_by(chunk) {
            let rows = first..(first + chunk).min(5_000);
            let words: Vec<&str> = rows.clone().map(|i| WORDS[i % WORDS.len()]).collect();
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.map(|i| i as i64)));
            let index = numbers.clone();
            let columns = [("n", numbers), ("t", text(&words)), ("__index_level_0__", index)];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let spool = spool.get_or_insert_with(|| Spool::create(&path, &batch.schema()).unwrap());
            spool.push(&batch).unwrap();
        }
        assert_eq!(spool.unwrap().finish().unwrap(), 5_000);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn bytes_depend_on_the_values_alone() {
        let dir = tempfile::tempdir().unwrap();
        let plain = |words: &[&str]| Arc::new(StringArray::from(words.to_vec())) as ArrayRef;
        let expected = spooled(dir.path(), 5_000, plain);
        assert!(!expected.windows(13).any(|w| w == b"__index_level"), "an unnamed index is no column");
        for chunk in [1, 7, 1_024, 4_999] {
            assert!(spooled(dir.path(), chunk, plain) == expected, "chunks of {chunk}");
        }
        let large = |words: &[&str]| Arc::new(LargeStringArray::from(words.to_vec())) as ArrayRef;
        assert!(spooled(dir.path(), 700, large) == expected, "large text");
        let view = |words: &[&str]| Arc::new(StringViewArray::from(words.to_vec())) as ArrayRef;
        assert!(spooled(dir.path(), 700, view) == expected, "views of text");
        let coded = |words: &[&str]| {
            Arc::new(words.iter().copied().collect::<DictionaryArray<Int32Type>>()) as ArrayRef
        };
        assert!(spooled(dir.path(), 5_000, coded) == expected, "a dictionary");
    }

    #[test]
    fn a_type_that_files_lack_is_named_with_its_column() {
        let dir = tempfile::tempdir().unwrap();
        let months = arrow_schema::DataType::Interval(arrow_schema::IntervalUnit::MonthDayNano);
        let schema = Schema::new(vec![arrow_schema::Field::new("when", months, true)]);
        let e = Spool::create(&dir.path().join("t.parquet"), &schema).map(drop).unwrap_err();
        assert!(e.to_string().contains("when"), "{e}");
    }
}
