//! `holdout.arrow`: the rows of all splits but the first, which are kept out of the batches.

use std::sync::Arc;

use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, UInt16Array, UInt32Array, UInt64Array};

use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type};
use super::table::row_array;
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "holdout",
    path: "holdout.arrow",
    one_row_per: "held-out row, ascending",
    absent: "no splits were asked for, or folds",
    columns: &[
        Column::new(
            "row",
            Type::Row,
            "global row number; such rows are null in samples.arrow",
            "row",
            "0 .. rows",
        ),
        Column::new("stratum", Type::U32, "the stratum it would be in", "", "0 .. strata"),
        Column::new(
            "content",
            Type::Bytes(16),
            "BLAKE3, cut off, of the row's feature cells as they lie in the dataset: by it `update` finds the row again",
            "",
            "",
        )
        .optional(),
        Column::new("copies", Type::U64, "planned rows with the same cells", "rows", ">= 0").optional(),
        Column::new("split", Type::U16, "its split, as in `splits`; absent with `--holdout` alone", "", "1 .. splits")
            .optional(),
    ],
    metadata: &[],
};

/// A held-out row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldOut {
    pub row: u64,
    pub stratum: u32,
    /// 1 where the file does not say.
    pub split: u16,
    /// None in plans of format 1.0, and in those that were carried on from one.
    pub content: Option<Content>,
}

/// What the row's feature cells hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    pub hash: [u8; 16],
    /// Planned rows with the same cells.
    pub copies: u64,
}

/// `rows` ascending. Contents are written if every row has one. `named`: there are splits, not only rows held out.
pub fn encode(rows: &[HeldOut], named: bool, row_type: RowType) -> Table {
    let mut columns: Vec<ArrayRef> = vec![
        row_array(rows.iter().map(|r| r.row), row_type),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.stratum))),
    ];
    let contents: Option<Vec<Content>> = rows.iter().map(|r| r.content).collect();
    let mut with: Vec<&str> = Vec::new();
    if let Some(all) = contents {
        with.extend(["content", "copies"]);
        let hashes: Vec<u8> = all.iter().flat_map(|c| c.hash).collect();
        columns.push(Arc::new(FixedSizeBinaryArray::new(16, hashes.into(), None)));
        columns.push(Arc::new(UInt64Array::from_iter_values(all.iter().map(|c| c.copies))));
    }
    if named {
        with.push("split");
        columns.push(Arc::new(UInt16Array::from_iter_values(rows.iter().map(|r| r.split))));
    }
    let shape = Shape { row: row_type, ..Shape::default() };
    Table::new(Kind::Holdout, &shape, &with, Metadata::new(), columns, rows.len())
}

pub fn decode(table: &TableReader) -> Result<Vec<HeldOut>> {
    let with = table.has("content") && table.has("copies");
    let hashes = if with { table.bytes::<16>("content")? } else { Vec::new() };
    let copies = if with { table.numbers::<UInt64Type>("copies")? } else { Vec::new() };
    let splits = if table.has("split") { Some(table.numbers::<UInt16Type>("split")?) } else { None };
    let split = |i: usize| splits.as_ref().map_or(1, |s| s[i]);
    let content = |i: usize| Some(Content { hash: *hashes.get(i)?, copies: copies[i] });
    let rows = table.row_numbers("row")?.into_iter().zip(table.numbers::<UInt32Type>("stratum")?);
    Ok(rows
        .enumerate()
        .map(|(i, (row, stratum))| HeldOut { row, stratum, split: split(i), content: content(i) })
        .collect())
}
