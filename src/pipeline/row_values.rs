//! Columns that splits are made by, one value a row: texts by number, numbers, times.

use std::collections::BTreeMap;

use arrow_array::ArrayRef;

use super::groups;
use crate::batches::units::RowStrata;
use crate::config::Config;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::parts::Pass;
use crate::source::{RawRows, text_value};

/// Upper bound of the memory for splitting so many rows.
pub fn memory(rows: u64, config: &Config) -> u64 {
    if !config.has_splits() {
        return 0;
    }
    // Cells, splits, codes of a column and their merging; groups as for duplicates, and as pairs; rows out of the first split.
    let columns = config.splits.columns().len() as u64;
    rows * (12 + 16 * columns + 64) + groups::memory(rows, config.splits.groups.len() as u64)
}

/// Rows that take part, for the search of equal values.
pub struct Taking<'a>(pub &'a [u32]);

impl RowStrata for Taking<'_> {
    fn read(&self, first: u64, into: &mut [u32]) {
        into.copy_from_slice(&self.0[first as usize..first as usize + into.len()]);
    }
}

/// Texts of a column by number, and the number of every row; [`NONE`] for null.
pub struct Coded {
    pub words: Vec<String>,
    pub code: Vec<u32>,
}

/// None: more values than `most`.
pub struct Coding {
    pub most: usize,
}

impl Pass for Coding {
    type Item = RawRows;
    type Partial = (BTreeMap<String, u32>, Vec<u32>);
    type Output = Option<Coded>;

    fn partial(&self, item: &RawRows) -> Result<Self::Partial> {
        let array = item.table.as_ref().expect("one column was asked for").column(0);
        let mut words: BTreeMap<String, u32> = BTreeMap::new();
        let mut code = Vec::with_capacity(item.rows.len());
        for i in 0..item.rows.len() {
            let Some(text) = text_value(array, i).filter(|_| words.len() <= self.most) else {
                code.push(NONE);
                continue;
            };
            let next = words.len() as u32;
            code.push(*words.entry(text).or_insert(next));
        }
        Ok((words, code))
    }

    fn merge(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        let mut number = vec![NONE; right.0.len()];
        for (text, old) in right.0 {
            let next = left.0.len() as u32;
            number[old as usize] = *left.0.entry(text).or_insert(next);
        }
        left.1.extend(right.1.into_iter().map(|c| if c == NONE { NONE } else { number[c as usize] }));
        left
    }

    fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output> {
        let (words, mut code) = all.unwrap_or_default();
        if words.len() > self.most {
            return Ok(None);
        }
        // In the order of their text.
        let mut number = vec![0; words.len()];
        words.values().zip(0..).for_each(|(&old, new)| number[old as usize] = new);
        code.iter_mut().filter(|c| **c != NONE).for_each(|c| *c = number[*c as usize]);
        Ok(Some(Coded { words: words.into_keys().collect(), code }))
    }
}

/// One value a row, of a column.
pub struct Cells<F> {
    pub of: F,
}

impl<T: Send, F: Fn(&ArrayRef) -> Result<Vec<T>> + Sync> Pass for Cells<F> {
    type Item = RawRows;
    type Partial = Vec<T>;
    type Output = Vec<T>;

    fn partial(&self, item: &RawRows) -> Result<Vec<T>> {
        (self.of)(item.table.as_ref().expect("one column was asked for").column(0))
    }

    fn merge(&self, mut left: Vec<T>, right: Vec<T>) -> Vec<T> {
        left.extend(right);
        left
    }

    fn finish(&self, all: Option<Vec<T>>) -> Result<Vec<T>> {
        Ok(all.unwrap_or_default())
    }
}
