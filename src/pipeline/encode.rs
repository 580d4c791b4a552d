//! Embeddings as a column: every row's, in row order, in a Parquet file of their own. A plan made from that file and one
//! that encodes on the way see the same points.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rayon::prelude::*;
use serde::Serialize;

use crate::config::{Config, Run};
use crate::features::{ENCODED_ROWS, InputReader, Inputs, Params};
use crate::kit::error::{Error, Result};
use crate::kit::output::{Output, Replace};
use crate::kit::progress::Progress;
use crate::parts::{Read, parts_of};
use crate::pipeline::synth::system_said;
use crate::source::{Invalid, RawRows, Selection, local_files};

/// Name of the column.
const COLUMN: &str = "embedding";

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Encoded {
    pub rows: u64,
    /// Rows without an embedding: null, filtered or with an unusable value.
    pub null: u64,
    pub dims: usize,
    pub encoder: String,
    pub bytes: u64,
    pub seconds: f64,
}

/// Encodes the column `features.encode` of every row and writes a fixed-size list of `f32` a row to `out`: null where the
/// row is filtered out, or unusable and `source.invalid` drops it. Memory: a few parts a thread and one row group.
pub fn write(
    inputs: &[String],
    config: &Config,
    out: &Path,
    run: &Run,
    progress: &Progress,
) -> Result<Encoded> {
    let begun = Instant::now();
    config.check()?;
    if config.features.encode.is_none() {
        let help = "name the column with --encode, and the model with --encoder";
        return Err(Error::config("features.encode", "there is no column to encode", help));
    }
    let replace = if run.force { Replace::Any { own: &|_| false } } else { Replace::Nothing };
    let output = Output::file("--out", out, replace, &local_files(inputs)?)?;
    run.scope(progress, |engine| {
        let dataset = config.open(inputs, run.memory, progress)?;
        let encoder = run.open_encoder(config)?;
        let alone = Params { columns: Vec::new(), ..config.features.clone() };
        let chosen = Inputs::choose(&alone, dataset.columns(), &[])?.encoded_by(encoder.as_ref())?;
        let dims = encoder.as_ref().map_or(0, |e| e.dims());
        let selection = match &config.source.filter {
            Some(sql) => dataset.select(sql, engine)?,
            None => Selection::all(dataset.rows()),
        };
        let keep = |row| selection.contains(row);
        let reader =
            InputReader::new(&dataset, &chosen, Vec::new(), encoder.as_ref(), &keep, progress.clone())?;

        let item = Arc::new(Field::new("element", DataType::Float32, false));
        let list = DataType::FixedSizeList(item.clone(), dims as i32);
        let schema = Arc::new(Schema::new(vec![Field::new(COLUMN, list, true)]));
        let failed = |e: ParquetError| Error::io("write", out)(system_said(e));
        let file = File::create(output.path()).map_err(Error::io("create", output.path()))?;
        // Random numbers neither repeat nor have useful minima.
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_max_row_group_row_count(Some(65_536))
            .build();
        let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(failed)?;
        let stage = progress.stage("encode", "rows", dataset.rows());
        let mut null = 0;
        for wave in parts_of(dataset.rows(), ENCODED_ROWS).chunks(4 * engine.threads()) {
            let one = |part| {
                let mut raw = RawRows::default();
                reader.read(part, &mut raw)?;
                stage.advance(part.rows as u64)?;
                Ok(raw)
            };
            let done: Vec<Result<RawRows>> = wave.par_iter().map(one).collect();
            for raw in done {
                let mut raw = raw?;
                let mut there: Vec<bool> = raw.rows.iter().map(|&row| keep(row)).collect();
                for bad in raw.bad.iter().filter(|b| keep(raw.rows[b.index])) {
                    if config.source.invalid == Invalid::Error {
                        let (path, row) = dataset.describe_row(raw.rows[bad.index]);
                        let help =
                            "write null for such rows with --invalid drop, or leave them out with --where";
                        return Err(Error::input(path, bad.reason.as_str(), help)
                            .column(&bad.column)
                            .row(row));
                    }
                    there[bad.index] = false;
                }
                null += there.iter().filter(|x| !**x).count() as u64;
                let numbers = Float32Array::from(raw.vectors.remove(0).as_slice().to_vec());
                let nulls = Some(NullBuffer::from(there));
                let column = FixedSizeListArray::new(item.clone(), dims as i32, Arc::new(numbers), nulls);
                let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(column) as ArrayRef])
                    .expect("one column of the schema's type");
                writer.write(&batch).map_err(failed)?;
            }
        }
        drop(stage);
        writer.close().map_err(failed)?;
        let bytes = std::fs::metadata(output.path()).map_err(Error::io("read", output.path()))?.len();
        output.commit()?;
        Ok(Encoded {
            rows: dataset.rows(),
            null,
            dims,
            encoder: encoder.map_or(String::new(), |e| e.identity()),
            bytes,
            seconds: begun.elapsed().as_secs_f64(),
        })
    })
}
