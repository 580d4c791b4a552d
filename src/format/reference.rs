//! `reference.arrow`: the full data's mean embedding under random Fourier features (Rahimi and Recht 2007), with its
//! covariance: what a batch or a new dataset is compared with (maximum mean discrepancy).

use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Float32Array, Float64Array};

use crate::kit::error::Result;
use crate::kit::matrix::Matrix;

use super::columns::{Column, Contract, Shape, Type, Width};
use super::table::{fixed_f32, fixed_f64};
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "reference",
    path: "reference.arrow",
    one_row_per: "random feature phi(z) = sqrt(2) cos(frequency . z + phase), z the projected row",
    absent: "",
    columns: &[
        Column::new(
            "frequency",
            Type::F32s(Width::Projected),
            "keyed normal numbers divided by the sample's median distance; as many as the projected space has dimensions",
            "1 / distance",
            "finite",
        ),
        Column::new("phase", Type::F32, "keyed phase", "radian", "[0, 2 pi)"),
        Column::new(
            "mean",
            Type::F64,
            "mean of the feature over all planned rows",
            "",
            "[-sqrt(2), sqrt(2)]",
        ),
        Column::new(
            "covariance",
            Type::F64s(Width::Random),
            "its covariance with every feature over all planned rows",
            "",
            "[-2, 2]",
        ),
    ],
    metadata: &[],
};

/// R random features of p-dimensional rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// R x p.
    pub frequency: Matrix,
    pub phase: Vec<f32>,
    pub mean: Vec<f64>,
    /// R x R, row-major.
    pub covariance: Vec<f64>,
}

pub fn encode(reference: &Reference) -> Table {
    let (random, projected) = (reference.frequency.rows(), reference.frequency.cols());
    Table::new(
        Kind::Reference,
        &Shape { projected, random, ..Shape::default() },
        &[],
        Metadata::new(),
        vec![
            fixed_f32(reference.frequency.as_slice().to_vec(), projected, random),
            Arc::new(Float32Array::from(reference.phase.clone())),
            Arc::new(Float64Array::from(reference.mean.clone())),
            fixed_f64(reference.covariance.clone(), random, random),
        ],
        random,
    )
}

/// Errors if the covariance is not square.
pub fn decode(table: &TableReader) -> Result<Reference> {
    if table.width("covariance") as u64 != table.rows() {
        return Err(table.damaged("the covariance is not square"));
    }
    Ok(Reference {
        frequency: table.matrix("frequency")?,
        phase: table.numbers::<Float32Type>("phase")?,
        mean: table.numbers::<Float64Type>("mean")?,
        covariance: table.f64s("covariance")?,
    })
}
