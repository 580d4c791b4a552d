//! `features.arrow`: how columns become coordinates of a point. Absent: one embedding column as it is.

use std::sync::Arc;

use arrow_array::types::{Float64Type, UInt32Type};
use arrow_array::{Float64Array, StringArray, UInt32Array};

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type};
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "features",
    path: "features.arrow",
    one_row_per: "feature (coordinate of a point), in order",
    absent: "the features are one embedding column of the dataset as it is",
    columns: &[
        Column::new("feature", Type::U32, "its number: the coordinate", "", "0 .. dims"),
        Column::new("column", Type::Text, "column of the dataset that it is made from", "", ""),
        Column::new(
            "operation",
            Type::Text,
            "`none`, `encode` (what the encoder of `config` makes of the cell, as it is), `unit` (the vector scaled to length 1), `standard` or `robust` ((x - center) / scale), `one-hot` (1 if the cell is `category`), `hash`",
            "",
            "",
        ),
        Column::new(
            "category",
            Type::Text,
            "the value a `one-hot` feature stands for; null: every other value",
            "",
            "",
        )
        .nullable(),
        Column::new("center", Type::F64, "subtracted first (0 where nothing is)", "of the column", "finite"),
        Column::new("scale", Type::F64, "divided by next (1 where nothing is)", "of the column", "> 0"),
    ],
    metadata: &[],
};

/// One coordinate; its number is its place in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feature {
    pub column: String,
    pub operation: String,
    pub category: Option<String>,
    pub center: f64,
    pub scale: f64,
}

pub fn encode(rows: &[Feature]) -> Table {
    Table::new(
        Kind::Features,
        &Shape::default(),
        &[],
        Metadata::new(),
        vec![
            Arc::new(UInt32Array::from_iter_values(0..rows.len() as u32)),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.column))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.operation))),
            Arc::new(rows.iter().map(|r| r.category.as_deref()).collect::<StringArray>()),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.center))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.scale))),
        ],
        rows.len(),
    )
}

pub fn decode(table: &TableReader) -> Result<Vec<Feature>> {
    let number = table.numbers::<UInt32Type>("feature")?;
    let column = table.texts("column")?;
    let operation = table.texts("operation")?;
    let category = table.optional_texts("category")?;
    let center = table.numbers::<Float64Type>("center")?;
    let scale = table.numbers::<Float64Type>("scale")?;
    if number.iter().enumerate().any(|(i, &f)| i != f as usize) {
        return Err(table.damaged("features are not numbered 0, 1, 2, ..."));
    }
    Ok(column
        .into_iter()
        .zip(operation)
        .zip(category)
        .zip(center.into_iter().zip(scale))
        .map(|(((column, operation), category), (center, scale))| Feature {
            column,
            operation,
            category,
            center,
            scale,
        })
        .collect())
}
