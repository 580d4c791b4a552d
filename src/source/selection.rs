//! Which rows take part.

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

    #[cfg(any(feature = "polars", test))]
    /// Row `r` is in if bit `r % 64` of word `r / 64` is set; bits from `rows` on must be clear.
    pub(crate) fn from_words(rows: u64, words: Vec<u64>) -> Self {
        assert_eq!(words.len() as u64, rows.div_ceil(64), "words for {rows} rows");
        let count = words.iter().map(|w| u64::from(w.count_ones())).sum();
        Selection { rows, count, words: (count < rows).then_some(words) }
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
}
