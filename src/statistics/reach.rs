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

use serde::{Deserialize, Serialize};

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
#[derive(Serialize, Deserialize)]
pub struct Reach {
    prototypes: Matrix,
    /// Centres of the modalities, projected.
    centers: Matrix,
    /// The fit sample, ascending, and the nearest prototype of each of its rows as fitted to the others, with its distance
    /// (NaN without).
    sample: Vec<u64>,
    left_out: Vec<(u32, f64)>,
}

/// How far the rows of a plan are from their nearest prototype.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reached {
    /// Rows with a distance.
    pub rows: u64,
    /// (level, distance) for [`LEVELS`]; none if no row has a distance.
    pub levels: Vec<(f64, f64)>,
    /// Rows by the prototype that is nearest without them.
    pub prototypes: BTreeMap<u32, u64>,
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
            .map(|(q, d)| left_out(members[q[0] as usize], q, d))
            .collect();
        self.sample = rows.to_vec();
        self
    }

    /// The prototype of a planned row, and the distance to it in the projected space (NaN where the only one is that row);
    /// None without prototypes.
    fn nearest(&self, item: &Assigned, i: usize) -> Option<(u32, f64)> {
        let q = *item.prototype.get(i).filter(|&&q| q != NONE)?;
        Some(match self.sample.binary_search(&item.points.rows[i]) {
            Ok(place) => self.left_out[place],
            Err(_) => (q, squared(item.z().row(i), self.prototypes.row(q as usize)).sqrt()),
        })
    }

    /// Distance of a planned row to its nearest prototype; None without prototypes, or where the only one is that row.
    pub fn distance(&self, item: &Assigned, i: usize) -> Option<f32> {
        let (_, near) = self.nearest(item, i).filter(|(_, near)| !near.is_nan())?;
        let distance = f64::from(item.distance[i]);
        let center = self.centers.row(item.modality[i] as usize);
        let outside = distance * distance - squared(item.z().row(i), center);
        Some((near * near + outside.max(0.0)).sqrt() as f32)
    }
}

/// The nearest prototype, and its distance, without a row whose nearest ones (one or two) are `q` at distances `d`; the first
/// is the mean of `n` rows, that one among them.
fn left_out(n: u64, q: &[u32], d: &[f64]) -> (u32, f64) {
    let own = if n > 1 { d[0] * (n as f64 / (n - 1) as f64) } else { f64::NAN };
    match d.get(1) {
        Some(&second) if own.is_nan() || second < own => (q[1], second),
        _ => (q[0], own),
    }
}

impl Pass for Reach {
    type Item = Assigned;
    /// Rows by the upper bits of their distance, and by prototype.
    type Partial = [BTreeMap<u32, u64>; 2];
    type Output = Reached;

    fn partial(&self, item: &Assigned) -> Result<Self::Partial> {
        let [mut distances, mut prototypes] = Self::Partial::default();
        for i in (0..item.modality.len()).filter(|&i| item.modality[i] != NONE) {
            if let Some(distance) = self.distance(item, i) {
                *distances.entry(distance.to_bits() >> DROPPED).or_default() += 1;
            }
            if let Some((q, _)) = self.nearest(item, i) {
                *prototypes.entry(q).or_default() += 1;
            }
        }
        Ok([distances, prototypes])
    }

    fn merge(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        for (left, right) in left.iter_mut().zip(right) {
            for (key, count) in right {
                *left.entry(key).or_default() += count;
            }
        }
        left
    }

    fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output> {
        let [all, prototypes] = all.unwrap_or_default();
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
        Ok(Reached { rows: total, levels, prototypes })
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
        let fitted = reach.fitted_on(&rows, &z);
        let distances: Vec<f64> = fitted.left_out.iter().map(|l| l.1).collect();
        assert_eq!(distances, [6.0, 6.0, 6.0, 3.0, 3.0, 20.0, 0.0, 0.0]);
        assert_eq!(fitted.left_out[5].0, 1);
        assert_eq!(
            (left_out(2, &[8, 9], &[4.0, 5.0]), left_out(1, &[8, 9], &[0.0, 7.0])),
            ((9, 5.0), (9, 7.0))
        );
        assert_eq!(left_out(3, &[8, 9], &[2.0, 5.0]), (8, 3.0));
        assert!(left_out(1, &[8], &[0.0]).1.is_nan());
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
        let reached = reach.finish(Some([counts, BTreeMap::new()])).unwrap();
        assert_eq!(reached.rows, 1000);
        for (level, distance) in reached.levels {
            assert!((distance / (1000.0 * level) - 1.0).abs() < 0.003, "{level} {distance}");
        }
    }
}
