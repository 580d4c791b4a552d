//! `holdout.arrow`: the rows that `--holdout` keeps out of the batches, a stratified split for validation.

use std::sync::Arc;

use arrow_array::UInt32Array;
use arrow_array::types::UInt32Type;

use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type};
use super::table::row_array;
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "holdout",
    path: "holdout.arrow",
    one_row_per: "held-out row, ascending",
    absent: "no split was asked for",
    columns: &[
        Column::new(
            "row",
            Type::Row,
            "global row number; such rows are null in samples.arrow",
            "row",
            "0 .. rows",
        ),
        Column::new("stratum", Type::U32, "the stratum it would be in", "", "0 .. strata"),
    ],
    metadata: &[],
};

/// `rows`: (row, stratum), ascending by row.
pub fn encode(rows: &[(u64, u32)], row_type: RowType) -> Table {
    Table::new(
        Kind::Holdout,
        &Shape { row: row_type, ..Shape::default() },
        &[],
        Metadata::new(),
        vec![
            row_array(rows.iter().map(|r| r.0), row_type),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.1))),
        ],
        rows.len(),
    )
}

pub fn decode(table: &TableReader) -> Result<Vec<(u64, u32)>> {
    Ok(table.row_numbers("row")?.into_iter().zip(table.numbers::<UInt32Type>("stratum")?).collect())
}
