//! Sums over rows: one addition a number and row, in row order. Rust contracts and reorders nothing, so wider vectors
//! change no bit.

use serde::{Deserialize, Serialize};

use super::distance::dot_inline;
use super::simd::{Kernel, Vector, dispatch};
use crate::kit::matrix::Matrix;

/// Sums of a set of rows, one of each a coordinate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Of `x - shift`, in `f64`.
    pub sum: Vec<f64>,
    /// Of its square.
    pub square: Vec<f64>,
    pub min: Vec<f32>,
    pub max: Vec<f32>,
}

impl Sums {
    /// Of no rows.
    pub fn new(dims: usize) -> Self {
        Sums {
            sum: vec![0.0; dims],
            square: vec![0.0; dims],
            min: vec![f32::INFINITY; dims],
            max: vec![f32::NEG_INFINITY; dims],
        }
    }

    /// Adds a row. O(d).
    pub fn add_row(&mut self, row: &[f32], shift: &[f64]) {
        assert!(row.len() == shift.len() && row.len() == self.sum.len(), "one number a coordinate");
        dispatch(AddRow { sums: self, row, shift });
    }

    /// Adds the rows of another set. O(d).
    pub fn add(&mut self, other: &Sums) {
        let add = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        add(&mut self.sum, &other.sum);
        add(&mut self.square, &other.square);
        self.min.iter_mut().zip(&other.min).for_each(|(a, b)| *a = a.min(*b));
        self.max.iter_mut().zip(&other.max).for_each(|(a, b)| *a = a.max(*b));
    }
}

struct AddRow<'a> {
    sums: &'a mut Sums,
    row: &'a [f32],
    shift: &'a [f64],
}

impl Kernel for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let AddRow { sums, row, shift } = self;
        for (((sum, square), &x), shift) in sums.sum.iter_mut().zip(&mut sums.square).zip(row).zip(shift) {
            let y = f64::from(x) - shift;
            *sum += y;
            *square += y * y;
        }
        for ((min, max), &x) in sums.min.iter_mut().zip(&mut sums.max).zip(row) {
            *min = if x < *min { x } else { *min };
            *max = if x > *max { x } else { *max };
        }
    }
}

/// `shifted = row - shift` (in `f32`), added to `sum` (in `f64`). Returns its canonical squared length. O(d).
pub fn shift_and_add(row: &[f32], shift: &[f32], shifted: &mut [f32], sum: &mut [f64]) -> f64 {
    assert!(row.len() == shift.len() && row.len() == shifted.len() && row.len() == sum.len());
    dispatch(Shift { row, shift, shifted, sum })
}

struct Shift<'a> {
    row: &'a [f32],
    shift: &'a [f32],
    shifted: &'a mut [f32],
    sum: &'a mut [f64],
}

impl Kernel for Shift<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self) -> f64 {
        let Shift { row, shift, shifted, sum } = self;
        for (((to, sum), x), shift) in shifted.iter_mut().zip(sum).zip(row).zip(shift) {
            *to = x - shift;
            *sum += f64::from(*to);
        }
        dot_inline(shifted, shifted)
    }
}

/// Adds the columns `first ..` of every row to the sums of the cell that `labels` names, in row order: `sums` has as many
/// numbers for each cell as there are columns. O(n columns), on the calling thread.
pub fn add_columns(points: &Matrix, first: usize, labels: &[u32], sums: &mut [f64], columns: usize) {
    assert!(points.rows() == labels.len() && first + columns <= points.cols());
    dispatch(AddColumns { points, first, labels, sums, columns });
}

struct AddColumns<'a> {
    points: &'a Matrix,
    first: usize,
    labels: &'a [u32],
    sums: &'a mut [f64],
    columns: usize,
}

impl Kernel for AddColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let AddColumns { points, first, labels, sums, columns } = self;
        for (row, &c) in points.iter_rows().zip(labels) {
            let sums = &mut sums[c as usize * columns..][..columns];
            sums.iter_mut().zip(&row[first..first + columns]).for_each(|(s, &x)| *s += f64::from(x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::distance::dot;
    use super::super::simd::{Level, run_at};
    use super::*;
    use crate::kit::rng::{key, normal};

    #[test]
    fn every_level_gives_the_bits_of_the_plain_sums() {
        for d in [0usize, 1, 7, 8, 33, 100] {
            let x = |s: u64| -> Vec<f32> { (0..d).map(|i| normal(key(s, &[i as u64])) as f32).collect() };
            let shift: Vec<f32> = x(0);
            let wide: Vec<f64> = shift.iter().map(|&s| f64::from(s) * 1.1).collect();
            for &level in Level::all() {
                let (mut sums, mut shifted, mut total) = (Sums::new(d), vec![0.0; d], vec![0.0; d]);
                for seed in 1..20 {
                    let row = x(seed);
                    run_at(level, AddRow { sums: &mut sums, row: &row, shift: &wide });
                    let job = Shift { row: &row, shift: &shift, shifted: &mut shifted, sum: &mut total };
                    let square = run_at(level, job);
                    let expected: Vec<f32> = row.iter().zip(&shift).map(|(x, s)| x - s).collect();
                    assert_eq!(
                        (&shifted, square.to_bits()),
                        (&expected, dot(&expected, &expected).to_bits())
                    );
                }
                for j in 0..d {
                    let column: Vec<f32> = (1..20).map(|s| x(s)[j]).collect();
                    let y = column.iter().map(|&x| f64::from(x) - wide[j]);
                    assert_eq!(sums.sum[j].to_bits(), y.clone().fold(0.0, |a, b| a + b).to_bits());
                    assert_eq!(sums.square[j].to_bits(), y.fold(0.0, |a, b| a + b * b).to_bits());
                    assert_eq!(sums.min[j], column.iter().copied().fold(f32::INFINITY, f32::min));
                    assert_eq!(sums.max[j], column.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                    let plain = column.iter().fold(0.0, |a, x| a + f64::from(x - shift[j]));
                    assert_eq!(total[j].to_bits(), plain.to_bits());
                }
            }
        }
    }
}
