//! How far rows are from what the plan knows: quantiles of the distance to the nearest prototype, by which a new kind of
//! row is recognised later.
//!
//! Prototypes live in the projected space, but a new kind may differ in the directions that the projection leaves out. So
//! the distance is taken in feature space: `D^2 = |z - c|^2 + max(0, d^2 - |z - m|^2)`, z the projected row, c its
//! prototype, d the row's distance to the centre of its modality and m that centre projected (the second term is what of
//! d^2 lies outside the projected space).
//!
//! A prototype is the mean of n sample rows, which are closer to it than rows that it never saw: they count as if it had
//! been fitted without them, `|z - c| n / (n - 1)`; a row alone in its prototype is passed over.
//!
//! Quantiles come from counts by the upper bits of the `f32` (within 0.2 %), which merge in any order. O(rows (p + M)) time.

use std::collections::BTreeMap;

use crate::kernels::distance::squared;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::modalities::{Assigned, Model, pca};
use crate::parts::Pass;

/// Shares of the rows at which the distance is told.
pub const LEVELS: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];
/// Bits of the distance that are not counted by.
const DROPPED: u32 = 14;

/// The pass.
pub struct Reach {
    prototypes: Matrix,
    /// Centres of the modalities, projected.
    centers: Matrix,
    /// Fit-sample rows of every prototype.
    sampled: Vec<u64>,
    /// The fit sample, ascending.
    sample: Vec<u64>,
}

impl Reach {
    pub fn new(model: &Model) -> Self {
        Reach {
            prototypes: model.prototypes.clone(),
            centers: pca::apply(model.projection.as_ref(), &model.centers),
            sampled: vec![0; model.prototypes.rows()],
            sample: Vec::new(),
        }
    }

    /// Says which rows (ascending) the prototypes were fitted on, and their assignment.
    pub fn fitted_on(mut self, rows: &[u64], assigned: &Assigned) -> Self {
        self.sample = rows.to_vec();
        for &q in assigned.prototype.iter().filter(|&&q| q != NONE) {
            self.sampled[q as usize] += 1;
        }
        self
    }

    /// Distance of a planned row to its nearest prototype; None without prototypes, or where a prototype is that row.
    pub fn distance(&self, item: &Assigned, i: usize) -> Option<f32> {
        let q = *item.prototype.get(i).filter(|&&q| q != NONE)? as usize;
        let z = item.z().row(i);
        let mut near = squared(z, self.prototypes.row(q)).sqrt();
        if !self.sample.is_empty() && self.sample.binary_search(&item.points.rows[i]).is_ok() {
            match self.sampled[q] {
                0 | 1 => return None,
                n => near *= n as f64 / (n - 1) as f64,
            }
        }
        let distance = f64::from(item.distance[i]);
        let outside = distance * distance - squared(z, self.centers.row(item.modality[i] as usize));
        Some((near * near + outside.max(0.0)).sqrt() as f32)
    }
}

impl Pass for Reach {
    type Item = Assigned;
    /// Rows by the upper bits of their distance.
    type Partial = BTreeMap<u32, u64>;
    /// (level, distance) for [`LEVELS`]; none if no row has a distance.
    type Output = Vec<(f64, f64)>;

    fn partial(&self, item: &Assigned) -> Result<Self::Partial> {
        let mut counts = BTreeMap::new();
        for i in (0..item.modality.len()).filter(|&i| item.modality[i] != NONE) {
            if let Some(distance) = self.distance(item, i) {
                *counts.entry(distance.to_bits() >> DROPPED).or_default() += 1;
            }
        }
        Ok(counts)
    }

    fn merge(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        for (bits, count) in right {
            *left.entry(bits).or_default() += count;
        }
        left
    }

    fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output> {
        let all = all.unwrap_or_default();
        let total: u64 = all.values().sum();
        let at = |level: f64| {
            let wanted = ((level * total as f64).ceil() as u64).clamp(1, total);
            let mut seen = 0;
            let bits = all.iter().find(|(_, count)| {
                seen += *count;
                seen >= wanted
            });
            // The upper end of the range of values that share these bits.
            let bits = bits.map_or(0, |(bits, _)| ((bits + 1) << DROPPED) - 1);
            (level, f64::from(f32::from_bits(bits)))
        };
        Ok(if total == 0 { Vec::new() } else { LEVELS.into_iter().map(at).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::projection::Projection;
    use crate::statistics::fixtures::Data;

    #[test]
    fn distances_count_what_the_projection_leaves_out() {
        // The plane z = 0 of space, one prototype at (3, 0), the modality's centre at the origin.
        let model = Model {
            projection: Some(Projection {
                axes: Matrix::from_vec(2, 3, vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
                offset: vec![0.0; 2],
            }),
            prototypes: Matrix::from_vec(1, 2, vec![3.0, 0.0]),
            modality: vec![0],
            stratum: vec![0],
            centers: Matrix::zeros(1, 3),
        };
        let mut item = Assigned::default();
        item.points.rows = vec![5, 6];
        item.points.state = vec![Default::default(); 2];
        item.points.points = Matrix::from_vec(2, 3, vec![3.0, 0.0, 4.0, 0.0, 4.0, 0.0]);
        model.assign(&mut item);
        let reach = Reach::new(&model);
        assert_eq!((reach.distance(&item, 0), reach.distance(&item, 1)), (Some(4.0), Some(5.0)));
        // Row 6 is one of two that the prototype is the mean of: twice as far.
        let fitted = Reach { sampled: vec![2], sample: vec![6], ..reach };
        assert_eq!((fitted.distance(&item, 0), fitted.distance(&item, 1)), (Some(4.0), Some(10.0)));
    }

    #[test]
    fn quantiles() {
        let reach = Reach {
            prototypes: Matrix::zeros(0, 0),
            centers: Matrix::zeros(0, 0),
            sampled: vec![],
            sample: vec![],
        };
        assert!(Data::random(10, 2).run(&reach, 4, 1).is_empty());
        let counts = (1..=1000).map(|i| ((i as f32).to_bits() >> DROPPED, 1)).fold(
            BTreeMap::new(),
            |mut all: BTreeMap<u32, u64>, (bits, n)| {
                *all.entry(bits).or_default() += n;
                all
            },
        );
        for (level, distance) in reach.finish(Some(counts)).unwrap() {
            assert!((distance / (1000.0 * level) - 1.0).abs() < 0.003, "{level} {distance}");
        }
    }
}
