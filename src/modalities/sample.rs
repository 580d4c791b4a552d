//! Which rows the modalities are counted on: five blocks of `resolution` rows, chosen by keyed hashes of row numbers
//! (bottom-k sampling, Cohen & Kaplan 2007). The choice depends on the row numbers and the seed only, so it is the
//! same on any number of threads, and any part of the dataset can be asked alone.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::kit::rng::Stream;
use crate::modalities::Sample;

/// Blocks of a sample.
pub const BLOCKS: usize = 5;

/// Chooses the sample's rows (its `points` stay empty): of `rows` rows, those that `keep` holds, `kept` in number.
///
/// - `kept >= 5 resolution`: the rows of the 5 `resolution` smallest keys, block b holding ranks
///   `b resolution .. (b + 1) resolution`: disjoint blocks, each a simple random sample.
/// - fewer: each block has its own keys and takes the `min(kept, resolution)` smallest; blocks overlap, and are equal
///   if `kept <= resolution`.
///
/// Ties of keys go to the lower row. O(rows) time, O(5 resolution) memory.
pub fn plan_sample(
    rows: u64,
    kept: u64,
    keep: impl Fn(u64) -> bool + Sync,
    resolution: u32,
    seed: u64,
) -> Sample {
    let block = resolution as usize;
    let blocks: Vec<Vec<u64>> = if kept >= BLOCKS as u64 * u64::from(resolution) {
        let ranked = smallest(rows, kept, &keep, BLOCKS * block, |row| Stream::Sample.key(seed, &[row]));
        ranked.chunks(block).map(<[u64]>::to_vec).collect()
    } else {
        let words = 1..=BLOCKS as u64;
        words.map(|b| smallest(rows, kept, &keep, block, |row| Stream::Sample.key(seed, &[b, row]))).collect()
    };
    let union: Vec<u64> = blocks.iter().flatten().copied().collect::<BTreeSet<u64>>().into_iter().collect();
    let index = |row: &u64| union.binary_search(row).expect("every block is part of the union") as u32;
    let blocks = blocks
        .iter()
        .map(|block| {
            let mut places: Vec<u32> = block.iter().map(index).collect();
            places.sort_unstable();
            places
        })
        .collect();
    Sample { rows: union, points: Default::default(), blocks }
}

/// The `m` rows of smallest keys among those that `keep` holds, `kept` in number: those of the blocks of [`plan_sample`], where
/// these are disjoint, and then more. O(rows) time, O(m) memory.
pub fn more(rows: u64, kept: u64, keep: impl Fn(u64) -> bool + Sync, m: u64, seed: u64) -> Vec<u64> {
    smallest(rows, kept, &keep, m.min(kept) as usize, |row| Stream::Sample.key(seed, &[row]))
}

/// The `m` kept rows of smallest (key, row), in that order. Keys are uniform, so almost all rows fall to a threshold
/// that passes slightly more than `m` of them; should it pass fewer, it is doubled.
fn smallest(
    rows: u64,
    kept: u64,
    keep: &(impl Fn(u64) -> bool + Sync),
    m: usize,
    key: impl Fn(u64) -> u64 + Sync,
) -> Vec<u64> {
    const RANGE: u64 = 1 << 18;
    let wanted = m as f64 + 8.0 * (m as f64).sqrt() + 32.0;
    // The cast saturates: a share of 1 or more passes every key.
    let mut threshold = (wanted / kept.max(1) as f64 * u64::MAX as f64) as u64;
    loop {
        let ranges: Vec<Vec<(u64, u64)>> = (0..rows.div_ceil(RANGE))
            .into_par_iter()
            .map(|r| {
                let range = r * RANGE..rows.min((r + 1) * RANGE);
                range.map(|row| (key(row), row)).filter(|&(k, row)| k <= threshold && keep(row)).collect()
            })
            .collect();
        let mut found = ranges.concat();
        if found.len() >= m || threshold == u64::MAX {
            found.sort_unstable();
            found.truncate(m);
            return found.into_iter().map(|(_, row)| row).collect();
        }
        threshold = threshold.saturating_mul(2);
    }
}

impl Sample {
    /// The sample and `more` rows, which join the union but no block. Only before points are read.
    pub fn with(&self, more: &[u64]) -> Sample {
        let union: BTreeSet<u64> = self.rows.iter().chain(more).copied().collect();
        let rows: Vec<u64> = union.into_iter().collect();
        let moved = |old: &u32| {
            rows.binary_search(&self.rows[*old as usize]).expect("the union holds the old rows") as u32
        };
        let blocks = self.blocks.iter().map(|block| block.iter().map(moved).collect()).collect();
        Sample { rows, points: Default::default(), blocks }
    }

    /// The sample less the rows at these places of [`Sample::rows`] (ascending): rows found to be invalid when read.
    /// Blocks shrink, nothing takes the place of what is gone.
    pub fn without(self, places: &[usize]) -> Sample {
        if places.is_empty() {
            return self;
        }
        let stays: Vec<usize> = {
            let mut gone = places.iter().copied().peekable();
            (0..self.rows.len()).filter(|i| gone.next_if_eq(i).is_none()).collect()
        };
        let moved = |old: &u32| stays.binary_search(&(*old as usize)).ok().map(|new| new as u32);
        Sample {
            rows: stays.iter().map(|&i| self.rows[i]).collect(),
            points: if self.points.rows() == 0 {
                self.points.clone()
            } else {
                self.points.gather(stays.iter().copied())
            },
            blocks: self.blocks.iter().map(|block| block.iter().filter_map(moved).collect()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::matrix::Matrix;

    fn naive(rows: u64, keep: impl Fn(u64) -> bool, m: usize, key: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut all: Vec<(u64, u64)> = (0..rows).filter(|&r| keep(r)).map(|r| (key(r), r)).collect();
        all.sort_unstable();
        all.into_iter().take(m).map(|x| x.1).collect()
    }

    #[test]
    fn large_datasets_give_disjoint_blocks_of_the_smallest_keys() {
        let keep = |r: u64| !r.is_multiple_of(3);
        let sample = plan_sample(3000, 2000, keep, 100, 7);
        let ranked = naive(3000, keep, 500, |r| Stream::Sample.key(7, &[r]));
        assert_eq!(sample.rows.len(), 500);
        assert!(sample.rows.is_sorted() && sample.rows.iter().all(|&r| keep(r)));
        for (b, block) in sample.blocks.iter().enumerate() {
            let mut expected = ranked[b * 100..(b + 1) * 100].to_vec();
            expected.sort_unstable();
            assert_eq!(block.iter().map(|&i| sample.rows[i as usize]).collect::<Vec<_>>(), expected);
        }
        let larger = sample.with(&more(3000, 2000, keep, 700, 7));
        assert_eq!(larger.rows.len(), 700);
        assert!(sample.rows.iter().all(|row| larger.rows.binary_search(row).is_ok()));
        assert_eq!(larger.blocks.iter().map(Vec::len).sum::<usize>(), 500);
    }

    #[test]
    fn small_datasets_give_overlapping_or_equal_blocks() {
        let sample = plan_sample(300, 300, |_| true, 100, 1);
        assert!(sample.blocks.iter().all(|b| b.len() == 100));
        assert!(sample.rows.len() > 100 && sample.blocks[0] != sample.blocks[1]);
        assert_eq!(more(300, 300, |_| true, 1000, 1).len(), 300);
        let tiny = plan_sample(60, 60, |_| true, 100, 1);
        assert!(tiny.rows.iter().copied().eq(0..60));
        assert!(tiny.blocks.iter().all(|b| b.iter().copied().eq(0..60)));
        assert!(plan_sample(10, 0, |_| false, 100, 1).rows.is_empty());
    }

    #[test]
    fn a_too_small_threshold_is_doubled() {
        // `kept` overstated a thousand times: the first thresholds pass almost nothing.
        let got = smallest(1000, 1_000_000, &|_| true, 50, |r| Stream::Sample.key(3, &[r]));
        assert_eq!(got, naive(1000, |_| true, 50, |r| Stream::Sample.key(3, &[r])));
    }

    #[test]
    fn invalid_rows_leave_the_sample() {
        let sample = Sample {
            rows: vec![10, 20, 30, 40],
            points: Matrix::from_vec(4, 1, vec![1.0, 2.0, 3.0, 4.0]),
            blocks: vec![vec![0, 1], vec![1, 2, 3]],
        };
        let left = sample.without(&[1, 3]);
        assert_eq!(left.rows, [10, 30]);
        assert_eq!(left.points.as_slice(), [1.0, 3.0]);
        assert_eq!(left.blocks, [vec![0], vec![1]]);
    }
}
