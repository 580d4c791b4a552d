//! Numbers from anywhere in memory.

use super::simd::{Job, Vector, dispatch};

/// Entries that are taken before one that was asked for (measured: 8 to 128 are alike, a quarter sooner than not asking).
const SOON: usize = 16;

/// Puts the entry in the place of its number. Each is a cache line from memory, so it is asked for while others are taken.
pub fn gather<'a, T: Copy + Into<u64> + 'a>(numbers: &mut [u64], entry: impl Fn(usize) -> &'a T) {
    dispatch(Gather { numbers, entry });
}

struct Gather<'n, F> {
    numbers: &'n mut [u64],
    entry: F,
}

impl<'a, T: Copy + Into<u64> + 'a, F: Fn(usize) -> &'a T> Job for Gather<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Gather { numbers, entry } = self;
        for i in 0..numbers.len() {
            if let Some(&soon) = numbers.get(i + SOON) {
                V::prefetch(std::ptr::from_ref(entry(soon as usize)).cast());
            }
            numbers[i] = (*entry(numbers[i] as usize)).into();
        }
    }
}
