//! Many cosines at once, for random Fourier features (Rahimi & Recht 2007).
//!
//! `x = k pi + r` with `|r| <= pi/2` by subtracting `k` times pi in three parts (Cody & Waite 1980), then the Taylor
//! series of the cosine to `r^22` and the sign `(-1)^k`. Plain `f64` operations in one order, so the compiler may use
//! vectors of any width and every machine gets the same bits.

use super::simd::{Kernel, Vector, dispatch};

/// pi in three parts. The first two end in zeros: times an integer below 2^20 they are exact.
const PI: [f64; 3] = [
    f64::from_bits(0x4009_21FB_5440_0000),
    f64::from_bits(0x3DE0_B461_1A40_0000),
    f64::from_bits(0x3BF1_3198_A2E0_3707),
];
/// Above this the reduction loses digits and `libm` takes over.
const LIMIT: f64 = 1e6;
/// Adding it rounds to an integer, which is then in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// Replaces every `x` by its cosine; error below 1e-15 for `|x| < 1e6` and that of `libm` beyond. O(n).
pub fn cosines(x: &mut [f64]) {
    dispatch(Cosines(x));
}

struct Cosines<'a>(&'a mut [f64]);

impl Kernel for Cosines<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for part in self.0.chunks_mut(64) {
            if part.iter().fold(true, |small, x| small & (x.abs() < LIMIT)) {
                for x in part {
                    *x = cosine(*x);
                }
            } else {
                for x in part {
                    *x = libm::cos(*x);
                }
            }
        }
    }
}

/// Adds the products `row[i] * row[j]` of all rows of `width` numbers (a multiple of 16) to `sums[i * width + j]`, at least
/// where `i <= j`: four rows at a time, `(a + b) + (c + d)`. O(n width^2).
pub fn add_products(rows: &[f64], width: usize, sums: &mut [f64]) {
    assert!(width > 0 && width.is_multiple_of(TILE.1) && rows.len().is_multiple_of(width));
    assert!(sums.len() == width * width);
    dispatch(AddProducts { rows, width, sums });
}

/// Sums that are kept in registers while the rows pass.
const TILE: (usize, usize) = (4, 16);

struct AddProducts<'a> {
    rows: &'a [f64],
    width: usize,
    sums: &'a mut [f64],
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let AddProducts { rows, width, sums } = self;
        let fours = rows.chunks_exact(4 * width);
        let rest = fours.remainder();
        let part = |row: &[f64], from: usize| -> [f64; TILE.1] {
            *row[from..].first_chunk().expect("a whole tile: the width is a multiple of one")
        };
        for i in (0..width).step_by(TILE.0) {
            for j in (i / TILE.1 * TILE.1..width).step_by(TILE.1) {
                let mut tile: [[f64; TILE.1]; TILE.0] =
                    std::array::from_fn(|r| part(&sums[(i + r) * width..], j));
                for four in fours.clone() {
                    let rows: [&[f64]; 4] = std::array::from_fn(|t| &four[t * width..(t + 1) * width]);
                    let [a, b, c, d] = rows.map(|row| part(row, j));
                    for (r, sums) in tile.iter_mut().enumerate() {
                        let [a0, b0, c0, d0] = rows.map(|row| row[i + r]);
                        for l in 0..TILE.1 {
                            sums[l] += (a0 * a[l] + b0 * b[l]) + (c0 * c[l] + d0 * d[l]);
                        }
                    }
                }
                for row in rest.chunks_exact(width) {
                    let x = part(row, j);
                    for (r, sums) in tile.iter_mut().enumerate() {
                        for l in 0..TILE.1 {
                            sums[l] += row[i + r] * x[l];
                        }
                    }
                }
                for (r, tile) in tile.iter().enumerate() {
                    sums[(i + r) * width + j..][..TILE.1].copy_from_slice(tile);
                }
            }
        }
    }
}

#[inline(always)]
fn cosine(x: f64) -> f64 {
    let shifted = x * std::f64::consts::FRAC_1_PI + ROUND;
    let k = shifted - ROUND;
    let r = ((x - k * PI[0]) - k * PI[1]) - k * PI[2];
    let z = r * r;
    let mut sum = -1.0 / 1_124_000_727_777_607_680_000.0; // -1/22!
    for c in [
        1.0 / 2_432_902_008_176_640_000.0, // 1/20!
        -1.0 / 6_402_373_705_728_000.0,
        1.0 / 20_922_789_888_000.0,
        -1.0 / 87_178_291_200.0,
        1.0 / 479_001_600.0,
        -1.0 / 3_628_800.0,
        1.0 / 40_320.0,
        -1.0 / 720.0,
        1.0 / 24.0,
        -0.5,
        1.0,
    ] {
        sum = sum * z + c;
    }
    // k odd: the sign flips. The lowest bit of `shifted` is the lowest bit of k.
    f64::from_bits(sum.to_bits() ^ (shifted.to_bits() << 63))
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_at};
    use super::*;
    use crate::kit::rng::{key, uniform};

    #[test]
    fn close_to_libm() {
        let mut x: Vec<f64> = (0..4000)
            .map(|i| (uniform(key(1, &[i])) - 0.5) * [1.0, 7.0, 100.0, 2e6][i as usize % 4])
            .chain([
                0.0,
                -0.0,
                std::f64::consts::PI,
                std::f64::consts::FRAC_PI_2,
                1e6,
                999_999.9,
                -1e9,
                1e300,
            ])
            .chain((0..100).map(|i| f64::from(i * 3183) * std::f64::consts::FRAC_PI_2))
            .collect();
        let before = x.clone();
        cosines(&mut x);
        for (&x, &y) in before.iter().zip(&x) {
            assert!((y - libm::cos(x)).abs() < 4e-16, "cos({x}) = {y}, libm {}", libm::cos(x));
        }
        let mut odd = [f64::NAN, f64::INFINITY];
        cosines(&mut odd);
        assert!(odd.iter().all(|x| x.is_nan()));
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f64> = (0..9 * 32).map(|i| (uniform(key(2, &[i])) - 0.5) * 40.0).collect();
        let all: Vec<(Vec<f64>, Vec<f64>)> = Level::all()
            .iter()
            .map(|&level| {
                let (mut y, mut sums) = (x.clone(), vec![1.0; 32 * 32]);
                run_at(level, Cosines(&mut y));
                run_at(level, AddProducts { rows: &x, width: 32, sums: &mut sums });
                (y, sums)
            })
            .collect();
        assert!(all.iter().all(|of_level| *of_level == all[0]));
        for (i, j) in (0..32).flat_map(|i| (i..32).map(move |j| (i, j))) {
            let plain = 1.0 + x.chunks_exact(32).map(|row| row[i] * row[j]).sum::<f64>();
            assert!((all[0].1[i * 32 + j] - plain).abs() < 1e-9 * plain.abs().max(1.0));
        }
    }

    #[test]
    fn value_stability() {
        let mut x = [1.0, 12.5, 12_345.678];
        cosines(&mut x);
        assert_eq!(
            x.map(f64::to_bits),
            [0x3FE1_4A28_0FB5_068C, 0x3FEF_EDF6_A822_7774, 0x3FE6_B94C_3BBE_24B8]
        );
    }
}
