//! The files of a copy: which columns they have, what they say of where they come from, and how a file is written.

use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch, UInt32Array, types::Int64Type};
use arrow_cast::cast;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::{Deserialize, Serialize};

use super::permute::{Ordered, arrow, failed};
use super::{Params, With};
use crate::format::samples::Samples;
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::kit::progress::Stage;
use crate::pipeline::synth::system_said;
use crate::plan::Plan;
use crate::source::Stored;

/// What kind of files a copy has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// part-00000.parquet, ..: row groups of whole batches.
    #[default]
    Parquet,
    /// part-00000.arrow, ..: Arrow IPC files without compression, to map into memory; record batches are what row groups are.
    Arrow,
    /// An array a column, [`npy`](super::npy).
    Npy,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::Parquet, Format::Arrow, Format::Npy];

    pub fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
            Format::Npy => "npy",
        }
    }
}

/// The name of a numbered file.
pub fn part(number: u64, format: Format) -> String {
    format!("part-{number:05}.{}", format.name())
}

/// Whether a file has such a name.
pub fn is_part(name: &str) -> bool {
    let number = |ending: &str| name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(ending));
    let number = number(".parquet").or_else(|| number(".arrow"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The columns that a copy has beside those of the data.
pub struct Added {
    batch: String,
    row: String,
    pub with: Vec<(With, String)>,
}

impl Added {
    pub fn new(plan: &Plan, stored: &Stored, params: &Params) -> Result<Added> {
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

    pub fn names(&self) -> Vec<String> {
        let with = self.with.iter().map(|(_, name)| name.clone());
        [self.batch.clone(), self.row.clone()].into_iter().chain(with).collect()
    }

    /// The columns of a working file: the data's, the row's number and its place in the copy.
    pub fn spilled(&self, data: &SchemaRef) -> SchemaRef {
        let own = [&self.row, &self.batch].map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
        Arc::new(Schema::new(data.fields().iter().cloned().chain(own).collect::<Vec<_>>()))
    }

    /// The columns of the copy.
    pub fn schema(&self, data: &SchemaRef) -> SchemaRef {
        let own = [&self.batch, &self.row].map(|name| Field::new(name, DataType::Int64, false));
        let with = self.with.iter().map(|(with, name)| match with {
            With::Centrality => Field::new(name, DataType::Float32, true),
            _ => Field::new(name, DataType::Int64, false),
        });
        let added = own.into_iter().chain(with).map(Arc::new);
        Arc::new(Schema::new(data.fields().iter().cloned().chain(added).collect::<Vec<_>>()))
    }
}

/// What the copy says of itself: what the data's first file does, by key, and then what made the copy.
pub fn metadata(plan: &Plan, stored: &Stored, epoch: u32, batch_size: u32) -> Vec<(String, String)> {
    let mut metadata: Vec<(String, String)> = (stored.metadata().iter())
        .filter(|(key, _)| *key != "ARROW:schema" && !key.starts_with("batchwright."))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    metadata.sort();
    metadata.push(("batchwright.plan".into(), plan.manifest().plan.clone()));
    metadata.push(("batchwright.epoch".into(), epoch.to_string()));
    metadata.push(("batchwright.batch_size".into(), batch_size.to_string()));
    metadata
}

/// The rows of a copy, all its columns.
pub struct Rows<'a> {
    pub schema: SchemaRef,
    pub added: &'a Added,
    pub samples: &'a Samples,
    /// Rows of a batch.
    pub batch: u64,
}

impl Rows<'_> {
    /// Those at some places of the copy, all of them in `from`.
    pub fn at(&self, places: Range<u64>, from: &Ordered) -> Result<RecordBatch> {
        let data = from.all.num_columns() - 2;
        let order = &from.order[(places.start - from.first) as usize..(places.end - from.first) as usize];
        let rows = take_record_batch(&from.all, &UInt32Array::from(order.to_vec())).map_err(arrow)?;
        let numbers = rows.column(data).clone();
        let batches: Int64Array = places.map(|place| (place / self.batch) as i64).collect();
        let mut columns: Vec<ArrayRef> = rows.columns()[..data].to_vec();
        columns.push(Arc::new(batches));
        columns.push(numbers.clone());
        let of = numbers.as_primitive::<Int64Type>().values();
        let samples = self.samples;
        for (with, _) in &self.added.with {
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
        RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow)
    }
}

/// How a numbered file is written.
pub enum Writing {
    /// Zstandard, and for numbers of vectors their bytes apart.
    Parquet(Box<WriterProperties>),
    /// As it lies in memory, dictionaries whole in every file. The schema has the metadata.
    Arrow(SchemaRef),
}

enum Writer {
    Parquet(Box<ArrowWriter<File>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
}

impl Writing {
    pub fn format(&self) -> Format {
        match self {
            Writing::Parquet(_) => Format::Parquet,
            Writing::Arrow(_) => Format::Arrow,
        }
    }

    pub fn parquet(schema: &Schema, metadata: Vec<(String, String)>) -> Result<Writing> {
        let columns = ArrowSchemaConverter::new().convert(schema).map_err(|e| arrow(e.into()))?;
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
        let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
        Ok(Writing::Parquet(Box::new(properties.set_key_value_metadata(Some(metadata)).build())))
    }

    pub fn arrow(schema: &Schema, metadata: Vec<(String, String)>) -> Writing {
        let metadata: std::collections::HashMap<String, String> = metadata.into_iter().collect();
        Writing::Arrow(Arc::new(schema.clone().with_metadata(metadata)))
    }

    /// Writes the rows at some places, `group` at a time; bytes of the file.
    pub fn write(
        &self,
        path: &Path,
        places: Range<u64>,
        group: u64,
        rows: &Rows<'_>,
        from: &Ordered,
        stage: &Stage<'_>,
    ) -> Result<u64> {
        let failed_parquet = |e: ParquetError| Error::io("write", path)(system_said(e));
        let file = File::create(path).map_err(Error::io("create", path))?;
        // An Arrow file has one dictionary a column.
        let whole = match self {
            Writing::Parquet(_) => None,
            Writing::Arrow(_) => Some(settled(rows.at(places.clone(), from)?).map_err(arrow)?),
        };
        let mut writer = match self {
            Writing::Parquet(properties) => {
                let properties = Some(properties.as_ref().clone());
                let writer = ArrowWriter::try_new(file, rows.schema.clone(), properties);
                Writer::Parquet(Box::new(writer.map_err(failed_parquet)?))
            }
            Writing::Arrow(schema) => {
                Writer::Arrow(Box::new(FileWriter::try_new_buffered(file, schema).map_err(failed(path))?))
            }
        };
        for first in places.clone().step_by(group as usize) {
            let end = (first + group).min(places.end);
            let group = match &whole {
                None => rows.at(first..end, from)?,
                Some(whole) => whole.slice((first - places.start) as usize, (end - first) as usize),
            };
            match &mut writer {
                Writer::Parquet(writer) => {
                    writer.write(&group).and_then(|()| writer.flush()).map_err(failed_parquet)?;
                }
                Writer::Arrow(writer) => writer.write(&group).map_err(failed(path))?,
            }
            stage.advance(end - first)?;
        }
        let file = match writer {
            Writer::Parquet(writer) => writer.into_inner().map_err(failed_parquet)?,
            Writer::Arrow(writer) => {
                let buffered = writer.into_inner().map_err(failed(path))?;
                buffered.into_inner().map_err(|e| Error::io("write", path)(e.into_error()))?
            }
        };
        file.sync_all().map_err(Error::io("write", path))?;
        file.metadata().map(|m| m.len()).map_err(Error::io("read", path))
    }
}

/// The same rows, their dictionaries in the order of the rows and views of texts that they have alone: both are otherwise
/// as the rows came together.
fn settled(rows: RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
    let settle = |column: &ArrayRef| -> std::result::Result<ArrayRef, ArrowError> {
        let plain = plain(column.data_type());
        if plain == *column.data_type() {
            return Ok(column.clone());
        }
        cast(&cast(column, &plain)?, column.data_type())
    };
    let columns = rows.columns().iter().map(settle).collect::<std::result::Result<_, _>>()?;
    RecordBatch::try_new(rows.schema(), columns)
}

/// The type without dictionaries and views.
fn plain(of: &DataType) -> DataType {
    let field = |field: &FieldRef| -> FieldRef {
        Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())))
    };
    match of {
        DataType::Dictionary(_, values) => plain(values),
        DataType::Utf8View => DataType::LargeUtf8,
        DataType::BinaryView => DataType::LargeBinary,
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}
