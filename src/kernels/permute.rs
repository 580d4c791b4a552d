//! Many positions of keyed permutations at once, the same as [`Permutation::index`] of each.
#![allow(unsafe_code)]

use std::ops::Range;

use super::simd::Vector;
use crate::kit::rng::{MAX_ROUNDS, Permutation, mix32_folded};

/// Positions that take a step together: four registers of AVX-512, because a round is a chain of ten instructions.
const MANY: usize = 64;

/// Buffers of [`gather`](super::gather::gather).
#[derive(Clone, Debug, Default)]
pub struct Walk {
    walkers: Walkers,
    /// Those that walk on after the next step.
    left: Walkers,
}

/// Positions that still walk.
#[derive(Clone, Debug, Default)]
struct Walkers {
    /// As those of [`index_all`]: walkers of a permutation lie together.
    groups: Vec<(u32, u32)>,
    /// Which positions they are, and where they are; with room behind.
    which: Vec<u32>,
    at: Vec<u32>,
    len: usize,
}

/// Work between the rounds of a permutation, which is arithmetic alone: what waits for memory waits for nothing then.
pub(super) trait Beside {
    /// A little of it, if any is left.
    fn some<V: Vector>(&mut self);
}

/// [`Permutation::index`] of every position. `groups`: which permutation the positions are of, and where they end; each
/// group starts where the one before ends. Panics if a domain is larger than 2^32.
///
/// All take a step together, those of one group in vectors. A step is a chain of some hundred cycles; what makes it several
/// times as fast as one by one is that the steps of one group do not wait for those of another.
#[inline(always)]
pub(super) fn index_all<V: Vector>(
    permutations: &[Permutation],
    groups: &[(u32, u32)],
    positions: &mut [u32],
    walk: &mut Walk,
    beside: &mut impl Beside,
) {
    let Walk { walkers, left } = walk;
    let room = positions.len() + MANY;
    walkers.clear(room);
    left.clear(room);
    let mut from = 0;
    for &(name, end) in groups {
        let end = end as usize;
        let rounds = &Rounds::of(&permutations[name as usize]);
        let before = walkers.len;
        for first in (from..end).step_by(MANY) {
            let some = first..end.min(first + MANY);
            match some.len() {
                0..=16 => walkers.start::<V, 16>(rounds, some, positions, beside),
                17..=32 => walkers.start::<V, 32>(rounds, some, positions, beside),
                _ => walkers.start::<V, MANY>(rounds, some, positions, beside),
            }
        }
        walkers.close(name, before);
        from = end;
    }
    while walkers.len > 0 {
        let mut from = 0;
        for &(name, end) in &walkers.groups {
            let end = end as usize;
            let rounds = &Rounds::of(&permutations[name as usize]);
            let before = left.len;
            for first in (from..end).step_by(MANY) {
                let some = first..end.min(first + MANY);
                match some.len() {
                    0..=16 => walkers.step::<V, 16>(rounds, some, positions, left, beside),
                    17..=32 => walkers.step::<V, 32>(rounds, some, positions, left, beside),
                    _ => walkers.step::<V, MANY>(rounds, some, positions, left, beside),
                }
            }
            left.close(name, before);
            from = end;
        }
        std::mem::swap(walkers, left);
        left.clear(room);
    }
}

impl Walkers {
    /// None, and room for so many.
    fn clear(&mut self, room: usize) {
        self.groups.clear();
        self.len = 0;
        self.which.resize(self.which.len().max(room), 0);
        self.at.resize(self.at.len().max(room), 0);
    }

    /// Takes the first step of N positions or less; those that walk on are added.
    #[inline(always)]
    fn start<V: Vector, const N: usize>(
        &mut self,
        rounds: &Rounds,
        some: Range<usize>,
        positions: &mut [u32],
        beside: &mut impl Beside,
    ) {
        let places: [u32; N] = std::array::from_fn(|i| (some.start + i) as u32);
        let chunk = &mut positions[some];
        if let Ok(chunk) = <&mut [u32; N]>::try_from(&mut *chunk) {
            rounds.step::<V, N>(chunk, beside);
            self.keep::<V, N>(chunk, &places, N, rounds.last);
        } else {
            let mut numbers = [0; N];
            numbers[..chunk.len()].copy_from_slice(chunk);
            rounds.step::<V, N>(&mut numbers, beside);
            chunk.copy_from_slice(&numbers[..chunk.len()]);
            self.keep::<V, N>(&numbers, &places, chunk.len(), rounds.last);
        }
    }

    /// Takes the next step of N walkers or less; those that walk on are added to `left`.
    #[inline(always)]
    fn step<V: Vector, const N: usize>(
        &self,
        rounds: &Rounds,
        some: Range<usize>,
        positions: &mut [u32],
        left: &mut Walkers,
        beside: &mut impl Beside,
    ) {
        let (mut places, mut numbers) = ([0; N], [0; N]);
        places.copy_from_slice(&self.which[some.start..][..N]);
        numbers.copy_from_slice(&self.at[some.start..][..N]);
        rounds.step::<V, N>(&mut numbers, beside);
        for (&place, &number) in places[..some.len()].iter().zip(&numbers) {
            positions[place as usize] = number;
        }
        left.keep::<V, N>(&numbers, &places, some.len(), rounds.last);
    }

    /// Adds those of the first `len` numbers that are above `last`, and their places, without a branch, for nobody can guess
    /// it. Both lists are written for N.
    #[inline(always)]
    fn keep<V: Vector, const N: usize>(
        &mut self,
        numbers: &[u32; N],
        places: &[u32; N],
        len: usize,
        last: u32,
    ) {
        const { assert!(N.is_multiple_of(V::LANES)) };
        let mut all = *numbers;
        for (i, number) in all.iter_mut().enumerate() {
            *number = if i < len { *number } else { 0 };
        }
        let (which, at) = (&mut self.which[self.len..][..N], &mut self.at[self.len..][..N]);
        let mut kept = 0;
        for first in (0..N).step_by(V::LANES) {
            // SAFETY: `first + LANES` are read of N, and as no more are kept than were read before, as many can be written.
            kept += unsafe {
                V::above(
                    all.as_ptr().add(first),
                    places.as_ptr().add(first),
                    last,
                    at.as_mut_ptr().add(kept),
                    which.as_mut_ptr().add(kept),
                )
            };
        }
        self.len += kept;
    }

    /// All since there were `before` are of this group.
    fn close(&mut self, name: u32, before: usize) {
        if self.len > before {
            self.groups.push((name, self.len as u32));
        }
    }
}

/// [`Permutation::step`] of many: halves of a position have 16 bits at most, so the first shift of a round's hash moves
/// nothing but the key's bits, and is done once for all.
struct Rounds {
    keys: [u32; MAX_ROUNDS],
    rounds: usize,
    even: u32,
    odd: u32,
    right_bits: u32,
    /// The domain's last number: what is above it walks on.
    last: u32,
}

impl Rounds {
    #[inline(always)]
    fn of(permutation: &Permutation) -> Self {
        let n = permutation.n();
        assert!(n <= 1 << 32, "{n} positions are more than 32 bits count");
        let mut keys = [0; MAX_ROUNDS];
        for (folded, &key) in keys.iter_mut().zip(permutation.keys()) {
            *folded = key ^ key >> 16;
        }
        let (even, odd) = permutation.masks();
        let (rounds, right_bits) = (permutation.keys().len(), permutation.right_bits());
        Rounds { keys, rounds, even, odd, right_bits, last: n.saturating_sub(1) as u32 }
    }

    #[inline(always)]
    fn step<V: Vector, const N: usize>(&self, positions: &mut [u32; N], beside: &mut impl Beside) {
        let Rounds { even, odd, right_bits, .. } = *self;
        let (mut l, mut r) = ([0; N], [0; N]);
        for i in 0..N {
            l[i] = positions[i] >> right_bits;
            r[i] = positions[i] & odd;
        }
        for (i, pair) in self.keys[..self.rounds].as_chunks::<2>().0.iter().enumerate() {
            // As often for a number where there are few.
            if (i * N).is_multiple_of(MANY) {
                beside.some::<V>();
            }
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
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Kernel, Level, run_at};
    use super::*;
    use crate::kit::rng::key;

    struct IndexAll<'a> {
        permutations: &'a [Permutation],
        groups: &'a [(u32, u32)],
        positions: &'a mut [u32],
        walk: &'a mut Walk,
    }

    impl Kernel for IndexAll<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            index_all::<V>(self.permutations, self.groups, self.positions, self.walk, &mut Nothing);
        }
    }

    struct Nothing;
    impl Beside for Nothing {
        fn some<V: Vector>(&mut self) {}
    }

    #[test]
    fn the_same_as_one_by_one_at_every_level() {
        let domains = [1u64, 2, 3, 5, 17, 64, 65, 1000, 4097, 10_007, (1 << 31) + 5, (1 << 32) - 1, 1 << 32];
        let permutations: Vec<Permutation> =
            domains.iter().map(|&n| Permutation::new(n, key(7, &[n]))).collect();
        // All of them together, in an order that puts long groups beside short ones.
        for len in [1, 15, 16, 17, 32, 33, 63, 64, 65, 130, 3000] {
            let (mut positions, mut expected, mut groups) = (Vec::new(), Vec::new(), Vec::new());
            for p in [12, 0, 7, 3, 1, 10, 2, 9, 4, 8, 5, 11, 6, 12, 7] {
                let n = domains[p];
                let some = (0..n.min(len)).map(|i| n - 1 - i);
                expected.extend(some.clone().map(|i| permutations[p].index(i) as u32));
                positions.extend(some.map(|i| i as u32));
                groups.push((p as u32, positions.len() as u32));
            }
            // Buffers are used again.
            let mut walk = Walk::default();
            for &level in Level::all() {
                let mut all = positions.clone();
                let job = IndexAll {
                    permutations: &permutations,
                    groups: &groups,
                    positions: &mut all,
                    walk: &mut walk,
                };
                run_at(level, job);
                assert_eq!(all, expected, "{len} of each, {level:?}");
            }
        }
    }
}
