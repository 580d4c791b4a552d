//! `splits.arrow`: the split or fold of every row, and the rows that stay together with it.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt16Array, UInt32Array, UInt64Array};
use arrow_schema::DataType;

use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type};
use super::manifest::{self, FileEntry};
use super::samples::missing;
use super::table::{BATCH_BITS, BATCH_ROWS};
use super::{Kind, Metadata, TableReader, TableWriter};

pub const CONTRACT: Contract = Contract {
    name: "splits",
    path: "splits.arrow",
    one_row_per: "input row, in order",
    absent: "no splits were asked for, or only `--holdout`",
    columns: &[
        Column::new(
            "split",
            Type::U16,
            "place of its split among `splits`; null: it is left out, or set aside",
            "",
            "0 .. splits",
        )
        .nullable(),
        Column::new(
            "group",
            Type::Row,
            "lowest row of the rows that it stays together with; null: alone",
            "row",
            "0 .. rows",
        )
        .nullable(),
    ],
    metadata: &[
        ("splits", "JSON list of [name, wanted rows or null, rows], in order"),
        ("by", "`shares`, `folds`, `column`, `files`, `time` or `time-folds`"),
    ],
};

/// A split or fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub name: String,
    /// Rows asked for; None: whatever it was given.
    pub wanted: Option<u64>,
    pub rows: u64,
}

/// Writes the table. `split`: of every row, [`u16::MAX`] for none. `groups`: (lowest row, row) of rows that are not alone.
pub fn write(
    root: &Path,
    told: &manifest::Splits,
    split: &[u16],
    groups: &[(u64, u64)],
    row_type: RowType,
) -> Result<FileEntry> {
    let listed: Vec<_> = told.splits.iter().map(|s| (&s.name, s.wanted, s.rows)).collect();
    let listed = serde_json::to_string(&listed).expect("names and numbers are always JSON");
    let metadata = Metadata::from([("splits".to_string(), listed), ("by".to_string(), told.by.clone())]);
    let schema = CONTRACT.schema(&Shape { row: row_type, ..Shape::default() }, &[], metadata);
    let mut table = TableWriter::create(root, CONTRACT.path, Kind::Splits, schema.clone())?;
    let schema = Arc::new(schema);
    let mut by_row: Vec<(u64, u64)> = groups.iter().map(|&(group, row)| (row, group)).collect();
    by_row.sort_unstable();
    let mut next = by_row.iter().peekable();
    for (chunk, first) in split.chunks(BATCH_ROWS).zip((0u64..).step_by(BATCH_ROWS)) {
        let group = (first..first + chunk.len() as u64).map(|row| next.next_if(|g| g.0 == row).map(|g| g.1));
        let group: ArrayRef = match row_type {
            RowType::U32 => Arc::new(group.map(|g| g.map(|row| row as u32)).collect::<UInt32Array>()),
            RowType::U64 => Arc::new(group.collect::<UInt64Array>()),
        };
        let split: UInt16Array = chunk.iter().map(|&s| (s != u16::MAX).then_some(s)).collect();
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(split), group]);
        table.push(&batch.expect("two columns of one length as in the contract"))?;
    }
    table.finish()
}

/// All rows, mapped. Every look-up is O(1).
#[derive(Debug)]
pub struct Splits {
    pub by: String,
    pub splits: Vec<Split>,
    chunks: Vec<(UInt16Array, ArrayRef)>,
    rows: u64,
}

impl Splits {
    /// O(rows): every row is in a split that there is, as many as said.
    pub fn decode(table: &TableReader) -> Result<Splits> {
        let text = |key: &str| table.metadata(key).ok_or_else(|| table.damaged(format!("it has no `{key}`")));
        let listed: Vec<(String, Option<u64>, u64)> = serde_json::from_str(text("splits")?)
            .map_err(|e| table.damaged(format!("`splits` cannot be read ({e})")))?;
        let splits: Vec<Split> =
            listed.into_iter().map(|(name, wanted, rows)| Split { name, wanted, rows }).collect();
        let mut chunks = Vec::with_capacity(table.batches());
        let mut counts = vec![0u64; splits.len()];
        for i in 0..table.batches() {
            let batch = table.batch(i)?;
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(table, name));
            let split = column("split")?.as_primitive::<UInt16Type>().clone();
            for s in split.iter().flatten() {
                match counts.get_mut(s as usize) {
                    Some(n) => *n += 1,
                    None => return Err(table.damaged(format!("a row is in split {s}"))),
                }
            }
            chunks.push((split, column("group")?.clone()));
        }
        if !counts.iter().eq(splits.iter().map(|s| &s.rows)) {
            return Err(table.damaged("its splits have other rows than `splits` says"));
        }
        Ok(Splits { by: text("by")?.into(), splits, chunks, rows: table.rows() })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Every row is planned; each split is left out once.
    pub fn in_folds(&self) -> bool {
        self.by == "folds" || self.by_time_folds()
    }

    /// Blocks of time: fold f is trained on blocks 0 to f and tested on the next one.
    pub fn by_time_folds(&self) -> bool {
        self.by == "time-folds"
    }

    /// None: it is in none. Panics, as the next, if `row` is not below [`Splits::rows`].
    #[inline]
    pub fn split(&self, row: u64) -> Option<u16> {
        let (split, i) = (&self.chunks[(row >> BATCH_BITS) as usize].0, row as usize % BATCH_ROWS);
        split.is_valid(i).then(|| split.value(i))
    }

    /// Lowest row of those that it stays together with; None: it is alone.
    pub fn group(&self, row: u64) -> Option<u64> {
        let (group, i) = (&self.chunks[(row >> BATCH_BITS) as usize].1, row as usize % BATCH_ROWS);
        group.is_valid(i).then(|| match group.data_type() {
            DataType::UInt32 => group.as_primitive::<UInt32Type>().value(i).into(),
            _ => group.as_primitive::<UInt64Type>().value(i),
        })
    }

    /// Rows of a split, ascending. O(rows of the dataset).
    pub fn members(&self, split: u16) -> Vec<u64> {
        (0..self.rows).filter(|&row| self.split(row) == Some(split)).collect()
    }
}
