//! Many positions of one keyed permutation at once, the same as [`Permutation::index`] of each.
#![allow(unsafe_code)]

use super::simd::{Job, Vector, dispatch};
use crate::rng::{MAX_ROUNDS, Permutation, mix32_folded};

/// Positions that take a step together: four registers of AVX-512, because a round is a chain of ten instructions.
const MANY: usize = 64;
/// As many for the last few.
const FEW: usize = 16;

/// Buffers of [`index_all`]: which positions still walk, and where they are.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    which: Vec<u32>,
    at: Vec<u32>,
}

/// [`Permutation::index`] of every position. All take a step together, so the rounds are vectors: several times as fast
/// for a dozen and more. Panics if the domain is larger than 2^32.
pub fn index_all(permutation: &Permutation, positions: &mut [u32], walk: &mut Walk) {
    assert!(permutation.n() <= 1 << 32, "{} positions are more than 32 bits count", permutation.n());
    if permutation.n() <= 1 {
        positions.fill(0);
        return;
    }
    dispatch(IndexAll { permutation, positions, walk });
}

struct IndexAll<'a> {
    permutation: &'a Permutation,
    positions: &'a mut [u32],
    walk: &'a mut Walk,
}

impl Job for IndexAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let IndexAll { permutation, positions, walk: Walk { which, at } } = self;
        let rounds = Rounds::of(permutation);
        let last = (permutation.n() - 1) as u32;
        let room = positions.len().next_multiple_of(MANY);
        which.resize(which.len().max(room), 0);
        at.resize(at.len().max(room), 0);
        let (which, at) = (which.as_mut_slice(), at.as_mut_slice());
        let mut left = 0;
        for (c, chunk) in positions.chunks_mut(MANY).enumerate() {
            let places = std::array::from_fn(|i| (c * MANY + i) as u32);
            let mut numbers = [0; MANY];
            if let Ok(chunk) = <&mut [u32; MANY]>::try_from(&mut *chunk) {
                numbers = *chunk;
                rounds.step(&mut numbers);
                *chunk = numbers;
            } else {
                numbers[..chunk.len()].copy_from_slice(chunk);
                rounds.step_some(&mut numbers, chunk.len());
                chunk.copy_from_slice(&numbers[..chunk.len()]);
            }
            left += above::<V>(&numbers, &places, last, &mut which[left..], &mut at[left..]);
        }
        while left > 0 {
            let count = std::mem::take(&mut left);
            for first in (0..count).step_by(MANY) {
                let len = MANY.min(count - first);
                // Those kept of a chunk are written where it was: chunks are read whole before.
                let (mut places, mut numbers) = ([0; MANY], [0; MANY]);
                places.copy_from_slice(&which[first..first + MANY]);
                numbers.copy_from_slice(&at[first..first + MANY]);
                rounds.step_some(&mut numbers, len);
                for (&place, &number) in places[..len].iter().zip(&numbers) {
                    positions[place as usize] = number;
                }
                left += above::<V>(&numbers, &places, last, &mut which[left..], &mut at[left..]);
            }
        }
    }
}

/// Writes the numbers above `last` and their places one after another, without a branch, for nobody can guess it; returns how
/// many there are. Both are written for as many as are read.
#[inline(always)]
fn above<V: Vector>(
    numbers: &[u32; MANY],
    places: &[u32; MANY],
    last: u32,
    which: &mut [u32],
    at: &mut [u32],
) -> usize {
    const { assert!(MANY.is_multiple_of(V::LANES)) };
    let (which, at) = (&mut which[..MANY], &mut at[..MANY]);
    let mut kept = 0;
    for first in (0..MANY).step_by(V::LANES) {
        // SAFETY: `first + LANES` are read of `MANY`, and as no more are kept than were read before, as many can be written.
        kept += unsafe {
            V::above(
                numbers.as_ptr().add(first),
                places.as_ptr().add(first),
                last,
                at.as_mut_ptr().add(kept),
                which.as_mut_ptr().add(kept),
            )
        };
    }
    kept
}

/// [`Permutation::step`] of many: halves of a position have 16 bits at most, so the first shift of a round's hash moves
/// nothing but the key's bits, and is done once for all.
struct Rounds {
    keys: [u32; MAX_ROUNDS],
    rounds: usize,
    even: u32,
    odd: u32,
    right_bits: u32,
}

impl Rounds {
    #[inline(always)]
    fn of(permutation: &Permutation) -> Self {
        let mut keys = [0; MAX_ROUNDS];
        for (folded, &key) in keys.iter_mut().zip(permutation.keys()) {
            *folded = key ^ key >> 16;
        }
        let (even, odd) = permutation.masks();
        Rounds { keys, rounds: permutation.keys().len(), even, odd, right_bits: permutation.right_bits() }
    }

    #[inline(always)]
    fn step<const N: usize>(&self, positions: &mut [u32; N]) {
        let Rounds { even, odd, right_bits, .. } = *self;
        let (mut l, mut r) = ([0; N], [0; N]);
        for i in 0..N {
            l[i] = positions[i] >> right_bits;
            r[i] = positions[i] & odd;
        }
        for pair in self.keys[..self.rounds].as_chunks::<2>().0 {
            for i in 0..N {
                l[i] = (l[i] ^ mix32_folded(r[i] ^ pair[0])) & even;
            }
            for i in 0..N {
                r[i] = (r[i] ^ mix32_folded(l[i] ^ pair[1])) & odd;
            }
        }
        for i in 0..N {
            positions[i] = (l[i] << right_bits) | r[i];
        }
    }

    /// Of the first `len`; the others become 0.
    #[inline(always)]
    fn step_some(&self, positions: &mut [u32; MANY], len: usize) {
        if let (true, Some(few)) = (len <= FEW, positions.first_chunk_mut::<FEW>()) {
            self.step(few);
        } else {
            self.step(positions);
        }
        positions[len..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_at};
    use super::*;
    use crate::rng::key;

    #[test]
    fn the_same_as_one_by_one_at_every_level() {
        for n in [1u64, 2, 3, 5, 17, 64, 65, 1000, 4097, 10_007, (1 << 31) + 5, (1 << 32) - 1, 1 << 32] {
            let p = Permutation::new(n, key(7, &[n]));
            for len in [1, 15, 16, 17, 63, 64, 65, 130, 3000] {
                let some: Vec<u32> = (0..n.min(len)).map(|i| (n - 1 - i) as u32).collect();
                let expected: Vec<u32> = some.iter().map(|&i| p.index(i.into()) as u32).collect();
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
}
