//! Lists of row numbers in either width ([`RowType`](crate::kit::ids::RowType)), gathered many at a time.

use std::ops::Range;

use arrow_buffer::{ArrowNativeType, ScalarBuffer};

use super::gather::{Wanted, gather};

/// log2 of the rows of a chunk of [`RowIds::Chunks32`] and [`RowIds::Chunks64`]: a record batch of `strata.arrow`.
pub const CHUNK_BITS: u32 = 20;

/// A borrowed list of row numbers in either width, for example the members column of `strata.arrow`. Row numbers that lie
/// in the record batches of a file are chunks of 2^20 (the last one shorter).
#[derive(Clone, Copy, Debug)]
pub enum RowIds<'a> {
    U32(&'a [u32]),
    U64(&'a [u64]),
    /// Entries `first .. first + len` of the chunks.
    Chunks32 {
        chunks: &'a [ScalarBuffer<u32>],
        first: usize,
        len: usize,
    },
    Chunks64 {
        chunks: &'a [ScalarBuffer<u64>],
        first: usize,
        len: usize,
    },
}

const CHUNK_MASK: usize = (1 << CHUNK_BITS) - 1;

impl<'a> RowIds<'a> {
    pub fn len(&self) -> usize {
        match self {
            RowIds::U32(x) => x.len(),
            RowIds::U64(x) => x.len(),
            RowIds::Chunks32 { len, .. } | RowIds::Chunks64 { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Panics if `i` is not below the length.
    #[inline]
    pub fn get(&self, i: usize) -> u64 {
        match *self {
            RowIds::U32(x) => x[i] as u64,
            RowIds::U64(x) => x[i],
            RowIds::Chunks32 { chunks, first, len } => *of_chunks(chunks, first, len, i) as u64,
            RowIds::Chunks64 { chunks, first, len } => *of_chunks(chunks, first, len, i),
        }
    }

    /// Puts these rows where they go. Panics as [`RowIds::get`] does.
    pub fn gather(&self, wanted: Wanted<'_>, out: &mut [u64]) {
        match *self {
            RowIds::U32(x) => gather(wanted, |i| &x[i], out),
            RowIds::U64(x) => gather(wanted, |i| &x[i], out),
            RowIds::Chunks32 { chunks, first, len } => {
                gather(wanted, |i| of_chunks(chunks, first, len, i), out);
            }
            RowIds::Chunks64 { chunks, first, len } => {
                gather(wanted, |i| of_chunks(chunks, first, len, i), out);
            }
        }
    }

    /// A part of the list. A part that lies in one chunk becomes a plain slice, so `get` is fast where it is hot.
    pub fn slice(&self, range: Range<usize>) -> RowIds<'a> {
        match self {
            RowIds::U32(x) => RowIds::U32(&x[range]),
            RowIds::U64(x) => RowIds::U64(&x[range]),
            RowIds::Chunks32 { chunks, first, len } => {
                assert!(range.start <= range.end && range.end <= *len, "entries {range:?} of {len}");
                let (start, n) = (first + range.start, range.len());
                match in_one_chunk(chunks, start, n) {
                    Some(x) => RowIds::U32(x),
                    None => RowIds::Chunks32 { chunks, first: start, len: n },
                }
            }
            RowIds::Chunks64 { chunks, first, len } => {
                assert!(range.start <= range.end && range.end <= *len, "entries {range:?} of {len}");
                let (start, n) = (first + range.start, range.len());
                match in_one_chunk(chunks, start, n) {
                    Some(x) => RowIds::U64(x),
                    None => RowIds::Chunks64 { chunks, first: start, len: n },
                }
            }
        }
    }

    pub fn iter(self) -> impl ExactSizeIterator<Item = u64> + 'a {
        (0..self.len()).map(move |i| self.get(i))
    }
}

fn in_one_chunk<T: ArrowNativeType>(chunks: &[ScalarBuffer<T>], start: usize, len: usize) -> Option<&[T]> {
    if len == 0 {
        return Some(&[]);
    }
    let chunk = start >> CHUNK_BITS;
    let at = start & CHUNK_MASK;
    ((start + len - 1) >> CHUNK_BITS == chunk).then(|| &chunks[chunk][at..at + len])
}

/// Entry `i` of [`RowIds::Chunks32`] and [`RowIds::Chunks64`].
#[inline]
fn of_chunks<T: ArrowNativeType>(chunks: &[ScalarBuffer<T>], first: usize, len: usize, i: usize) -> &T {
    assert!(i < len, "entry {i} of {len}");
    &chunks[(first + i) >> CHUNK_BITS][(first + i) & CHUNK_MASK]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::permute::Walk;

    #[test]
    fn chunks_read_like_one_list() {
        let n = (1 << CHUNK_BITS) + 10;
        let all: Vec<u32> = (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let chunks: Vec<ScalarBuffer<u32>> =
            all.chunks(1 << CHUNK_BITS).map(|c| ScalarBuffer::from(c.to_vec())).collect();
        let flat = RowIds::U32(&all);
        let rows = RowIds::Chunks32 { chunks: &chunks, first: 0, len: n };
        for range in [0..n, 5..9, n - 12..n - 8, n - 10..n, n..n, 7..n - 1] {
            let (a, b) = (flat.slice(range.clone()), rows.slice(range.clone()));
            assert_eq!(a.len(), b.len());
            assert!(a.iter().eq(b.iter()), "{range:?}");
            let inner = b.len() / 3..b.len();
            assert!(a.slice(inner.clone()).iter().eq(b.slice(inner).iter()), "{range:?}");
            // Both ends of the list, each from its last entry to its first.
            let half = b.len() / 2;
            let mut numbers: Vec<u32> = [0, 0].into_iter().flat_map(|_| (0..half as u32).rev()).collect();
            let firsts = [(b.len() - half) as u64, 0];
            let expected: Vec<u64> = (0..2 * half)
                .map(|i| a.get(firsts[usize::from(i >= half)] as usize + numbers[i] as usize))
                .collect();
            let wanted = Wanted {
                numbers: &mut numbers,
                groups: &[(0, half as u32), (1, 2 * half as u32)],
                permutations: None,
                firsts: &firsts,
                to: &(0..2 * half as u32).collect::<Vec<u32>>(),
                walk: &mut Walk::default(),
            };
            let mut out = vec![0; 2 * half];
            b.gather(wanted, &mut out);
            assert_eq!(out, expected, "{range:?}");
        }
        assert!(matches!(rows.slice(3..9), RowIds::U32(_)));
    }
}
