//! Count, mean, variance and range of every feature, over all rows of the plan and in each modality.
//!
//! One pass: sums of `x - shift` and of its square in f64, where the shift is the sample's mean, so that a mean far from
//! 0 costs no digits. Rows are added in order inside a part, parts along the merge tree. O(rows x dims) time, O(M x dims)
//! memory in each partial result (only modalities that occur in it).

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::Result;
use crate::features::{State, quantile_of};
use crate::ids::NONE;
use crate::kernels;
use crate::matrix::Matrix;
use crate::modalities::Assigned;
use crate::parts::Pass;

/// The pass.
pub struct Moments {
    shift: Vec<f64>,
}

/// One modality (None: all) and feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub modality: Option<u32>,
    pub feature: u32,
    /// Rows in the plan.
    pub count: u64,
    /// Rows that `--invalid drop` left out because a feature is null or unusable. Counted over all rows only: they have no
    /// modality, there it is 0.
    pub nulls: u64,
    pub mean: f64,
    /// Population variance.
    pub variance: f64,
    pub min: f64,
    pub max: f64,
}

/// Mergeable form of one modality.
#[derive(Clone)]
struct Sums {
    count: u64,
    of: kernels::moments::Sums,
}

/// Mergeable form of the pass.
pub struct Partial {
    invalid: u64,
    modalities: BTreeMap<u32, Sums>,
}

impl Sums {
    fn new(dims: usize) -> Self {
        Sums { count: 0, of: kernels::moments::Sums::new(dims) }
    }

    fn add(&mut self, other: &Sums) {
        self.count += other.count;
        self.of.add(&other.of);
    }

    fn moment(&self, modality: Option<u32>, nulls: u64, feature: usize, shift: f64) -> Moment {
        let (min, max) = (f64::from(self.of.min[feature]), f64::from(self.of.max[feature]));
        let n = self.count as f64;
        let mean = self.of.sum[feature] / n;
        // Without variation the rounding of the sums would be all that is left.
        let (mean, variance) = if min == max {
            (min, 0.0)
        } else {
            (shift + mean, (self.of.square[feature] / n - mean * mean).max(0.0))
        };
        Moment { modality, feature: feature as u32, count: self.count, nulls, mean, variance, min, max }
    }
}

impl Moments {
    /// `shift`: about the mean of every feature, for example that of the sample.
    pub fn new(shift: Vec<f64>) -> Self {
        Moments { shift }
    }
}

impl Pass for Moments {
    type Item = Assigned;
    type Partial = Partial;
    /// All features over all rows, then those of each modality that has rows, ascending.
    type Output = Vec<Moment>;

    fn partial(&self, item: &Assigned) -> Result<Partial> {
        let mut modalities = BTreeMap::new();
        for (row, &modality) in item.points.points.iter_rows().zip(&item.modality) {
            if modality != NONE {
                let sums = modalities.entry(modality).or_insert_with(|| Sums::new(self.shift.len()));
                sums.count += 1;
                sums.of.add_row(row, &self.shift);
            }
        }
        let invalid = item.points.state.iter().filter(|&&s| s == State::Invalid).count() as u64;
        Ok(Partial { invalid, modalities })
    }

    fn merge(&self, mut left: Partial, right: Partial) -> Partial {
        left.invalid += right.invalid;
        for (modality, sums) in right.modalities {
            left.modalities.entry(modality).and_modify(|here| here.add(&sums)).or_insert(sums);
        }
        left
    }

    fn finish(&self, all: Option<Partial>) -> Result<Vec<Moment>> {
        let Some(Partial { invalid, modalities }) = all else { return Ok(Vec::new()) };
        let mut total = Sums::new(self.shift.len());
        modalities.values().for_each(|sums| total.add(sums));
        if total.count == 0 {
            return Ok(Vec::new());
        }
        let groups =
            std::iter::once((None, invalid, &total)).chain(modalities.iter().map(|(&m, s)| (Some(m), 0, s)));
        Ok(groups
            .flat_map(|(modality, nulls, sums)| {
                self.shift.iter().enumerate().map(move |(j, &shift)| sums.moment(modality, nulls, j, shift))
            })
            .collect())
    }
}

/// The 0, 10, .. 100 % quantiles of every feature over the sample's rows `members`: of the *sample*, where the moments
/// are of the full data. NaN without members. O(n) per feature and quantile at most, features in parallel.
pub fn quantiles(points: &Matrix, members: &[u32]) -> Vec<[f64; 11]> {
    // Features that are read together: four cache lines of a row.
    const TOGETHER: usize = 64;
    let Some(last) = members.len().checked_sub(1) else { return vec![[f64::NAN; 11]; points.cols()] };
    // As `quantile` computes them.
    let place = |q: i32| (f64::from(q) / 10.0 * last as f64).floor() as usize;
    let mut places: Vec<usize> = (0..=10).flat_map(|q| [place(q), (place(q) + 1).min(last)]).collect();
    places.sort_unstable();
    places.dedup();
    let firsts: Vec<usize> = (0..points.cols()).step_by(TOGETHER).collect();
    let some = |first: usize| {
        let width = TOGETHER.min(points.cols() - first);
        let n = members.len();
        let mut columns = vec![0; width * n];
        for (at, &i) in members.iter().enumerate() {
            let row = &points.row(i as usize)[first..first + width];
            row.iter().enumerate().for_each(|(j, &x)| columns[j * n + at] = ordered(x));
        }
        let of = |x: &mut [u32]| {
            settle(x, 0, &places);
            std::array::from_fn(|q| quantile_of(n, q as f64 / 10.0, |i| f64::from(number(x[i]))))
        };
        columns.par_chunks_mut(n).map(of).collect::<Vec<_>>()
    };
    firsts.into_par_iter().map(some).collect::<Vec<_>>().concat()
}

/// Puts the words of the `places` (ascending; `x` begins at place `first`) where they would stand if `x` were sorted.
fn settle(x: &mut [u32], first: usize, places: &[usize]) {
    let Some(&place) = places.get(places.len() / 2) else { return };
    let (left, _, right) = x.select_nth_unstable(place - first);
    settle(left, first, &places[..places.len() / 2]);
    settle(right, place + 1, &places[places.len() / 2 + 1..]);
}

const SIGN: u32 = 1 << 31;

/// A word in the order of `f32::total_cmp`: words are compared in half the time.
fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    bits ^ if bits & SIGN == 0 { SIGN } else { u32::MAX }
}

/// The number of an [`ordered`] word.
fn number(word: u32) -> f32 {
    f32::from_bits(word ^ if word & SIGN == 0 { u32::MAX } else { SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::quantile;
    use crate::statistics::fixtures::Data;

    #[test]
    fn equals_the_textbook() {
        let mut data = Data::random(1003, 11);
        for i in 0..1003 {
            data.points.row_mut(i)[4] = 0.1; // constant
            data.points.row_mut(i)[5] += 1e4; // far from 0
        }
        let shift: Vec<f64> = (0..11).map(|j| if j == 5 { 1e4 } else { 3.0 }).collect();
        let moments = data.run(&Moments::new(shift.clone()), 64, 3);
        assert_eq!(moments.len(), 4 * 11);
        for m in &moments {
            let x: Vec<f64> = data
                .planned()
                .filter(|&i| m.modality.is_none_or(|h| data.modality[i] == h))
                .map(|i| f64::from(data.points.row(i)[m.feature as usize]))
                .collect();
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            assert_eq!((m.count, m.nulls), (x.len() as u64, if m.modality.is_none() { 250 } else { 0 }));
            assert!((m.mean - mean).abs() < 1e-11 * mean.abs().max(1.0), "{m:?} {mean}");
            assert!((m.variance - variance).abs() < 1e-11, "{m:?} {variance}");
            assert_eq!(m.min, x.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(m.max, x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
        assert!(
            moments.iter().filter(|m| m.feature == 4).all(|m| m.variance == 0.0 && m.mean == 0.1f32 as f64)
        );
        assert_eq!(moments, data.run(&Moments::new(shift), 64, 1));
    }

    #[test]
    fn nothing_planned_is_nothing() {
        let mut data = Data::random(20, 2);
        data.modality.fill(NONE);
        assert!(data.run(&Moments::new(vec![0.0; 2]), 8, 1).is_empty());
        assert!(Data::random(0, 2).run(&Moments::new(vec![0.0; 2]), 8, 1).is_empty());
    }

    #[test]
    fn quantiles_of_members() {
        let points = Matrix::from_vec(12, 2, (0..24).map(|i| ((i * 7) % 24) as f32).collect());
        let q = quantiles(&points, &[0, 2, 4, 6, 8]);
        let mut x: Vec<f64> = [0, 2, 4, 6, 8].iter().map(|&i| f64::from(points.row(i)[1])).collect();
        x.sort_by(f64::total_cmp);
        assert_eq!((q[1][0], q[1][5], q[1][10]), (x[0], x[2], x[4]));
        assert!((q[1][1] - (x[0] + 0.4 * (x[1] - x[0]))).abs() < 1e-12);
        assert!(quantiles(&points, &[])[0][3].is_nan());
        // Against sorting, for numbers of members that hit order statistics and ones that do not.
        let points =
            Matrix::from_vec(300, 9, (0..2700).map(|i| ((i * 7919) % 1009) as f32 - 400.0).collect());
        for n in [1, 2, 3, 10, 11, 12, 101, 300] {
            let members: Vec<u32> = (0..n).collect();
            let got = quantiles(&points, &members);
            for (j, got) in got.iter().enumerate() {
                let mut x: Vec<f64> = (0..n as usize).map(|i| f64::from(points.row(i)[j])).collect();
                x.sort_by(f64::total_cmp);
                assert_eq!(*got, std::array::from_fn(|q| quantile(&x, q as f64 / 10.0)));
            }
        }
    }
}
