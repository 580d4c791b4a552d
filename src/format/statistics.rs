//! `statistics.arrow`: moments and quantiles of every feature, over all planned rows and per modality.

use std::sync::Arc;

use arrow_array::types::{Float64Type, UInt32Type, UInt64Type};
use arrow_array::{Float64Array, StringArray, UInt32Array, UInt64Array};

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type, Width};
use super::table::fixed_f64;
use super::{Kind, Metadata, Table, TableReader};

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
    ],
    metadata: &[],
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
}

pub fn encode(rows: &[Statistic]) -> Table {
    let number = |f: fn(&Statistic) -> f64| Arc::new(Float64Array::from_iter_values(rows.iter().map(f))) as _;
    Table::new(
        Kind::Statistics,
        &Shape::default(),
        &[],
        Metadata::new(),
        vec![
            Arc::new(rows.iter().map(|r| r.modality).collect::<UInt32Array>()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.column))),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.index))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.count))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.nulls))),
            number(|r| r.mean),
            number(|r| r.variance),
            number(|r| r.min),
            number(|r| r.max),
            fixed_f64(rows.iter().flat_map(|r| r.quantiles).collect(), 11, rows.len()),
        ],
        rows.len(),
    )
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
        })
        .collect())
}
