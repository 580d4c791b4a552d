//! Quantiles of every feature over the rows of the *sample*, all of them and those of each modality (the moments are of the
//! full data).

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::features::quantile_of;
use crate::kit::matrix::Matrix;
use crate::statistics::cells::Cells;

/// 0, 10, .. 100 %.
pub type Quantiles = [f64; 11];

/// Features that are read together: a cache line of a row.
const TOGETHER: usize = 16;

/// Quantiles of the sample, one a feature.
#[derive(Clone, Debug, Default)]
pub struct SampleQuantiles {
    /// Of every feature those of the modalities, and then those of all.
    features: Vec<Vec<Quantiles>>,
    /// Place of a modality.
    places: BTreeMap<u32, usize>,
    /// Of all rows, at and between their quantiles.
    cells: Vec<Cells>,
}

impl SampleQuantiles {
    /// `modality` of every row of `points`. O(n) per feature and quantile at most, features in parallel.
    pub fn new(points: &Matrix, modality: &[u32]) -> Self {
        assert_eq!(points.rows(), modality.len());
        // Modality after modality, so that each is a range of every column.
        let mut order: Vec<u32> = (0..modality.len() as u32).collect();
        order.sort_by_key(|&i| modality[i as usize]);
        let mut groups: Vec<(u32, Group)> = Vec::new();
        for of_one in order.chunk_by(|&i, &j| modality[i as usize] == modality[j as usize]) {
            let first = groups.last().map_or(0, |(_, group)| group.rows.end);
            groups.push((modality[of_one[0] as usize], Group::new(first..first + of_one.len())));
        }
        let all = Group::new(0..order.len());
        let firsts: Vec<usize> = (0..points.cols()).step_by(TOGETHER).collect();
        let some = |&first: &usize| {
            let (n, width) = (order.len(), TOGETHER.min(points.cols() - first));
            let mut columns = vec![0; width * n];
            for (at, &i) in order.iter().enumerate() {
                let row = &points.row(i as usize)[first..first + width];
                row.iter().enumerate().for_each(|(j, &x)| columns[j * n + at] = ordered(x));
            }
            // Of all rows last: it moves rows from range to range.
            let of = |j: usize, columns: &mut [u32]| -> (Vec<Quantiles>, Cells) {
                let column = &mut columns[j * n..(j + 1) * n];
                let found: Vec<Quantiles> = groups
                    .iter()
                    .map(|(_, group)| group)
                    .chain([&all])
                    .map(|g| g.quantiles(column))
                    .collect();
                let cells = Cells::count(&found[groups.len()], column.iter().map(|&x| f64::from(number(x))));
                (found, cells)
            };
            (0..width).map(|j| of(j, &mut columns)).collect::<Vec<_>>()
        };
        let (features, cells) = firsts.par_iter().flat_map_iter(some).unzip();
        let places = groups.iter().map(|group| group.0).zip(0..).collect();
        SampleQuantiles { features, places, cells }
    }

    /// Those of a feature over the rows of a modality (None: over all); NaN where the sample has none.
    pub fn of(&self, modality: Option<u32>, feature: usize) -> Quantiles {
        let groups = &self.features[feature];
        let place = modality.map_or(Some(self.places.len()), |m| self.places.get(&m).copied());
        place.map_or([f64::NAN; 11], |place| groups[place])
    }

    /// Rows of the sample at and between the quantiles of a feature.
    pub fn cells(&self, feature: usize) -> &Cells {
        &self.cells[feature]
    }
}

/// Rows that lie together, and which of them in ascending order the quantiles are made of.
struct Group {
    rows: Range<usize>,
    places: Vec<usize>,
}

impl Group {
    fn new(rows: Range<usize>) -> Self {
        let last = rows.len().saturating_sub(1);
        // As `quantile_of` computes them.
        let place = |q: i32| (f64::from(q) / 10.0 * last as f64).floor() as usize;
        let mut places: Vec<usize> = (0..=10).flat_map(|q| [place(q), (place(q) + 1).min(last)]).collect();
        places.sort_unstable();
        places.dedup();
        Group { rows, places }
    }

    /// Of a column of [`ordered`] words, whose rows of this group change places.
    fn quantiles(&self, column: &mut [u32]) -> Quantiles {
        let x = &mut column[self.rows.clone()];
        if x.is_empty() {
            return [f64::NAN; 11];
        }
        settle(x, 0, &self.places);
        std::array::from_fn(|q| quantile_of(x.len(), q as f64 / 10.0, |i| f64::from(number(x[i]))))
    }
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

    /// Against sorting, for numbers of rows that hit order statistics and ones that do not.
    #[test]
    fn equal_sorting() {
        for (n, d) in [(0, 3), (1, 1), (2, 17), (12, 2), (101, 16), (300, 35)] {
            let number = |i: usize| ((i * 7919) % 1009) as f32 - 400.0;
            let points = Matrix::from_vec(n, d, (0..n * d).map(number).collect());
            let modality: Vec<u32> = (0..n).map(|i| [4, 1, 1, 4, 9, 4, 1][i * i % 7]).collect();
            let found = SampleQuantiles::new(&points, &modality);
            for m in [None, Some(1), Some(4), Some(5), Some(9)] {
                for j in 0..d {
                    let of = (0..n).filter(|&i| m.is_none_or(|m| m == modality[i]));
                    let mut x: Vec<f64> = of.map(|i| f64::from(points.row(i)[j])).collect();
                    x.sort_by(f64::total_cmp);
                    let sorted: Quantiles = std::array::from_fn(|q| quantile(&x, q as f64 / 10.0));
                    assert_eq!(found.of(m, j).map(f64::to_bits), sorted.map(f64::to_bits), "{m:?} {j}");
                    if m.is_none() {
                        assert_eq!(*found.cells(j), Cells::count(&sorted, x.iter().copied()), "{j}");
                    }
                }
            }
        }
    }
}
