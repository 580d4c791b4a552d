//! Draws: which of a stratum's rows a permutation says, and these rows from anywhere in memory.
//!
//! A row is a cache line from memory, which takes as long as hundreds of instructions. It is asked for while others are
//! taken, and both while the permutation of later ones is computed: in small portions between its rounds, for a processor
//! looks only some hundred instructions ahead. docs/performance.md has what that gains.

use super::permute::{Beside, Walk, index_all};
use super::simd::{Kernel, Vector, dispatch};
use crate::kit::rng::Permutation;

/// Rows asked for, and taken, at once. Measured on an Intel Xeon: with 4 or 16 a tenth longer.
const STEP: usize = 8;
/// Rows that are taken before one that was asked for. Fewer are not there yet, many more are gone again.
const LAG: usize = 64;
/// Numbers whose permutation is computed together, while those before are asked for and taken.
const PART: usize = 2048;

/// Rows that are wanted, by their draws.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Positions in the permutation of their stratum, which the rows' numbers in the stratum take the place of.
    pub numbers: &'a mut [u32],
    /// Strata, and where the numbers of each end; those of the next start there.
    pub groups: &'a [(u32, u32)],
    /// By stratum; None: the numbers are those of rows already.
    pub permutations: Option<&'a [Permutation]>,
    /// Entry of the first row of each stratum.
    pub firsts: &'a [u64],
    /// Where the row of each number goes.
    pub to: &'a [u32],
    pub walk: &'a mut Walk,
}

/// `out[to[i]] = entry(firsts[stratum] + numbers[i])` for each i, after the permutation of the numbers. Panics if there are
/// other numbers than groups and places.
pub fn gather<'a, T: Copy + Into<u64> + 'a>(
    wanted: Wanted<'_>,
    entry: impl Fn(usize) -> &'a T,
    out: &mut [u64],
) {
    assert_eq!(
        wanted.groups.last().map_or(0, |group| group.1 as usize),
        wanted.numbers.len(),
        "of the last group"
    );
    dispatch(Gather { wanted, entry, out });
}

struct Gather<'d, 'o, F> {
    wanted: Wanted<'d>,
    entry: F,
    out: &'o mut [u64],
}

impl<'a, T: Copy + Into<u64> + 'a, F: Fn(usize) -> &'a T> Kernel for Gather<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Gather { wanted, entry, out } = self;
        let Wanted { numbers, groups, permutations, firsts, to, walk } = wanted;
        let to = &to[..numbers.len()];
        let (mut asked, mut taken) = (Cursor::default(), Cursor::default());
        if let Some(permutations) = permutations {
            let mut part = Vec::new();
            let (mut start, mut from) = (0, 0);
            for &(name, end) in groups {
                while from < end as usize {
                    from = (end as usize).min(start + PART);
                    part.push((name, (from - start) as u32));
                    if from == start + PART || from == numbers.len() {
                        let (found, rest) = numbers.split_at_mut(start);
                        let mut rows = Rows { found, groups, firsts, to, entry: &entry, out, asked, taken };
                        index_all::<V>(permutations, &part, &mut rest[..from - start], walk, &mut rows);
                        (asked, taken) = (rows.asked, rows.taken);
                        part.clear();
                        start = from;
                    }
                }
            }
        }
        let found = &*numbers;
        let mut rows = Rows { found, groups, firsts, to, entry: &entry, out, asked, taken };
        if V::PREFETCH {
            while rows.asked.at + STEP <= found.len() {
                rows.some::<V>();
            }
            rows.ask::<V>(found.len());
        }
        rows.take(found.len());
    }
}

/// Asks for rows and takes them, in the order of their numbers.
struct Rows<'r, F> {
    /// The numbers that are known by now.
    found: &'r [u32],
    groups: &'r [(u32, u32)],
    firsts: &'r [u64],
    to: &'r [u32],
    entry: &'r F,
    out: &'r mut [u64],
    asked: Cursor,
    taken: Cursor,
}

/// How far it is, and the stratum there.
#[derive(Clone, Copy, Default)]
struct Cursor {
    at: usize,
    /// Groups before the next.
    group: usize,
    end: usize,
    first: u64,
}

impl Cursor {
    /// To the next stratum, if this one is at its end.
    #[inline(always)]
    fn step(&mut self, groups: &[(u32, u32)], firsts: &[u64]) {
        if self.at >= self.end {
            let (name, end) = groups[self.group];
            *self = Cursor {
                at: self.at,
                group: self.group + 1,
                end: end as usize,
                first: firsts[name as usize],
            };
        }
    }
}

impl<'a, T: Copy + Into<u64> + 'a, F: Fn(usize) -> &'a T> Rows<'_, F> {
    #[inline(always)]
    fn ask<V: Vector>(&mut self, to: usize) {
        while self.asked.at < to {
            self.asked.step(self.groups, self.firsts);
            let end = to.min(self.asked.end);
            for &number in &self.found[self.asked.at..end] {
                V::prefetch(
                    std::ptr::from_ref((self.entry)((self.asked.first + u64::from(number)) as usize)).cast(),
                );
            }
            self.asked.at = end;
        }
    }

    #[inline(always)]
    fn take(&mut self, to: usize) {
        while self.taken.at < to {
            self.taken.step(self.groups, self.firsts);
            let end = to.min(self.taken.end);
            for (&number, &to) in self.found[self.taken.at..end].iter().zip(&self.to[self.taken.at..end]) {
                self.out[to as usize] =
                    (*(self.entry)((self.taken.first + u64::from(number)) as usize)).into();
            }
            self.taken.at = end;
        }
    }
}

impl<'a, T: Copy + Into<u64> + 'a, F: Fn(usize) -> &'a T> Beside for Rows<'_, F> {
    #[inline(always)]
    fn some<V: Vector>(&mut self) {
        // Who cannot ask takes all of them in the end: loads alone, of which the processor does many at a time.
        if V::PREFETCH && self.asked.at + STEP <= self.found.len() {
            self.ask::<V>(self.asked.at + STEP);
            if self.taken.at + STEP + LAG <= self.asked.at {
                self.take(self.taken.at + STEP);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_at};
    use super::*;
    use crate::kit::rng::key;

    #[test]
    fn every_row_goes_where_it_belongs_at_every_level() {
        let sizes = [70_000u64, 1, 9, 300, 5000, 64, 1 << 17];
        let permutations: Vec<Permutation> =
            sizes.iter().map(|&n| Permutation::new(n, key(3, &[n]))).collect();
        let firsts: Vec<u64> =
            sizes.iter().scan(0, |sum, n| Some(std::mem::replace(sum, *sum + n))).collect();
        let entries: Vec<u32> = (0..sizes.iter().sum::<u64>()).map(|i| key(4, &[i]) as u32).collect();
        // Wanted of each stratum: nothing, less than a step, parts that end with a stratum and inside one.
        for draws in
            [vec![], vec![(4, 1)], vec![(2, 9), (5, 64)], vec![(0, PART), (6, 2 * PART), (3, 300)], {
                vec![(5, 7), (0, PART - 8), (1, 1), (6, PART + 1), (4, LAG + STEP + 3), (2, 5), (3, PART / 8)]
            }]
        {
            let (mut numbers, mut groups, mut places) = (Vec::new(), Vec::new(), Vec::new());
            for (h, len) in draws {
                numbers.extend((0..len as u64).map(|i| (sizes[h] - 1 - i) as u32));
                places.extend(std::iter::repeat_n(h, len));
                groups.push((h as u32, numbers.len() as u32));
            }
            // Backwards.
            let to: Vec<u32> = (0..numbers.len() as u32).rev().collect();
            for found in [false, true] {
                let row = |(&h, &number): (&usize, &u32)| {
                    let number = if found { number.into() } else { permutations[h].index(number.into()) };
                    u64::from(entries[(firsts[h] + number) as usize])
                };
                let expected: Vec<u64> = places.iter().zip(&numbers).map(row).rev().collect();
                for &level in Level::all() {
                    let (mut numbers, mut out) = (numbers.clone(), vec![0; numbers.len()]);
                    let wanted = Wanted {
                        numbers: &mut numbers,
                        groups: &groups,
                        permutations: (!found).then_some(&permutations),
                        firsts: &firsts,
                        to: &to,
                        walk: &mut Walk::default(),
                    };
                    run_at(level, Gather { wanted, entry: |i: usize| &entries[i], out: &mut out });
                    assert_eq!(out, expected, "{groups:?}, {level:?}");
                }
            }
        }
    }
}
