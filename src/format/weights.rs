//! `weights.arrow`: how row weights change with progress.

use std::sync::Arc;

use arrow_array::Float32Array;
use arrow_array::types::Float32Type;

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type};
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "weights",
    path: "weights.arrow",
    one_row_per: "knot of progress (101 of them)",
    absent: "",
    columns: &[
        Column::new("progress", Type::F32, "share u of the training done", "", "[0, 1], ascending"),
        Column::new(
            "beta",
            Type::F32,
            "weight of a row = exp(beta (centrality - 1/2)) x normaliser",
            "",
            "finite",
        ),
        Column::new("normaliser", Type::F32, "makes the mean weight of every modality 1", "", "(0, 1]"),
        Column::new(
            "effective_share",
            Type::F32,
            "share of a batch that its weights leave effective (Kish)",
            "",
            "(0, 1]",
        ),
    ],
    metadata: &[("formula", "the exact formula of `beta` and `normaliser` at progress u")],
};

/// One knot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Knot {
    pub progress: f32,
    pub beta: f32,
    pub normaliser: f32,
    pub effective_share: f32,
}

/// `formula`: what gives beta and normaliser between the knots, for people and for readers that want it exactly.
pub fn encode(knots: &[Knot], formula: &str) -> Table {
    let column = |f: fn(&Knot) -> f32| Arc::new(Float32Array::from_iter_values(knots.iter().map(f))) as _;
    Table::new(
        Kind::Weights,
        &Shape::default(),
        &[],
        Metadata::from([("formula".to_string(), formula.to_string())]),
        vec![
            column(|k| k.progress),
            column(|k| k.beta),
            column(|k| k.normaliser),
            column(|k| k.effective_share),
        ],
        knots.len(),
    )
}

pub fn decode(table: &TableReader) -> Result<Vec<Knot>> {
    let progress = table.numbers::<Float32Type>("progress")?;
    let beta = table.numbers::<Float32Type>("beta")?;
    let normaliser = table.numbers::<Float32Type>("normaliser")?;
    let share = table.numbers::<Float32Type>("effective_share")?;
    Ok((0..progress.len())
        .map(|i| Knot {
            progress: progress[i],
            beta: beta[i],
            normaliser: normaliser[i],
            effective_share: share[i],
        })
        .collect())
}
