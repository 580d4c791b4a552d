//! `modalities.arrow`: the modalities that were found.

use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type, UInt32Type, UInt64Type};
use arrow_array::{Float32Array, Float64Array, StringArray, UInt32Array, UInt64Array};

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type, Width};
use super::table::{fixed_f32, lists};
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "modalities",
    path: "modalities.arrow",
    one_row_per: "modality",
    absent: "",
    columns: &[
        Column::new("modality", Type::U32, "its number: the place in this table", "", "0 .. M"),
        Column::new(
            "kind",
            Type::Text,
            "`mode`, `community` (since 1.1), `noise`, or the value of the column that names modalities",
            "",
            "",
        ),
        Column::new("rows", Type::U64, "planned rows in it", "rows", "> 0"),
        Column::new("share", Type::F64, "rows over all planned rows", "", "(0, 1]"),
        Column::new(
            "center",
            Type::F32s(Width::Dims),
            "mean of its rows of the fit sample, in feature space",
            "features",
            "finite",
        ),
        Column::new(
            "rms_radius",
            Type::F32,
            "root mean square distance of its rows to `center`",
            "distance",
            ">= 0",
        ),
        Column::new(
            "distance_quantiles",
            Type::F32s(Width::Exactly(11)),
            "0, 10, .. 100 % quantiles of the distance of its rows to `center`",
            "distance",
            ">= 0, ascending",
        ),
        Column::new(
            "prominence",
            Type::F32,
            "evidence that it is a mode of its own; NaN where the estimator has none, and of communities",
            "nats (consensus)",
            ">= 0 or NaN",
        ),
        Column::new("name", Type::Text, "what sets it apart in the user's own columns: up to three of `column=value` and words of its texts; may be empty", "", ""),
        Column::new(
            "distance_cells",
            Type::U64List,
            "its rows below the first of the distinct `distance_quantiles`, at it, between it and the second, at that, .., beyond \
             the last (since 1.1)",
            "rows",
            ">= 0",
        )
        .optional(),
    ],
    metadata: &[],
};

/// One modality; its number is its place in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modality {
    pub kind: String,
    pub rows: u64,
    pub share: f64,
    /// `dims` numbers.
    pub center: Vec<f32>,
    pub rms_radius: f32,
    pub distance_quantiles: [f32; 11],
    pub prominence: f32,
    pub name: String,
    /// Rows at and between the distinct distance quantiles; empty before 1.1.
    pub distance_cells: Vec<u64>,
}

pub fn encode(rows: &[Modality], dims: usize) -> Table {
    let center: Vec<f32> = rows.iter().flat_map(|r| r.center.iter().copied()).collect();
    let quantiles: Vec<f32> = rows.iter().flat_map(|r| r.distance_quantiles).collect();
    Table::new(
        Kind::Modalities,
        &Shape { dims, ..Shape::default() },
        &["distance_cells"],
        Metadata::new(),
        vec![
            Arc::new(UInt32Array::from_iter_values(0..rows.len() as u32)),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.kind))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.rows))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.share))),
            fixed_f32(center, dims, rows.len()),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|r| r.rms_radius))),
            fixed_f32(quantiles, 11, rows.len()),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|r| r.prominence))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.name))),
            lists::<UInt64Type>(rows.iter().map(|r| &r.distance_cells[..])),
        ],
        rows.len(),
    )
}

pub fn decode(table: &TableReader) -> Result<Vec<Modality>> {
    let number = table.numbers::<UInt32Type>("modality")?;
    let kind = table.texts("kind")?;
    let rows = table.numbers::<UInt64Type>("rows")?;
    let share = table.numbers::<Float64Type>("share")?;
    let center = table.matrix("center")?;
    let rms_radius = table.numbers::<Float32Type>("rms_radius")?;
    let quantiles = table.matrix("distance_quantiles")?;
    let prominence = table.numbers::<Float32Type>("prominence")?;
    let name = table.texts("name")?;
    let mut cells = table.lists::<UInt64Type>("distance_cells")?;
    if number.iter().enumerate().any(|(i, &m)| i != m as usize) {
        return Err(table.damaged("modalities are not numbered 0, 1, 2, ..."));
    }
    Ok(kind
        .into_iter()
        .zip(name)
        .enumerate()
        .map(|(i, (kind, name))| Modality {
            kind,
            rows: rows[i],
            share: share[i],
            center: center.row(i).to_vec(),
            rms_radius: rms_radius[i],
            distance_quantiles: quantiles.row(i).try_into().expect("the contract fixes 11 quantiles"),
            prominence: prominence[i],
            name,
            distance_cells: std::mem::take(&mut cells[i]),
        })
        .collect())
}
