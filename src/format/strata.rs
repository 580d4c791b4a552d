//! `strata.arrow`: the planned rows grouped by stratum, ascending inside each: the members that batches are dealt from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::SchemaRef;

use crate::kernels::rows::RowIds;
use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type};
use super::dendrogram::{Merge, from_json, to_json};
use super::manifest::FileEntry;
use super::samples::missing;
use super::table::{BATCH_BITS, row_array};
use super::{Kind, Metadata, TableReader, TableWriter};

pub const CONTRACT: Contract = Contract {
    name: "strata",
    path: "strata.arrow",
    one_row_per: "planned row, grouped by stratum, ascending inside",
    absent: "",
    columns: &[Column::new("row", Type::Row, "global row number", "row", "0 .. rows")],
    metadata: &[
        (
            "offsets",
            "JSON list of strata + 1 numbers: stratum h is the rows offsets[h] .. offsets[h + 1] of this table",
        ),
        (
            "dendrogram",
            "JSON list of strata - 1 merges [left, right, height, size] in the order of average linkage; strata are nodes 0 .. strata, merge i makes node strata + i",
        ),
        (
            "values",
            "JSON list of the strata's values of the column that stratifies (`null` for null), or its bins `q0`, `q1`, ...; absent where none does",
        ),
        (
            "edges",
            "JSON list of ascending numbers, where the bins of the column that stratifies begin: a number x is in bin q<i> if i of them are <= x, null and NaN in `null`; absent without bins",
        ),
        (
            "labels",
            "JSON object from label to the rows of the fit sample that have it, where lists of labels stratify: a row's value is its label with the fewest (0: not listed; ties: the first by its text), `null` of empty lists; absent otherwise",
        ),
    ],
};

/// What the column that stratifies calls the strata.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// Of every stratum.
    pub values: Vec<String>,
    /// Where bins of its numbers begin, ascending, if strata are bins.
    pub edges: Option<Vec<f64>>,
    /// Rows of the fit sample that have each label, if rows have lists of labels.
    pub labels: Option<BTreeMap<String, u64>>,
}

/// Streams the members to disk, stratum after stratum.
pub struct StrataWriter {
    table: TableWriter,
    schema: SchemaRef,
    row_type: RowType,
    rows: u64,
    expected: u64,
}

impl StrataWriter {
    /// `offsets`: strata + 1 ascending numbers from 0 to the number of planned rows. `names`: where a column stratifies.
    pub fn create(
        root: &Path,
        row_type: RowType,
        offsets: &[u64],
        dendrogram: &[Merge],
        names: Option<&Names>,
    ) -> Result<Self> {
        assert!(
            offsets.first() == Some(&0)
                && offsets.is_sorted()
                && dendrogram.len() + 2 == offsets.len().max(2)
                && names.is_none_or(|names| names.values.len() + 1 == offsets.len()),
            "offsets rise from 0, a dendrogram of S strata has S - 1 merges, and each stratum has a name or none has"
        );
        let mut metadata = Metadata::from([
            ("offsets".to_string(), json(&offsets)),
            ("dendrogram".to_string(), to_json(dendrogram)),
        ]);
        if let Some(names) = names {
            metadata.insert("values".into(), json(&names.values));
            metadata.extend(names.edges.as_ref().map(|edges| ("edges".into(), json(edges))));
            metadata.extend(names.labels.as_ref().map(|labels| ("labels".into(), json(labels))));
        }
        let schema = CONTRACT.schema(&Shape { row: row_type, ..Shape::default() }, &[], metadata);
        let table = TableWriter::create(root, CONTRACT.path, Kind::Strata, schema.clone())?;
        let expected = offsets.last().copied().unwrap_or_default();
        Ok(StrataWriter { table, schema: Arc::new(schema), row_type, rows: 0, expected })
    }

    /// The next members, any number at a time.
    pub fn push(&mut self, rows: RowIds<'_>) -> Result<()> {
        let column: ArrayRef = match (rows, self.row_type) {
            (RowIds::U32(x), RowType::U32) => Arc::new(UInt32Array::from(x.to_vec())),
            (RowIds::U64(x), RowType::U64) => Arc::new(UInt64Array::from(x.to_vec())),
            (other, _) => row_array(other.iter(), self.row_type),
        };
        self.rows += rows.len() as u64;
        let batch =
            RecordBatch::try_new(self.schema.clone(), vec![column]).expect("one column, as in the contract");
        self.table.push(&batch)
    }

    /// Panics if the number of rows is not the last offset.
    pub fn finish(self) -> Result<FileEntry> {
        assert_eq!(self.rows, self.expected, "strata.arrow holds as many rows as its offsets say");
        self.table.finish()
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("numbers are always JSON")
}

#[derive(Debug)]
enum Chunks {
    U32(Vec<ScalarBuffer<u32>>),
    U64(Vec<ScalarBuffer<u64>>),
}

/// The members of all strata, mapped.
#[derive(Debug)]
pub struct Members {
    chunks: Chunks,
    offsets: Vec<u64>,
    dendrogram: Vec<Merge>,
    names: Option<Names>,
}

impl Members {
    /// O(record batches + strata). Errors if the offsets or the dendrogram do not fit the table.
    pub fn decode(table: &TableReader) -> Result<Members> {
        let text = |key: &str| table.metadata(key).ok_or_else(|| table.damaged(format!("it has no `{key}`")));
        let offsets: Vec<u64> = serde_json::from_str(text("offsets")?)
            .map_err(|e| table.damaged(format!("`offsets` cannot be read ({e})")))?;
        if offsets.first() != Some(&0) || offsets.last() != Some(&table.rows()) || !offsets.is_sorted() {
            return Err(table.damaged("`offsets` does not rise from 0 to the number of rows"));
        }
        let strata = offsets.len() - 1;
        let dendrogram = from_json(text("dendrogram")?, strata)
            .ok_or_else(|| table.damaged(format!("`dendrogram` does not join its {strata} strata")))?;
        let values: Option<Vec<String>> = (table.metadata("values").map(serde_json::from_str).transpose())
            .map_err(|e| table.damaged(format!("`values` cannot be read ({e})")))?;
        if values.as_ref().is_some_and(|v| v.len() != strata) {
            return Err(
                table.damaged(format!("`values` does not have one value for each of {strata} strata"))
            );
        }
        let edges: Option<Vec<f64>> = (table.metadata("edges").map(serde_json::from_str).transpose())
            .map_err(|e| table.damaged(format!("`edges` cannot be read ({e})")))?;
        if edges.as_ref().is_some_and(|edges| values.is_none() || !edges.is_sorted_by(|a, b| a < b)) {
            return Err(table.damaged("`edges` does not rise, or is of strata without values"));
        }
        let labels: Option<BTreeMap<String, u64>> =
            (table.metadata("labels").map(serde_json::from_str).transpose())
                .map_err(|e| table.damaged(format!("`labels` cannot be read ({e})")))?;
        let names = values.map(|values| Names { values, edges, labels });
        let wide = table
            .schema()
            .field_with_name("row")
            .is_ok_and(|f| f.data_type() == &arrow_schema::DataType::UInt64);
        let mut narrow_chunks = Vec::new();
        let mut wide_chunks = Vec::new();
        for i in 0..table.batches() {
            let batch = table.batch(i)?;
            let column = batch.column_by_name("row").ok_or_else(|| missing(table, "row"))?;
            if wide {
                wide_chunks.push(column.as_primitive::<UInt64Type>().values().clone());
            } else {
                narrow_chunks.push(column.as_primitive::<UInt32Type>().values().clone());
            }
        }
        let chunks = if wide { Chunks::U64(wide_chunks) } else { Chunks::U32(narrow_chunks) };
        Ok(Members { chunks, offsets, dendrogram, names })
    }

    /// The members that are kept, the strata as they are, some perhaps without rows. O(members), and as much memory.
    pub fn filtered(&self, keep: impl Fn(u64) -> bool) -> Members {
        fn chunked<T: arrow_buffer::ArrowNativeType>(rows: Vec<T>) -> Vec<ScalarBuffer<T>> {
            rows.chunks(1 << BATCH_BITS).map(|chunk| chunk.to_vec().into()).collect()
        }
        let (mut rows, mut offsets) = (Vec::new(), vec![0]);
        for h in 0..self.strata() {
            rows.extend(self.stratum(h).iter().filter(|&row| keep(row)));
            offsets.push(rows.len() as u64);
        }
        let chunks = match self.chunks {
            Chunks::U32(_) => Chunks::U32(chunked(rows.into_iter().map(|row| row as u32).collect())),
            Chunks::U64(_) => Chunks::U64(chunked(rows)),
        };
        Members { chunks, offsets, dendrogram: self.dendrogram.clone(), names: self.names.clone() }
    }

    pub fn strata(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Planned rows.
    pub fn len(&self) -> u64 {
        self.offsets[self.strata()]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// strata + 1 numbers.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    pub fn dendrogram(&self) -> &[Merge] {
        &self.dendrogram
    }

    /// What the column that stratifies calls the strata; None where none does.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// The strata's values of the column that stratifies; None where none does.
    pub fn values(&self) -> Option<&[String]> {
        Some(&self.names()?.values)
    }

    /// All members, stratum after stratum.
    pub fn rows(&self) -> RowIds<'_> {
        let len = self.len() as usize;
        match &self.chunks {
            Chunks::U32(chunks) => RowIds::Chunks32 { chunks, first: 0, len },
            Chunks::U64(chunks) => RowIds::Chunks64 { chunks, first: 0, len },
        }
        .slice(0..len)
    }

    /// Members of stratum `h`, ascending.
    pub fn stratum(&self, h: usize) -> RowIds<'_> {
        self.rows().slice(self.range(h))
    }

    fn range(&self, h: usize) -> Range<usize> {
        self.offsets[h] as usize..self.offsets[h + 1] as usize
    }

    /// Member `i` of the whole list: chunk i >> 20, place i & (2^20 - 1).
    #[inline]
    pub fn get(&self, i: u64) -> u64 {
        let (chunk, at) = ((i >> BATCH_BITS) as usize, (i & ((1 << BATCH_BITS) - 1)) as usize);
        match &self.chunks {
            Chunks::U32(c) => c[chunk][at] as u64,
            Chunks::U64(c) => c[chunk][at],
        }
    }
}
