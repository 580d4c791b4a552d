//! `statistics.arrow`: moments and quantiles of every feature, over all planned rows and per modality.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{StringBuilder, UInt32Builder};
use arrow_array::types::{Float64Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, Float64Array, UInt32Array, UInt64Array};

use serde::{Deserialize, Serialize};

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type, Width};
use super::table::{BATCH_ROWS, TableWriter, fixed_f64, lists};
use super::{FileEntry, Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "statistics",
    path: "statistics.arrow",
    one_row_per: "modality (null: all planned rows) x feature",
    absent: "",
    columns: &[
        Column::new("modality", Type::U32, "the modality; null: all planned rows", "", "0 .. M").nullable(),
        Column::new("column", Type::Text, "column of the dataset that the feature is made from", "", ""),
        Column::new("index", Type::U32, "number of the feature among those of its column", "", ">= 0"),
        Column::new("count", Type::U64, "values that are not null", "rows", ">= 0"),
        Column::new("nulls", Type::U64, "null values", "rows", ">= 0"),
        Column::new("mean", Type::F64, "mean of the feature", "features", "finite, or NaN without values"),
        Column::new("variance", Type::F64, "mean squared deviation from `mean`", "features^2", ">= 0 or NaN"),
        Column::new("min", Type::F64, "smallest value", "features", "finite or NaN"),
        Column::new("max", Type::F64, "largest value", "features", "finite or NaN"),
        Column::new(
            "quantiles",
            Type::F64s(Width::Exactly(11)),
            "0, 10, .. 100 % quantiles of the rows of the fit sample",
            "features",
            "ascending, or NaN without sampled rows",
        ),
        Column::new(
            "cells",
            Type::U64List,
            "of all planned rows: rows of the fit sample below the first of the distinct `quantiles`, at it, between it and the \
             second, at that, .., beyond the last; empty for a modality (since 1.1)",
            "rows",
            ">= 0",
        )
        .optional(),
    ],
    metadata: &[(
        "spread",
        "JSON object {edges, rows}: the distinct 5, 10, .. 95 % quantiles of the distance of sampled rows to the median of every \
         feature, and rows below, at and between them as in `cells` (since 1.1)",
    )],
};

/// One feature of one modality, or of all rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistic {
    pub modality: Option<u32>,
    pub column: String,
    pub index: u32,
    pub count: u64,
    pub nulls: u64,
    pub mean: f64,
    pub variance: f64,
    pub min: f64,
    pub max: f64,
    pub quantiles: [f64; 11],
    /// Sampled rows at and between the distinct quantiles; empty for a modality, and before 1.1.
    pub cells: Vec<u64>,
}

/// Edges and the rows at and between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub edges: Vec<f64>,
    pub rows: Vec<u64>,
}

/// Writes the table, a record batch of it in memory at a time.
pub fn write(
    root: &Path,
    mut rows: impl Iterator<Item = Statistic>,
    spread: Option<&Spread>,
) -> Result<FileEntry> {
    let mut next = encode(rows.by_ref().take(BATCH_ROWS), spread);
    let schema = next.batch.schema().as_ref().clone();
    let mut writer = TableWriter::create(root, next.kind.path(), next.kind, schema)?;
    while next.batch.num_rows() > 0 {
        writer.push(&next.batch)?;
        next = encode(rows.by_ref().take(BATCH_ROWS), spread);
    }
    writer.finish()
}

pub fn encode(rows: impl Iterator<Item = Statistic>, spread: Option<&Spread>) -> Table {
    let (mut modality, mut column) = (UInt32Builder::new(), StringBuilder::new());
    let (mut index, mut count, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    let (mut moments, mut quantiles) = ([const { Vec::new() }; 4], Vec::new());
    let mut cells = Vec::new();
    for row in rows {
        modality.append_option(row.modality);
        column.append_value(row.column);
        index.push(row.index);
        count.push(row.count);
        nulls.push(row.nulls);
        for (to, x) in moments.iter_mut().zip([row.mean, row.variance, row.min, row.max]) {
            to.push(x);
        }
        quantiles.extend(row.quantiles);
        cells.push(row.cells);
    }
    let rows = index.len();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(modality.finish()),
        Arc::new(column.finish()),
        Arc::new(UInt32Array::from(index)),
        Arc::new(UInt64Array::from(count)),
        Arc::new(UInt64Array::from(nulls)),
    ];
    columns.extend(moments.map(|x| Arc::new(Float64Array::from(x)) as ArrayRef));
    columns.push(fixed_f64(quantiles, 11, rows));
    columns.push(lists::<UInt64Type>(cells.iter().map(|c| &c[..])));
    let spread = spread.map(|s| serde_json::to_string(s).expect("finite numbers are JSON"));
    let metadata = Metadata::from_iter(spread.map(|s| ("spread".to_string(), s)));
    Table::new(Kind::Statistics, &Shape::default(), &["cells"], metadata, columns, rows)
}

pub fn decode(table: &TableReader) -> Result<Vec<Statistic>> {
    let modality = table.optional_numbers::<UInt32Type>("modality")?;
    let column = table.texts("column")?;
    let index = table.numbers::<UInt32Type>("index")?;
    let count = table.numbers::<UInt64Type>("count")?;
    let nulls = table.numbers::<UInt64Type>("nulls")?;
    let mean = table.numbers::<Float64Type>("mean")?;
    let variance = table.numbers::<Float64Type>("variance")?;
    let min = table.numbers::<Float64Type>("min")?;
    let max = table.numbers::<Float64Type>("max")?;
    let quantiles = table.f64s("quantiles")?;
    let mut cells = table.lists::<UInt64Type>("cells")?;
    Ok(column
        .into_iter()
        .enumerate()
        .map(|(i, column)| Statistic {
            modality: modality[i],
            column,
            index: index[i],
            count: count[i],
            nulls: nulls[i],
            mean: mean[i],
            variance: variance[i],
            min: min[i],
            max: max[i],
            quantiles: quantiles[11 * i..11 * (i + 1)].try_into().expect("eleven numbers were sliced"),
            cells: std::mem::take(&mut cells[i]),
        })
        .collect())
}

/// How far sampled rows are from the middle of them; None before 1.1.
pub fn spread(table: &TableReader) -> Result<Option<Spread>> {
    let spread = table.metadata("spread").map(serde_json::from_str).transpose();
    spread.map_err(|e| table.damaged(format!("`spread` cannot be read: {e}")))
}
