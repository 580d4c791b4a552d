//! How far rows are from what the plan knows: quantiles of the distance to the nearest prototype, by which a new kind of
//! row is recognised later.
//!
//! Prototypes live in the projected space, but a new kind may differ in the directions that the projection leaves out. So
//! the distance is taken in feature space: `D^2 = |z - c|^2 + max(0, d^2 - |z - m|^2)`, z the projected row, c its
//! prototype, d the row's distance to the centre of its modality and m that centre projected (the second term is what of
//! d^2 lies outside the projected space).
//!
//! A prototype is the mean of n sample rows, which are closer to it than rows that it never saw: each counts as if the
//! prototypes had been fitted without it (leave-one-out). Its own prototype would then be `|z - c| n / (n - 1)` away; a
//! row alone in one has the second nearest.
//!
//! Quantiles come from counts by the upper bits of the `f32` (within 0.2 %), which merge in any order. O(rows (p + M)) time.

use std::collections::BTreeMap;

use crate::kernels::distance::squared;
use crate::kernels::knn::knn_among;
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
    /// The fit sample, ascending, and how far each of its rows is from the nearest prototype of the others; NaN without.
    sample: Vec<u64>,
    left_out: Vec<f64>,
}

/// How far the rows of a plan are from their nearest prototype.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reached {
    /// Rows with a distance.
    pub rows: u64,
    /// (level, distance) for [`LEVELS`]; none if no row has a distance.
    pub levels: Vec<(f64, f64)>,
}

impl Reach {
    pub fn new(model: &Model) -> Self {
        Reach {
            prototypes: model.prototypes.clone(),
            centers: pca::apply(model.projection.as_ref(), &model.centers),
            sample: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Says which rows (ascending) the prototypes were fitted on, `z` in the projected space. O(rows Q p).
    pub fn fitted_on(mut self, rows: &[u64], z: &Matrix) -> Self {
        let nearest = 2.min(self.prototypes.rows());
        if nearest == 0 {
            return self;
        }
        let found = knn_among(z, &self.prototypes, nearest);
        let mut members = vec![0u64; self.prototypes.rows()];
        found.index.iter().step_by(nearest).for_each(|&q| members[q as usize] += 1);
        self.left_out = (found.index.chunks_exact(nearest))
            .zip(found.distance.chunks_exact(nearest))
            .map(|(q, d)| left_out(members[q[0] as usize], d[0], d.get(1).copied()))
            .collect();
        self.sample = rows.to_vec();
        self
    }

    /// Distance of a planned row to its nearest prototype; None without prototypes, or where the only one is that row.
    pub fn distance(&self, item: &Assigned, i: usize) -> Option<f32> {
        let q = *item.prototype.get(i).filter(|&&q| q != NONE)? as usize;
        let z = item.z().row(i);
        let near = match self.sample.binary_search(&item.points.rows[i]) {
            Ok(place) => self.left_out[place],
            Err(_) => squared(z, self.prototypes.row(q)).sqrt(),
        };
        if near.is_nan() {
            return None;
        }
        let distance = f64::from(item.distance[i]);
        let outside = distance * distance - squared(z, self.centers.row(item.modality[i] as usize));
        Some((near * near + outside.max(0.0)).sqrt() as f32)
    }
}

/// Distance to the nearest prototype without a row that is `near` its own, which is the mean of `n` rows, and `second` from
/// the next.
fn left_out(n: u64, near: f64, second: Option<f64>) -> f64 {
    let own = if n > 1 { near * (n as f64 / (n - 1) as f64) } else { f64::NAN };
    // `min` passes over a NaN.
    own.min(second.unwrap_or(f64::NAN))
}

impl Pass for Reach {
    type Item = Assigned;
    /// Rows by the upper bits of their distance.
    type Partial = BTreeMap<u32, u64>;
    type Output = Reached;

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
        let levels = if total == 0 { Vec::new() } else { LEVELS.into_iter().map(at).collect() };
        Ok(Reached { rows: total, levels })
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
        let z = Matrix::from_vec(2, 2, vec![0.0, 4.0, 6.0, -4.0]);
        let fitted = reach.fitted_on(&[6, 9], &z);
        assert_eq!((fitted.distance(&item, 0), fitted.distance(&item, 1)), (Some(4.0), Some(10.0)));
    }

    #[test]
    fn rows_count_as_if_fitted_without_them() {
        let prototypes = Matrix::from_vec(4, 1, vec![0.0, 10.0, 30.0, 50.0]);
        let reach = Reach { prototypes, centers: Matrix::zeros(0, 0), sample: vec![], left_out: vec![] };
        // Two rows around 0, three around 10, one alone at 30, two that are equal at 50.
        let z = Matrix::from_vec(8, 1, vec![-3.0, 3.0, 6.0, 12.0, 12.0, 30.0, 50.0, 50.0]);
        let rows: Vec<u64> = (0..8).collect();
        assert_eq!(reach.fitted_on(&rows, &z).left_out, [6.0, 6.0, 6.0, 3.0, 3.0, 20.0, 0.0, 0.0]);
        assert_eq!((left_out(2, 4.0, Some(5.0)), left_out(1, 0.0, Some(7.0))), (5.0, 7.0));
        assert!(left_out(1, 0.0, None).is_nan());
    }

    #[test]
    fn quantiles() {
        let reach = Reach {
            prototypes: Matrix::zeros(0, 0),
            centers: Matrix::zeros(0, 0),
            sample: vec![],
            left_out: vec![],
        };
        assert_eq!(Data::random(10, 2).run(&reach, 4, 1), Reached::default());
        let counts = (1..=1000).map(|i| ((i as f32).to_bits() >> DROPPED, 1)).fold(
            BTreeMap::new(),
            |mut all: BTreeMap<u32, u64>, (bits, n)| {
                *all.entry(bits).or_default() += n;
                all
            },
        );
        let reached = reach.finish(Some(counts)).unwrap();
        assert_eq!(reached.rows, 1000);
        for (level, distance) in reached.levels {
            assert!((distance / (1000.0 * level) - 1.0).abs() < 0.003, "{level} {distance}");
        }
    }
}
