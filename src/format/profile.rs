//! `profile.arrow`: what each modality holds in the user's own columns.

use std::sync::Arc;

use arrow_array::types::{Float64Type, UInt32Type, UInt64Type};
use arrow_array::{Float64Array, StringArray, UInt32Array, UInt64Array};

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type};
use super::table::lists;
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "profile",
    path: "profile.arrow",
    one_row_per: "modality (null: all planned rows) x column x value",
    absent: "the dataset has no columns beside the features",
    columns: &[
        Column::new("modality", Type::U32, "the modality; null: all planned rows", "", "0 .. M").nullable(),
        Column::new("column", Type::Text, "a column of the dataset that is no vector", "", ""),
        Column::new(
            "value",
            Type::Text,
            "one of its 32 most frequent values (of all rows: 256); for numbers `mean`, quantiles; for columns with more than 10 000 distinct sampled values nulls and length; texts of more than 1024 bytes on average are left out",
            "",
            "",
        ),
        Column::new("count", Type::U64, "rows with it", "rows", ">= 0"),
        Column::new(
            "share",
            Type::F64,
            "count over the rows of the modality; for numbers the statistic itself",
            "",
            "[0, 1]; numbers: any",
        ),
        Column::new("lift", Type::F64, "share over the share of all planned rows", "", ">= 0 or NaN"),
        Column::new(
            "edges",
            Type::F64List,
            "with the `mean` of numbers and the `length` of texts, of all planned rows: the distinct 0, 10, .. 100 % quantiles of the \
             sampled rows (since 1.1)",
            "",
            "finite, ascending",
        )
        .optional(),
        Column::new(
            "cells",
            Type::U64List,
            "sampled rows below the first of `edges`, at it, between it and the second, at that, .., beyond the last (since 1.1)",
            "rows",
            ">= 0",
        )
        .optional(),
    ],
    metadata: &[],
};

/// One value of one column in one modality, or in all rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileRow {
    pub modality: Option<u32>,
    pub column: String,
    pub value: String,
    pub count: u64,
    pub share: f64,
    pub lift: f64,
    /// Distinct quantiles of the sampled rows, and rows at and between them; empty where there are none, and before 1.1.
    pub edges: Vec<f64>,
    pub cells: Vec<u64>,
}

pub fn encode(rows: &[ProfileRow]) -> Table {
    Table::new(
        Kind::Profile,
        &Shape::default(),
        &["edges", "cells"],
        Metadata::new(),
        vec![
            Arc::new(rows.iter().map(|r| r.modality).collect::<UInt32Array>()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.column))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.value))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.count))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.share))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.lift))),
            lists::<Float64Type>(rows.iter().map(|r| &r.edges[..])),
            lists::<UInt64Type>(rows.iter().map(|r| &r.cells[..])),
        ],
        rows.len(),
    )
}

pub fn decode(table: &TableReader) -> Result<Vec<ProfileRow>> {
    let modality = table.optional_numbers::<UInt32Type>("modality")?;
    let column = table.texts("column")?;
    let value = table.texts("value")?;
    let count = table.numbers::<UInt64Type>("count")?;
    let share = table.numbers::<Float64Type>("share")?;
    let lift = table.numbers::<Float64Type>("lift")?;
    let mut edges = table.lists::<Float64Type>("edges")?;
    let mut cells = table.lists::<UInt64Type>("cells")?;
    Ok(column
        .into_iter()
        .zip(value)
        .enumerate()
        .map(|(i, (column, value))| ProfileRow {
            modality: modality[i],
            column,
            value,
            count: count[i],
            share: share[i],
            lift: lift[i],
            edges: std::mem::take(&mut edges[i]),
            cells: std::mem::take(&mut cells[i]),
        })
        .collect())
}
