//! `sample.arrow`: the rows that the report shows on a map.

use std::sync::Arc;

use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Float32Array, StringArray, UInt32Array};

use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type};
use super::table::row_array;
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "sample",
    path: "sample.arrow",
    one_row_per: "row shown in the report (at most 10 000, from the fit sample), ascending",
    absent: "",
    columns: &[
        Column::new("row", Type::Row, "global row number", "row", "0 .. rows"),
        Column::new("modality", Type::U32, "its modality", "", "0 .. M"),
        Column::new("x", Type::F32, "place on a two-dimensional map", "", "finite"),
        Column::new("y", Type::F32, "place on a two-dimensional map", "", "finite"),
        Column::new("id", Type::Text, "what the column `--id` calls it", "", "").nullable(),
    ],
    metadata: &[],
};

/// One row on the map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleRow {
    pub row: u64,
    pub modality: u32,
    pub x: f32,
    pub y: f32,
    pub id: Option<String>,
}

pub fn encode(rows: &[SampleRow], row_type: RowType) -> Table {
    Table::new(
        Kind::Sample,
        &Shape { row: row_type, ..Shape::default() },
        &[],
        Metadata::new(),
        vec![
            row_array(rows.iter().map(|r| r.row), row_type),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.modality))),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|r| r.x))),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|r| r.y))),
            Arc::new(rows.iter().map(|r| r.id.as_deref()).collect::<StringArray>()),
        ],
        rows.len(),
    )
}

pub fn decode(table: &TableReader) -> Result<Vec<SampleRow>> {
    let row = table.row_numbers("row")?;
    let modality = table.numbers::<UInt32Type>("modality")?;
    let x = table.numbers::<Float32Type>("x")?;
    let y = table.numbers::<Float32Type>("y")?;
    let id = table.optional_texts("id")?;
    Ok(id
        .into_iter()
        .enumerate()
        .map(|(i, id)| SampleRow { row: row[i], modality: modality[i], x: x[i], y: y[i], id })
        .collect())
}
