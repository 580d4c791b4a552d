//! Many positions of one keyed permutation at once, the same as [`Permutation::index`] of each.

use super::simd::{Job, Vector, dispatch};
use crate::rng::{Permutation, mix32};

/// Positions that take a step together: four registers of AVX-512, because a round is a chain of ten instructions.
const MANY: usize = 64;
/// As many for the last few.
const FEW: usize = 16;

/// Buffer of [`index_all`]: which positions still walk.
#[derive(Clone, Debug, Default)]
pub struct Walk(Vec<u32>);

/// [`Permutation::index`] of every position. All take a step together, so the rounds are vectors: several times as fast
/// for a dozen and more.
pub fn index_all(permutation: &Permutation, positions: &mut [u64], walk: &mut Walk) {
    if permutation.n() <= 1 {
        positions.fill(0);
        return;
    }
    dispatch(IndexAll { permutation, positions, walk });
}

struct IndexAll<'a> {
    permutation: &'a Permutation,
    positions: &'a mut [u64],
    walk: &'a mut Walk,
}

impl Job for IndexAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let IndexAll { permutation, positions, walk: Walk(walking) } = self;
        let end = permutation.n();
        walking.resize(walking.len().max(positions.len()), 0);
        let walking = walking.as_mut_slice();
        // Which positions must take another step is found without a branch, for nobody can guess it.
        let mut left = 0;
        for (c, chunk) in positions.chunks_mut(MANY).enumerate() {
            step(permutation, chunk);
            for (i, &position) in chunk.iter().enumerate() {
                walking[left] = (c * MANY + i) as u32;
                left += usize::from(position >= end);
            }
        }
        while left > 0 {
            let count = std::mem::take(&mut left);
            for first in (0..count).step_by(MANY) {
                let len = MANY.min(count - first);
                let (mut which, mut some) = ([0; MANY], [0; MANY]);
                which[..len].copy_from_slice(&walking[first..first + len]);
                for (to, &i) in some.iter_mut().zip(&which[..len]) {
                    *to = positions[i as usize];
                }
                step(permutation, &mut some[..len]);
                for (&i, &position) in which[..len].iter().zip(&some) {
                    positions[i as usize] = position;
                    walking[left] = i;
                    left += usize::from(position >= end);
                }
            }
        }
    }
}

/// [`Permutation::step`] of each of at most [`MANY`].
#[inline(always)]
fn step(permutation: &Permutation, positions: &mut [u64]) {
    #[inline(always)]
    fn padded<const N: usize>(permutation: &Permutation, positions: &mut [u64]) {
        let mut all = [0; N];
        all[..positions.len()].copy_from_slice(positions);
        rounds(permutation, &mut all);
        positions.copy_from_slice(&all[..positions.len()]);
    }
    if let Ok(all) = positions.try_into() {
        rounds::<MANY>(permutation, all);
    } else if positions.len() <= FEW {
        padded::<FEW>(permutation, positions);
    } else {
        padded::<MANY>(permutation, positions);
    }
}

/// [`Permutation::step`] of each.
#[inline(always)]
fn rounds<const N: usize>(permutation: &Permutation, positions: &mut [u64; N]) {
    let ((even, odd), right_bits) = (permutation.masks(), permutation.right_bits());
    let (mut l, mut r) = ([0; N], [0; N]);
    for i in 0..N {
        l[i] = (positions[i] >> right_bits) as u32;
        r[i] = positions[i] as u32 & odd;
    }
    for pair in permutation.keys().as_chunks::<2>().0 {
        for i in 0..N {
            l[i] = (l[i] ^ mix32(r[i] ^ pair[0])) & even;
        }
        for i in 0..N {
            r[i] = (r[i] ^ mix32(l[i] ^ pair[1])) & odd;
        }
    }
    for i in 0..N {
        positions[i] = (u64::from(l[i]) << right_bits) | u64::from(r[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_at};
    use super::*;
    use crate::rng::key;

    #[test]
    fn the_same_as_one_by_one_at_every_level() {
        for n in [1u64, 2, 3, 5, 17, 64, 65, 1000, 4097, 10_007, (1 << 33) + 5] {
            let p = Permutation::new(n, key(7, &[n]));
            let some: Vec<u64> = (0..n.min(3000)).map(|i| if n > 1 << 32 { n - 1 - i } else { i }).collect();
            let expected: Vec<u64> = some.iter().map(|&i| p.index(i)).collect();
            for &level in Level::all() {
                let (mut all, mut walk) = (some.clone(), Walk::default());
                if n > 1 {
                    let job = IndexAll { permutation: &p, positions: &mut all, walk: &mut walk };
                    run_at(level, job);
                } else {
                    index_all(&p, &mut all, &mut walk);
                }
                assert_eq!(all, expected, "n = {n}, {level:?}");
            }
        }
    }
}
