//! `samples.arrow`: where every input row belongs. Row r is in record batch r >> 20.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ArrayRef, Float32Array, RecordBatch, UInt32Array};
use arrow_buffer::{BooleanBuffer, NullBuffer};

use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;

use super::columns::{Column, Contract, Shape, Type};
use super::manifest::FileEntry;
use super::table::{BATCH_BITS, BATCH_ROWS};
use super::{Kind, Metadata, TableReader, TableWriter};

pub const CONTRACT: Contract = Contract {
    name: "samples",
    path: "samples.arrow",
    one_row_per: "input row, in order; all columns are null for a row that is not planned",
    absent: "",
    columns: &[
        Column::new("modality", Type::U32, "its modality", "", "0 .. M").nullable(),
        Column::new("stratum", Type::U32, "its stratum", "", "0 .. strata").nullable(),
        Column::new(
            "distance",
            Type::F32,
            "Euclidean distance to its modality's `center`, in feature space, canonical order",
            "distance",
            ">= 0",
        )
        .nullable(),
        Column::new(
            "centrality",
            Type::F32,
            "1 = centre, 0 = edge of its modality: 1 - (rank + 1/2) / rows by ascending distance",
            "",
            "(0, 1)",
        )
        .nullable(),
    ],
    metadata: &[],
};

/// Streams the rows to disk, in row order.
pub struct SamplesWriter {
    table: TableWriter,
}

impl SamplesWriter {
    pub fn create(root: &Path) -> Result<Self> {
        let schema = CONTRACT.schema(&Shape::default(), &[], Metadata::new());
        Ok(SamplesWriter { table: TableWriter::create(root, CONTRACT.path, Kind::Samples, schema)? })
    }

    /// The next rows; the four slices are equally long. Where `modality` is [`NONE`] all four columns are null.
    pub fn push(
        &mut self,
        modality: &[u32],
        stratum: &[u32],
        distance: &[f32],
        centrality: &[f32],
    ) -> Result<()> {
        let n = modality.len();
        assert!(
            stratum.len() == n && distance.len() == n && centrality.len() == n,
            "the columns of samples.arrow are equally long"
        );
        for at in (0..n).step_by(BATCH_ROWS) {
            let r = at..(at + BATCH_ROWS).min(n);
            let modality = &modality[r.clone()];
            let nulls = modality.contains(&NONE).then(|| {
                NullBuffer::new(BooleanBuffer::collect_bool(modality.len(), |i| modality[i] != NONE))
            });
            let number = |column: &[u32]| -> ArrayRef {
                let values: Vec<u32> =
                    column.iter().zip(modality).map(|(&v, &m)| if m == NONE { 0 } else { v }).collect();
                Arc::new(UInt32Array::new(values.into(), nulls.clone()))
            };
            let real = |column: &[f32]| -> ArrayRef {
                let values: Vec<f32> =
                    column.iter().zip(modality).map(|(&v, &m)| if m == NONE { 0.0 } else { v }).collect();
                Arc::new(Float32Array::new(values.into(), nulls.clone()))
            };
            let columns = vec![
                number(modality),
                number(&stratum[r.clone()]),
                real(&distance[r.clone()]),
                real(&centrality[r]),
            ];
            let schema = Arc::new(CONTRACT.schema(&Shape::default(), &[], Metadata::new()));
            let batch =
                RecordBatch::try_new(schema, columns).expect("four columns of one length as in the contract");
            self.table.push(&batch)?;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<FileEntry> {
        self.table.finish()
    }
}

#[derive(Debug)]
struct Chunk {
    modality: UInt32Array,
    stratum: UInt32Array,
    distance: Float32Array,
    centrality: Float32Array,
}

/// All rows, mapped. Every look-up is O(1).
#[derive(Debug)]
pub struct Samples {
    chunks: Vec<Chunk>,
    rows: u64,
}

/// One row of `samples.arrow` that is planned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleValues {
    pub modality: u32,
    pub stratum: u32,
    pub distance: f32,
    pub centrality: f32,
}

impl Samples {
    /// O(rows / 8) where rows are left out (their bitmaps are counted), else O(record batches). Errors if the four
    /// columns are not null in the same rows.
    pub fn decode(table: &TableReader) -> Result<Samples> {
        let mut chunks = Vec::with_capacity(table.batches());
        for i in 0..table.batches() {
            let batch = table.batch(i)?;
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(table, name));
            let chunk = Chunk {
                modality: column("modality")?.as_primitive::<UInt32Type>().clone(),
                stratum: column("stratum")?.as_primitive::<UInt32Type>().clone(),
                distance: column("distance")?.as_primitive::<Float32Type>().clone(),
                centrality: column("centrality")?.as_primitive::<Float32Type>().clone(),
            };
            let nulls = chunk.modality.nulls();
            if chunk.stratum.nulls() != nulls
                || chunk.distance.nulls() != nulls
                || chunk.centrality.nulls() != nulls
            {
                return Err(table.damaged("its columns are not null in the same rows"));
            }
            chunks.push(chunk);
        }
        Ok(Samples { chunks, rows: table.rows() })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    #[inline]
    fn place(&self, row: u64) -> (&Chunk, usize) {
        assert!(row < self.rows, "row {row} of a plan of {} rows", self.rows);
        (&self.chunks[(row >> BATCH_BITS) as usize], (row & (BATCH_ROWS as u64 - 1)) as usize)
    }

    /// [`NONE`] for a row that is not planned. Panics, as the others here, if `row` is not below [`Samples::rows`].
    #[inline]
    pub fn modality(&self, row: u64) -> u32 {
        let (c, i) = self.place(row);
        if c.modality.is_valid(i) { c.modality.value(i) } else { NONE }
    }

    /// [`NONE`] for a row that is not planned.
    #[inline]
    pub fn stratum(&self, row: u64) -> u32 {
        let (c, i) = self.place(row);
        if c.stratum.is_valid(i) { c.stratum.value(i) } else { NONE }
    }

    /// None for a row that is not planned.
    #[inline]
    pub fn centrality(&self, row: u64) -> Option<f32> {
        let (c, i) = self.place(row);
        c.centrality.is_valid(i).then(|| c.centrality.value(i))
    }

    /// None for a row that is not planned.
    #[inline]
    pub fn distance(&self, row: u64) -> Option<f32> {
        let (c, i) = self.place(row);
        c.distance.is_valid(i).then(|| c.distance.value(i))
    }

    /// All four, None for a row that is not planned.
    pub fn get(&self, row: u64) -> Option<SampleValues> {
        let (c, i) = self.place(row);
        c.modality.is_valid(i).then(|| SampleValues {
            modality: c.modality.value(i),
            stratum: c.stratum.value(i),
            distance: c.distance.value(i),
            centrality: c.centrality.value(i),
        })
    }

    /// Number of chunks of 2^20 rows, for scans.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// (modality, stratum, distance, centrality) of chunk `i`, without copying.
    pub fn chunk(&self, i: usize) -> (&UInt32Array, &UInt32Array, &Float32Array, &Float32Array) {
        let c = &self.chunks[i];
        (&c.modality, &c.stratum, &c.distance, &c.centrality)
    }
}

pub(super) fn missing(table: &TableReader, name: &str) -> Error {
    table.damaged(format!("column `{name}` is missing"))
}
