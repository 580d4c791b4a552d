//! Where a row lies in its modality: 1 at the centre, 0 at the edge.
//!
//! Rows of a modality are ranked by a distance-like value, smallest first, ties by row; the row of rank r of n has
//! centrality 1 - (r + 1/2) / n. Ranks instead of distances make modalities of any shape and size comparable and give
//! the weights a closed form. Modalities too large to sort in memory count smaller values out of core and call
//! [`centrality_of_rank`].

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernels::distance::squared;
use crate::kit::matrix::Matrix;

/// Neighbours that [`density`] averages.
const NEIGHBOURS: usize = 10;
/// The largest f32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

/// The value that rows are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Centrality {
    /// Euclidean distance to the modality's centre.
    #[default]
    Distance,
    /// Mean distance to the 10 nearest rows of the modality's sample ([`density`]): finds dirt at the periphery of
    /// modalities that are no balls.
    Density,
    /// Distance to the own centre over that to the nearest other ([`margin`]): the edge is where modalities meet.
    Margin,
}

impl Centrality {
    pub const ALL: [Centrality; 3] = [Centrality::Distance, Centrality::Density, Centrality::Margin];
}

/// Centrality of the row of `rank` < `n` among the `n` rows of its modality, in (0, 1).
pub fn centrality_of_rank(rank: u64, n: u64) -> f32 {
    ((1.0 - (rank as f64 + 0.5) / n as f64) as f32).min(BELOW_ONE)
}

/// The places of the values in ascending order, ties by place (row order: the lower row first). O(n log n), parallel.
///
/// # Panics
/// If a value is NaN or negative (also -0.0): distances are neither. At most 2^32 values.
pub fn order(values: &[f32]) -> Vec<u32> {
    assert!(u32::try_from(values.len()).is_ok(), "more than 2^32 rows are ranked out of core");
    // The bits of non-negative floats are ordered like the floats; with the place below them no two keys are equal, so
    // an unstable parallel sort is deterministic.
    let key = |(i, x): (usize, &f32)| {
        assert!(x.is_sign_positive() && !x.is_nan(), "{x} is not a distance");
        u64::from(x.to_bits()) << 32 | i as u64
    };
    let mut keys: Vec<u64> = values.par_iter().enumerate().map(key).collect();
    keys.par_sort_unstable();
    keys.into_par_iter().map(|key| key as u32).collect()
}

/// Centralities of one modality's rows, in the order given. Panics as [`order`] does.
pub fn centralities(distance: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; distance.len()];
    for (rank, &place) in order(distance).iter().enumerate() {
        out[place as usize] = centrality_of_rank(rank as u64, distance.len() as u64);
    }
    out
}

/// The value ranked by [`Centrality::Density`]: mean Euclidean distance of `row` to the 10 nearest of its modality's
/// sample rows (all, if fewer). `itself` is the row's own place in `sample`, if it is there: it is not its own neighbour.
pub fn density(row: &[f32], sample: &Matrix, itself: Option<usize>) -> f32 {
    let mut nearest = [f64::INFINITY; NEIGHBOURS];
    let mut found = 0;
    for (i, other) in sample.iter_rows().enumerate() {
        if itself == Some(i) {
            continue;
        }
        found += 1;
        let d = squared(row, other);
        if d < nearest[NEIGHBOURS - 1] {
            let at = nearest.partition_point(|&x| x <= d);
            nearest[at..].rotate_right(1);
            nearest[at] = d;
        }
    }
    let used = found.min(NEIGHBOURS);
    (nearest[..used].iter().map(|d| d.sqrt()).sum::<f64>() / used.max(1) as f64) as f32
}

/// The value ranked by [`Centrality::Margin`]: distance to the centre of the row's `modality` over the distance to the
/// nearest other centre; the plain distance if there is no other.
pub fn margin(row: &[f32], centers: &Matrix, modality: u32) -> f32 {
    let own = squared(row, centers.row(modality as usize));
    let other = (0..centers.rows())
        .filter(|&m| m != modality as usize)
        .map(|m| squared(row, centers.row(m)))
        .fold(f64::INFINITY, f64::min);
    let value = match (own, other) {
        (own, f64::INFINITY) => own.sqrt(),
        // On both centres: no nearer to one than to the other.
        (0.0, 0.0) => 1.0,
        (own, other) => (own / other).sqrt(),
    };
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_with_ties_to_the_lower_row() {
        assert_eq!(centralities(&[2.0, 0.0, 2.0, 1.0]), [0.375, 0.875, 0.125, 0.625]);
        assert_eq!(centralities(&[5.0]), [0.5]);
        assert!(centralities(&[]).is_empty());
    }

    #[test]
    fn stays_inside_the_open_interval() {
        for n in [1u64, 2, 1 << 25, 1 << 32, 1 << 40] {
            for rank in [0, n / 2, n - 1] {
                let c = centrality_of_rank(rank, n);
                assert!(c > 0.0 && c < 1.0, "rank {rank} of {n}: {c}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "is not a distance")]
    fn refuses_nan() {
        centralities(&[1.0, f32::NAN]);
    }

    #[test]
    #[should_panic(expected = "is not a distance")]
    fn refuses_minus_zero() {
        centralities(&[1.0, -0.0]);
    }

    #[test]
    fn density_of_a_line() {
        let line = Matrix::from_vec(21, 1, (0..21).map(|i| i as f32).collect());
        // The middle has five neighbours on each side; the end ten on one.
        assert_eq!(density(&[10.0], &line, Some(10)), 3.0);
        assert_eq!(density(&[0.0], &line, Some(0)), 5.5);
        assert_eq!(density(&[0.0], &line, None), 4.5);
        assert_eq!(density(&[3.0], &Matrix::from_vec(2, 1, vec![3.0, 5.0]), Some(0)), 2.0);
        assert_eq!(density(&[3.0], &Matrix::from_vec(1, 1, vec![3.0]), Some(0)), 0.0);
    }

    #[test]
    fn margins() {
        let centers = Matrix::from_vec(2, 1, vec![0.0, 4.0]);
        assert_eq!(margin(&[1.0], &centers, 0), 1.0 / 3.0);
        assert_eq!(margin(&[2.0], &centers, 1), 1.0);
        assert_eq!(margin(&[0.0], &centers, 0), 0.0);
        assert_eq!(margin(&[3.0], &Matrix::from_vec(1, 1, vec![0.0]), 0), 3.0);
    }
}
