//! Natural logarithms of many numbers, the same bits as `libm::log` of each.

use super::simd::{Kernel, Vector, dispatch};

/// Puts the logarithm in the place of every number. The numbers must be positive, finite and normal. O(n), on the calling
/// thread, several times as fast as one by one.
pub fn log_all(numbers: &mut [f64]) {
    debug_assert!(numbers.iter().all(|x| x.is_normal() && *x > 0.0));
    dispatch(LogAll(numbers));
}

struct LogAll<'a>(&'a mut [f64]);

impl Kernel for LogAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        self.0.iter_mut().for_each(|x| *x = log(*x));
    }
}

/// `log` of FreeBSD's msun (e_log.c, Sun Microsystems 1993), as libm has it, without its branches for other numbers.
#[inline(always)]
fn log(x: f64) -> f64 {
    const LN2: (f64, f64) = (f64::from_bits(0x3fe6_2e42_fee0_0000), f64::from_bits(0x3dea_39ef_3579_3c76));
    const G: [f64; 7] = [
        f64::from_bits(0x3fe5_5555_5555_5593),
        f64::from_bits(0x3fd9_9999_9997_fa04),
        f64::from_bits(0x3fd2_4924_9422_9359),
        f64::from_bits(0x3fcc_71c5_1d8e_78af),
        f64::from_bits(0x3fc7_4664_96cb_03de),
        f64::from_bits(0x3fc3_9a09_d078_c69f),
        f64::from_bits(0x3fc2_f112_df3e_5244),
    ];
    // x = 2^k (1 + f), with 1 + f between sqrt(2) / 2 and sqrt(2).
    const ONE: u64 = 0x3ff0_0000 << 32;
    const HALF_ROOT: u64 = 0x3fe6_a09e << 32;
    const MANTISSA: u64 = (1 << 52) - 1;
    let moved = x.to_bits().wrapping_add(ONE - HALF_ROOT);
    let k = ((moved >> 52) as i64 - 0x3ff) as f64;
    let f = f64::from_bits((moved & MANTISSA) + HALF_ROOT) - 1.0;
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let t1 = w * (G[1] + w * (G[3] + w * G[5]));
    let t2 = z * (G[0] + w * (G[2] + w * (G[4] + w * G[6])));
    let r = t2 + t1;
    s * (half_square + r) + k * LN2.1 - half_square + f + k * LN2.0
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_at};
    use super::*;
    use crate::kit::rng::key;

    #[test]
    fn the_same_bits_as_libm_at_every_level() {
        let any = |i| f64::from_bits(key(3, &[i]) & (i64::MAX as u64));
        let near = |i| 1.0 + (key(4, &[i]) as i64 as f64) * 2f64.powi(-66);
        let mut some: Vec<f64> = (0..100_000).map(any).chain((0..10_000).map(near)).collect();
        some.extend([1.0, 2.0, 0.5, f64::MIN_POSITIVE, f64::MAX, 1e-30, std::f64::consts::SQRT_2]);
        some.retain(|x| x.is_normal());
        assert!(some.len() > 100_000);
        for &level in Level::all() {
            let mut all = some.clone();
            run_at(level, LogAll(&mut all));
            for (x, got) in some.iter().zip(all) {
                assert_eq!(got.to_bits(), libm::log(*x).to_bits(), "{x:e}, {level:?}");
            }
        }
    }
}
