//! Numbers from anywhere in memory.

use super::simd::{Job, Vector, dispatch};

/// Entries that are taken before one that was asked for. Measured on an Intel Xeon, where the memory answers slowly: 16 take
/// a quarter longer than 64 or 128 where pages are large, and as long where they are small; on an AMD EPYC (Zen 4) 8 to
/// 128 are alike.
const SOON: usize = 64;

/// Numbers that count from the same entry.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Handed on.
    pub name: u32,
    /// Where its numbers end, and those of the next span start.
    pub end: usize,
    /// Entry of number 0.
    pub first: u64,
}

/// Calls `put(span.name, i, entry(span.first + numbers[i]))` for each i in turn. The last span ends where the numbers do.
/// Every entry is a cache line from memory, so it is asked for while others are taken.
pub fn gather<'a, T: Copy + Into<u64> + 'a>(
    numbers: &[u32],
    spans: impl Iterator<Item = Span> + Clone,
    entry: impl Fn(usize) -> &'a T,
    put: impl FnMut(u32, usize, u64),
) {
    dispatch(Gather { numbers, spans, entry, put });
}

struct Gather<'n, S, F, P> {
    numbers: &'n [u32],
    spans: S,
    entry: F,
    put: P,
}

impl<'a, T, S, F, P> Job for Gather<'_, S, F, P>
where
    T: Copy + Into<u64> + 'a,
    S: Iterator<Item = Span> + Clone,
    F: Fn(usize) -> &'a T,
    P: FnMut(u32, usize, u64),
{
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Gather { numbers, spans, entry, mut put } = self;
        // The span of the entry that is asked for, and those after it.
        let mut later = spans.clone();
        let mut soon = Span { name: 0, end: 0, first: 0 };
        let mut from = 0;
        debug_assert_eq!(spans.clone().last().map_or(0, |span| span.end), numbers.len(), "of the last span");
        for span in spans {
            while from < span.end {
                if soon.end <= from + SOON {
                    let none = Span { end: usize::MAX, ..soon };
                    soon = later.find(|span| span.end > from + SOON).unwrap_or(none);
                }
                // As far as both stay in their spans.
                let to = span.end.min(soon.end - SOON);
                let asked = numbers.get(from + SOON..to + SOON).unwrap_or_default();
                for (i, &number) in numbers[from..to].iter().enumerate() {
                    if let Some(&number) = asked.get(i) {
                        let entry = entry((soon.first + u64::from(number)) as usize);
                        V::prefetch(std::ptr::from_ref(entry).cast());
                    }
                    put(span.name, from + i, (*entry((span.first + u64::from(number)) as usize)).into());
                }
                from = to;
            }
        }
    }
}
