//! `batches/size-<B>/epoch-<e>.arrow`: which rows meet in which batch, and how much each batch counts.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Float32Array, ListArray, RecordBatch, UInt32Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::SchemaRef;

use crate::kernels::rows::RowIds;
use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type, item};
use super::manifest::FileEntry;
use super::samples::missing;
use super::table::{BATCH_ROWS, row_array};
use super::{Kind, Metadata, TableReader, TableWriter};

pub const CONTRACT: Contract = Contract {
    name: "batches",
    path: "batches/size-<B>/epoch-<e>.arrow",
    one_row_per: "batch, in training order; max(1, 2^20 / B) batches per record batch",
    absent: "the epoch is not among the first `epochs`; it can be computed from the plan",
    columns: &[
        Column::new("batch", Type::U32, "its number in the epoch: the place in this table", "", "0 .. batches"),
        Column::new("rows", Type::Rows, "its global row numbers, in the order to be used", "row", "0 .. rows"),
        Column::new(
            "centrality",
            Type::F32List,
            "centrality of each of its rows, unless weights are off: the weight of a row at progress u is exp(beta(u) (centrality - 1/2)) normaliser(u), see `weights`",
            "",
            "(0, 1)",
        )
        .optional(),
        Column::new(
            "loss_weight",
            Type::F32List,
            "p_h / q_h of each of its rows, only where shares are skewed on purpose: natural over drawn share of its stratum",
            "",
            "> 0",
        )
        .optional(),
        Column::new("n_eff", Type::F32, "effective sample size: what the batch is worth in random rows", "rows", "> 0"),
        Column::new(
            "x",
            Type::F32,
            "normalised squared distance of its histogram over `score_groups`: 1 for a random batch on average, 0 for an exact one",
            "",
            ">= 0",
        ),
        Column::new("score", Type::F32, "n_eff / information_threshold", "", "> 0"),
        Column::new("update", Type::U32, "the optimizer update that it belongs to", "", ">= 0, ascending"),
        Column::new(
            "coefficient",
            Type::F32,
            "weight of its mean gradient in that update; they sum to 1",
            "",
            "(0, 1]",
        ),
        Column::new("ends_update", Type::Boolean, "is it the last of its update?", "", ""),
    ],
    metadata: &[],
};

/// `batches/size-<B>/epoch-<e>.arrow`.
pub fn path(batch_size: u32, epoch: u32) -> String {
    format!("batches/size-{batch_size}/epoch-{epoch}.arrow")
}

/// The same with `{epoch}` in place of the number, as in `candidates` of plan.json.
pub fn path_pattern(batch_size: u32) -> String {
    format!("batches/size-{batch_size}/epoch-{{epoch}}.arrow")
}

/// One batch. The optional slices are as long as `rows`, and present in all batches of a file or in none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchRecord<'a> {
    pub batch: u32,
    pub rows: &'a [u64],
    pub centrality: Option<&'a [f32]>,
    pub loss_weight: Option<&'a [f32]>,
    pub n_eff: f32,
    pub x: f32,
    pub score: f32,
    pub update: u32,
    pub coefficient: f32,
    pub ends_update: bool,
}

/// Streams the batches of one epoch to disk.
pub struct BatchesWriter {
    table: TableWriter,
    schema: SchemaRef,
    row_type: RowType,
    /// Batches of a record batch.
    every: usize,
    pending: Pending,
}

#[derive(Default)]
struct Pending {
    batch: Vec<u32>,
    ends: Vec<i32>,
    rows: Vec<u64>,
    centrality: Vec<f32>,
    loss_weight: Vec<f32>,
    n_eff: Vec<f32>,
    x: Vec<f32>,
    score: Vec<f32>,
    update: Vec<u32>,
    coefficient: Vec<f32>,
    ends_update: Vec<bool>,
}

/// Batches of a record batch.
pub fn batches_per_record_batch(batch_size: u32) -> usize {
    (BATCH_ROWS / batch_size.max(1) as usize).max(1)
}

impl BatchesWriter {
    pub fn create(
        root: &Path,
        batch_size: u32,
        epoch: u32,
        row_type: RowType,
        with_centrality: bool,
        with_loss_weight: bool,
    ) -> Result<Self> {
        let mut with = Vec::new();
        if with_centrality {
            with.push("centrality");
        }
        if with_loss_weight {
            with.push("loss_weight");
        }
        let every = batches_per_record_batch(batch_size);
        let schema = CONTRACT.schema(&Shape { row: row_type, ..Shape::default() }, &with, Metadata::new());
        let table = TableWriter::create(root, &path(batch_size, epoch), Kind::Batches, schema.clone())?;
        Ok(BatchesWriter {
            table: table.rows_per_batch(every),
            schema: Arc::new(schema),
            row_type,
            every,
            pending: Pending::default(),
        })
    }

    /// The next batch.
    pub fn push(&mut self, b: &BatchRecord<'_>) -> Result<()> {
        let same = |x: Option<&[f32]>, name: &str| {
            assert_eq!(
                x.is_some(),
                self.schema.column_with_name(name).is_some(),
                "{name} is in all batches or in none"
            );
            assert!(x.is_none_or(|x| x.len() == b.rows.len()), "{name} has one number a row");
        };
        same(b.centrality, "centrality");
        same(b.loss_weight, "loss_weight");
        let p = &mut self.pending;
        p.batch.push(b.batch);
        p.rows.extend_from_slice(b.rows);
        p.ends.push(
            i32::try_from(p.rows.len())
                .expect("a record batch holds about 2^20 rows, or one batch below 2^31"),
        );
        p.centrality.extend_from_slice(b.centrality.unwrap_or_default());
        p.loss_weight.extend_from_slice(b.loss_weight.unwrap_or_default());
        p.n_eff.push(b.n_eff);
        p.x.push(b.x);
        p.score.push(b.score);
        p.update.push(b.update);
        p.coefficient.push(b.coefficient);
        p.ends_update.push(b.ends_update);
        if p.batch.len() == self.every { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let p = std::mem::take(&mut self.pending);
        if p.batch.is_empty() {
            return Ok(());
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from_iter([0].into_iter().chain(p.ends)));
        let list = |values: ArrayRef| -> ArrayRef {
            Arc::new(ListArray::new(item(values.data_type().clone()), offsets.clone(), values, None))
        };
        let real = |v: Vec<f32>| -> ArrayRef { Arc::new(Float32Array::from(v)) };
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::from(p.batch)), list(row_array(p.rows.into_iter(), self.row_type))];
        if self.schema.column_with_name("centrality").is_some() {
            columns.push(list(real(p.centrality)));
        }
        if self.schema.column_with_name("loss_weight").is_some() {
            columns.push(list(real(p.loss_weight)));
        }
        columns.extend([
            real(p.n_eff),
            real(p.x),
            real(p.score),
            Arc::new(UInt32Array::from(p.update)),
            real(p.coefficient),
            Arc::new(BooleanArray::from(p.ends_update)),
        ]);
        let batch = RecordBatch::try_new(self.schema.clone(), columns).expect("columns as in the contract");
        self.table.push(&batch)
    }

    pub fn finish(mut self) -> Result<FileEntry> {
        self.flush()?;
        self.table.finish()
    }
}

#[derive(Debug)]
struct Chunk {
    rows: ListArray,
    centrality: Option<ListArray>,
    loss_weight: Option<ListArray>,
    n_eff: Float32Array,
    x: Float32Array,
    score: Float32Array,
    update: UInt32Array,
    coefficient: Float32Array,
    ends_update: BooleanArray,
}

/// The batches of one epoch, mapped.
#[derive(Debug)]
pub struct Batches {
    chunks: Vec<Chunk>,
    every: usize,
    len: usize,
}

/// One batch, without copying.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub rows: RowIds<'a>,
    pub centrality: Option<&'a [f32]>,
    pub loss_weight: Option<&'a [f32]>,
    pub n_eff: f32,
    pub x: f32,
    pub score: f32,
    pub update: u32,
    pub coefficient: f32,
    pub ends_update: bool,
}

impl Batches {
    /// O(batches). Errors if the lists of a batch differ in length or batches are not numbered in order.
    pub fn decode(table: &TableReader) -> Result<Batches> {
        let mut chunks = Vec::with_capacity(table.batches());
        let mut next = 0u32;
        for i in 0..table.batches() {
            let batch = table.batch(i)?;
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(table, name));
            let real = |name: &str| Ok(column(name)?.as_primitive::<Float32Type>().clone());
            let list = |name: &str| batch.column_by_name(name).map(|a| a.as_list::<i32>().clone());
            for &number in column("batch")?.as_primitive::<UInt32Type>().values() {
                if number != next {
                    return Err(table.damaged(format!("batch {number} stands where {next} should be")));
                }
                next += 1;
            }
            let chunk = Chunk {
                rows: column("rows")?.as_list::<i32>().clone(),
                centrality: list("centrality"),
                loss_weight: list("loss_weight"),
                n_eff: real("n_eff")?,
                x: real("x")?,
                score: real("score")?,
                update: column("update")?.as_primitive::<UInt32Type>().clone(),
                coefficient: real("coefficient")?,
                ends_update: column("ends_update")?.as_boolean().clone(),
            };
            for other in chunk.centrality.iter().chain(&chunk.loss_weight) {
                if !other.offsets().lengths().eq(chunk.rows.offsets().lengths()) {
                    return Err(table.damaged("a batch has lists of different lengths"));
                }
            }
            chunks.push(chunk);
        }
        Ok(Batches { chunks, every: table.rows_per_batch() as usize, len: table.rows() as usize })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Batch `b`, O(1). Panics if `b` is not below the length.
    pub fn get(&self, b: usize) -> Batch<'_> {
        assert!(b < self.len, "batch {b} of {}", self.len);
        let (c, i) = (&self.chunks[b / self.every], b % self.every);
        let range = |list: &ListArray| list.value_offsets()[i] as usize..list.value_offsets()[i + 1] as usize;
        Batch {
            rows: row_ids(&c.rows, range(&c.rows)),
            centrality: c.centrality.as_ref().map(|l| reals(l, range(l))),
            loss_weight: c.loss_weight.as_ref().map(|l| reals(l, range(l))),
            n_eff: c.n_eff.value(i),
            x: c.x.value(i),
            score: c.score.value(i),
            update: c.update.value(i),
            coefficient: c.coefficient.value(i),
            ends_update: c.ends_update.value(i),
        }
    }

    /// The rows of all batches one after another, in pieces that lie together.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = RowIds<'_>> {
        self.chunks.iter().map(|c| {
            let ends = c.rows.value_offsets();
            row_ids(&c.rows, ends[0] as usize..ends[ends.len() - 1] as usize)
        })
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Batch<'_>> {
        (0..self.len).map(|b| self.get(b))
    }
}

fn reals(list: &ListArray, range: std::ops::Range<usize>) -> &[f32] {
    &list.values().as_primitive::<Float32Type>().values()[range]
}

fn row_ids(list: &ListArray, range: std::ops::Range<usize>) -> RowIds<'_> {
    match list.values().as_primitive_opt::<UInt32Type>() {
        Some(x) => RowIds::U32(&x.values()[range]),
        None => RowIds::U64(&list.values().as_primitive::<UInt64Type>().values()[range]),
    }
}
