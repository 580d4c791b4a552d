//! `projection.arrow`: the linear map into the space where prototypes live. Absent: that space is the feature space.

use std::sync::Arc;

use arrow_array::Float32Array;
use arrow_array::types::Float32Type;
use serde::{Deserialize, Serialize};

use crate::kit::error::Result;
use crate::kit::matrix::Matrix;

use super::columns::{Column, Contract, Shape, Type, Width};
use super::table::fixed_f32;
use super::{Kind, Metadata, Table, TableReader};

/// Coordinate j of a row x is `axes[j] . x - offset[j]`, accumulated in f64 in the canonical lane order, rounded to f32.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// p rows of `dims` numbers.
    pub axes: Matrix,
    pub offset: Vec<f32>,
}

pub const CONTRACT: Contract = Contract {
    name: "projection",
    path: "projection.arrow",
    one_row_per: "component of the fitted space, in order",
    absent: "the prototypes live in the feature space itself",
    columns: &[
        Column::new(
            "axis",
            Type::F32s(Width::Dims),
            "coordinate j of a row x is axis_j . x - offset_j, in f64, rounded to f32",
            "",
            "finite",
        ),
        Column::new("offset", Type::F32, "axis . mean of the fit", "features", "finite"),
    ],
    metadata: &[],
};

pub fn encode(projection: &Projection) -> Table {
    let (p, dims) = (projection.axes.rows(), projection.axes.cols());
    Table::new(
        Kind::Projection,
        &Shape { dims, ..Shape::default() },
        &[],
        Metadata::new(),
        vec![
            fixed_f32(projection.axes.as_slice().to_vec(), dims, p),
            Arc::new(Float32Array::from_iter_values(projection.offset.iter().copied())),
        ],
        p,
    )
}

pub fn decode(table: &TableReader) -> Result<Projection> {
    Ok(Projection { axes: table.matrix("axis")?, offset: table.numbers::<Float32Type>("offset")? })
}
