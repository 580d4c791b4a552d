//! Which rows take part.

use std::ops::Range;

/// A set of rows of a dataset: one bit a row, or nothing at all if every row is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    rows: u64,
    count: u64,
    /// Bit `row % 64` of word `row / 64`; None if all rows are in.
    words: Option<Vec<u64>>,
}

impl Selection {
    /// Every one of `rows` rows.
    pub fn all(rows: u64) -> Self {
        Selection { rows, count: rows, words: None }
    }

    /// Row `r` is in if bit `r % 64` of word `r / 64` is set; bits from `rows` on must be clear.
    pub(crate) fn from_words(rows: u64, words: Vec<u64>) -> Self {
        assert_eq!(words.len() as u64, rows.div_ceil(64), "words for {rows} rows");
        let count = words.iter().map(|w| u64::from(w.count_ones())).sum();
        Selection { rows, count, words: (count < rows).then_some(words) }
    }

    /// Those of its rows that lie in one of these ranges, ascending and apart from each other. O(rows / 64).
    pub fn among(&self, ranges: &[Range<u64>]) -> Selection {
        let mut words = vec![0u64; self.rows.div_ceil(64) as usize];
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            // Whole words, but for the ends.
            for word in range.start / 64..range.end.div_ceil(64) {
                let (from, to) =
                    (range.start.max(64 * word) - 64 * word, range.end.min(64 * word + 64) - 64 * word);
                words[word as usize] |= u64::MAX >> (64 - (to - from)) << from;
            }
        }
        if let Some(own) = &self.words {
            words.iter_mut().zip(own).for_each(|(word, own)| *word &= own);
        }
        Selection::from_words(self.rows, words)
    }

    /// Of the rows `first ..`, `first` a multiple of 64, the words of so many; None if all rows are in.
    pub fn words(&self, first: u64, rows: u64) -> Option<Vec<u64>> {
        assert!(first.is_multiple_of(64), "whole words");
        let words = self.words.as_ref()?;
        Some(words[(first / 64) as usize..(first + rows).div_ceil(64) as usize].to_vec())
    }

    /// O(1). `row` must be a row of the dataset.
    #[inline]
    pub fn contains(&self, row: u64) -> bool {
        debug_assert!(row < self.rows, "row {row} of {}", self.rows);
        self.words.as_ref().is_none_or(|words| words[(row / 64) as usize] >> (row % 64) & 1 == 1)
    }

    /// Rows that are in.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Rows of the dataset.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows that are in, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.rows).filter(|&row| self.contains(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        let some = Selection::from_words(70, vec![0b101, 1 << 5]);
        assert_eq!(some.count(), 3);
        assert_eq!(some.iter().collect::<Vec<_>>(), [0, 2, 69]);
        assert_eq!(Selection::from_words(3, vec![7]), Selection::all(3));
        assert!(Selection::all(3).contains(2));
    }

    #[test]
    fn ranges() {
        let some = Selection::from_words(200, vec![u64::MAX - 1, u64::MAX, u64::MAX, 0xff]);
        for ranges in [&[][..], &[0..1, 3..70, 127..129, 150..200], &[0..64, 64..200], &[64..100, 100..128]] {
            let among = some.among(ranges);
            let want = (1..200).filter(|row| ranges.iter().any(|r| r.contains(row)));
            assert_eq!(among.iter().collect::<Vec<_>>(), want.collect::<Vec<_>>());
            let words = among.words(64, 70).unwrap();
            assert!(
                (64..134).all(|r| among.contains(r) == (words[(r / 64 - 1) as usize] >> (r % 64) & 1 == 1))
            );
        }
        assert_eq!(Selection::all(70).among(&[0..9, 9..70]), Selection::all(70));
    }
}
