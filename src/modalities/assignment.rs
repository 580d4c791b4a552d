//! Where rows belong, kept: what assigning new rows by a plan returns.

use serde::{Deserialize, Serialize};

use super::Assigned;
use crate::kit::error::Result;
use crate::parts::Pass;

/// Where rows belong, one entry a row; [`NONE`](crate::kit::ids::NONE) and NaN for rows that are left out (`--where`,
/// `--invalid drop`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub modality: Vec<u32>,
    pub stratum: Vec<u32>,
    /// Euclidean, in feature space, to the modality's centre.
    pub distance: Vec<f32>,
}

/// The pass: keeps where every row belongs.
#[derive(Serialize, Deserialize)]
pub struct Collect;

impl Pass for Collect {
    type Item = Assigned;
    type Partial = Assignment;
    type Output = Assignment;

    fn partial(&self, item: &Assigned) -> Result<Assignment> {
        Ok(Assignment {
            modality: item.modality.clone(),
            stratum: item.stratum.clone(),
            distance: item.distance.clone(),
        })
    }

    fn merge(&self, mut left: Assignment, right: Assignment) -> Assignment {
        left.modality.extend(right.modality);
        left.stratum.extend(right.stratum);
        left.distance.extend(right.distance);
        left
    }

    fn finish(&self, all: Option<Assignment>) -> Result<Assignment> {
        Ok(all.unwrap_or_default())
    }
}
