//! Many positions of one keyed permutation at once, the same as [`Permutation::index`] of each.

use super::simd::{Job, Vector, dispatch};
use crate::rng::{Permutation, mix32};

/// Buffers of [`index_all`]: halves of the positions that still walk, and whose they are.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    left: Vec<u32>,
    right: Vec<u32>,
    of: Vec<u32>,
}

/// [`Permutation::index`] of every position. All take each round together, so the rounds are vectors: several times as
/// fast for a dozen and more.
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
        let IndexAll { permutation, positions, walk } = self;
        let (even, odd) = permutation.masks();
        let (right_bits, end) = (permutation.right_bits(), permutation.n());
        walk.left.clear();
        walk.left.extend(positions.iter().map(|&i| (i >> right_bits) as u32));
        walk.right.clear();
        walk.right.extend(positions.iter().map(|&i| i as u32 & odd));
        walk.of.clear();
        walk.of.extend(0..positions.len() as u32);
        while !walk.of.is_empty() {
            let n = walk.of.len();
            let (left, right, of) = (&mut walk.left[..n], &mut walk.right[..n], &mut walk.of[..n]);
            // All rounds of a few positions before the next few, in registers.
            let (lefts, left_tail) = left.as_chunks_mut::<32>();
            let (rights, right_tail) = right.as_chunks_mut::<32>();
            for (l, r) in lefts.iter_mut().zip(rights) {
                rounds(permutation.keys(), (even, odd), l, r);
            }
            for (l, r) in left_tail.iter_mut().zip(right_tail) {
                let (mut a, mut b) = ([*l], [*r]);
                rounds(permutation.keys(), (even, odd), &mut a, &mut b);
                (*l, *r) = (a[0], b[0]);
            }
            let mut again = 0;
            for k in 0..n {
                let i = (u64::from(left[k]) << right_bits) | u64::from(right[k]);
                positions[of[k] as usize] = i;
                (left[again], right[again], of[again]) = (left[k], right[k], of[k]);
                again += usize::from(i >= end);
            }
            walk.of.truncate(again);
        }
    }
}

/// All rounds of `N` positions.
#[inline(always)]
fn rounds<const N: usize>(keys: &[u32], (even, odd): (u32, u32), left: &mut [u32; N], right: &mut [u32; N]) {
    let (mut l, mut r) = (*left, *right);
    for pair in keys.as_chunks::<2>().0 {
        for i in 0..N {
            l[i] = (l[i] ^ mix32(r[i] ^ pair[0])) & even;
        }
        for i in 0..N {
            r[i] = (r[i] ^ mix32(l[i] ^ pair[1])) & odd;
        }
    }
    (*left, *right) = (l, r);
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
