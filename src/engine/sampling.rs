//! Chosen rows of some row groups, encoded where that is asked for, and the groups' fingerprints: the pass that comes before any
//! model.

use std::io::Cursor;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use serde::{Deserialize, Serialize};

use crate::features::{Encoder, InputReader, Inputs};
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::parts::Local;
use crate::source::{self, Bad, Dataset, RawRows};

/// What is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sampling {
    /// Of the chosen rows: the features.
    pub inputs: Inputs,
    /// And other columns.
    pub table: Vec<String>,
    /// Columns whose bytes make the fingerprints.
    pub named: Vec<String>,
}

/// Fingerprint of a row group, and the bytes it covers.
pub type Print = (String, u64);

impl Sampling {
    /// Fingerprints alone.
    pub fn of_bytes(named: Vec<String>) -> Sampling {
        Sampling { inputs: Inputs::default(), table: Vec::new(), named }
    }

    /// Chosen `rows` (ascending), and the fingerprints of the row groups that hold them, on these threads. `stage` is that of the
    /// progress.
    pub fn read(
        &self,
        stage: &'static str,
        dataset: &Dataset,
        encoder: Option<&Encoder>,
        row_groups: &[usize],
        rows: &[u64],
        local: &Local,
    ) -> Result<(RawRows, Vec<Print>)> {
        let progress = local.progress().clone();
        let reader =
            InputReader::new(dataset, &self.inputs, self.table.clone(), encoder, &|_| true, progress)?;
        let (mut raw, prints) =
            source::sample_pass(stage, reader.columns(), &self.named, row_groups, rows, local)?;
        reader.encode(&mut raw, local)?;
        Ok((raw, prints))
    }
}

/// [`RawRows`] and fingerprints as they travel; the table as Arrow writes it.
#[derive(Serialize, Deserialize)]
pub struct Sampled {
    rows: Vec<u64>,
    vectors: Vec<Matrix>,
    table: Option<Vec<u8>>,
    bad: Vec<Bad>,
    pub prints: Vec<Print>,
}

fn odd(cause: ArrowError) -> Error {
    Error::input("the sample", "cannot be sent to the driver", "run without --engine").because(cause)
}

impl Sampled {
    pub fn new(raw: RawRows, prints: Vec<Print>) -> Result<Sampled> {
        let RawRows { rows, vectors, table, bad } = raw;
        let written = |table: &RecordBatch| {
            let mut bytes = Vec::new();
            let mut writer = StreamWriter::try_new(&mut bytes, &table.schema())?;
            writer.write(table)?;
            writer.finish()?;
            Ok(bytes)
        };
        let table = table.as_ref().map(written).transpose().map_err(odd)?;
        Ok(Sampled { rows, vectors, table, bad, prints })
    }

    /// The rows of all tasks, one after the other.
    pub fn join(all: Vec<Sampled>) -> Result<(RawRows, Vec<Print>)> {
        let mut out = RawRows::default();
        let (mut tables, mut prints) = (Vec::new(), Vec::new());
        let columns = all.first().map_or(0, |first| first.vectors.len());
        for v in 0..columns {
            let dims = all.iter().map(|part| part.vectors[v].cols()).max().unwrap_or(0);
            let rows = all.iter().map(|part| part.vectors[v].rows()).sum();
            let parts: Vec<&[f32]> = all.iter().map(|part| part.vectors[v].as_slice()).collect();
            out.vectors.push(Matrix::from_vec(rows, dims, parts.concat()));
        }
        for part in all {
            let at = out.rows.len();
            out.rows.extend(part.rows);
            out.bad.extend(part.bad.into_iter().map(|bad| Bad { index: at + bad.index, ..bad }));
            prints.extend(part.prints);
            if let Some(bytes) = part.table {
                let batches = StreamReader::try_new(Cursor::new(bytes), None).map_err(odd)?;
                tables.extend(batches.collect::<std::result::Result<Vec<_>, _>>().map_err(odd)?);
            }
        }
        if let Some(first) = tables.first() {
            out.table = Some(concat_batches(&first.schema(), &tables).map_err(odd)?);
        }
        Ok((out, prints))
    }
}
