//! `curve.arrow` and `evidence.arrow`: what the estimator saw, for the report.

use std::sync::Arc;

use arrow_array::types::{Float64Type, UInt32Type};
use arrow_array::{Float64Array, StringArray, UInt32Array};

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type};
use super::{Kind, Metadata, Table, TableReader};

const COLUMNS: &[Column] = &[
    Column::new("k", Type::U32, "neighbours, or number of modalities, that the value belongs to", "", ">= 0"),
    Column::new("criterion", Type::Text, "what was measured, and with which settings", "", ""),
    Column::new("value", Type::F64, "the measured value", "of the criterion", "finite or NaN"),
];

/// One number an estimator looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    pub k: u32,
    /// For example "p=32 tau=1.4 R", "gamma=0.707 rho".
    pub criterion: String,
    pub value: f64,
}

pub const CURVE: Contract = Contract {
    name: "curve",
    path: "curve.arrow",
    one_row_per: "point of the curve by which M was chosen",
    absent: "",
    columns: COLUMNS,
    metadata: &[],
};

pub const EVIDENCE: Contract = Contract {
    name: "evidence",
    path: "evidence.arrow",
    one_row_per: "number that the estimator looked at",
    absent: "",
    columns: COLUMNS,
    metadata: &[],
};

/// `kind`: [`Kind::Curve`] or [`Kind::Evidence`].
pub fn encode(kind: Kind, rows: &[Criterion]) -> Table {
    Table::new(
        kind,
        &Shape::default(),
        &[],
        Metadata::new(),
        vec![
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.k))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.criterion))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.value))),
        ],
        rows.len(),
    )
}

pub fn decode(table: &TableReader) -> Result<Vec<Criterion>> {
    let k = table.numbers::<UInt32Type>("k")?;
    let criterion = table.texts("criterion")?;
    let value = table.numbers::<Float64Type>("value")?;
    Ok(criterion
        .into_iter()
        .enumerate()
        .map(|(i, criterion)| Criterion { k: k[i], criterion, value: value[i] })
        .collect())
}
