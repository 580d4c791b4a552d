//! How many rows of each stratum each split gets: shares of whole rows, rounded without favour.
//!
//! [`round_table`] is dependent rounding (Gandhi, Khuller, Parthasarathy & Srinivasan 2006) of a table of strata x splits. Strata come in
//! order; while the entries of the new one close a cycle split-stratum-split-.. with those that are open, rows are moved along it,
//! alternately + and -, until an entry is whole; whole entries stay. The direction is drawn so that no entry changes on average, and a move
//! along a cycle changes no sum. So every entry is its share rounded up or down, sums are exact, and each row has the same chance. Open entries
//! form a forest, which has at most one stratum less than there are splits: what one stratum has too much of, the next ones make up for.
//! With two splits this is the ordered pivotal method (Deville & Tille 1998).

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use crate::kit::rng::key;

/// Rows of each split: the largest remainder of `rows` x share, ties to the later split. `shares`: parts of `whole`, which they sum to.
pub fn totals(rows: u64, shares: &[u128], whole: u128) -> Vec<u64> {
    let rows = u128::from(rows);
    let mut out: Vec<u64> = shares.iter().map(|a| mul_div(rows, *a, whole).0 as u64).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|&s| std::cmp::Reverse((mul_div(rows, shares[s], whole).1, s)));
    let missing = rows as u64 - out.iter().sum::<u64>();
    order.into_iter().take(missing as usize).for_each(|s| out[s] += 1);
    out
}

/// a x b / c and what it leaves, without overflow: c is below 2^127.
pub(super) fn mul_div(a: u128, b: u128, c: u128) -> (u128, u128) {
    if let Some(product) = a.checked_mul(b) {
        return (product / c, product % c);
    }
    // Bit by bit: (quotient, rest) of a x the upper bits of b.
    let (a, mut quotient, mut rest) = ((a / c, a % c), 0, 0);
    for bit in (0..128).rev() {
        (quotient, rest) = (2 * quotient + 2 * rest / c, 2 * rest % c);
        if b >> bit & 1 == 1 {
            (quotient, rest) = (quotient + a.0 + (rest + a.1) / c, (rest + a.1) % c);
        }
    }
    (quotient, rest)
}

/// An entry of the table: the number of its row, and its column.
type Entry = (usize, usize);

/// Entries that are not whole yet, in units of 1 / `unit`, by row.
struct Open {
    rows: BTreeMap<usize, BTreeMap<usize, u128>>,
    /// Rows with an open entry in each column.
    columns: Vec<BTreeSet<usize>>,
    unit: u128,
    key: u64,
    step: u64,
}

impl Open {
    /// The entries on the way from a column to the first of `goals` that is in the same tree, without those of row `but`.
    fn path(&self, start: usize, goals: &[usize], but: Option<usize>) -> Option<(Vec<Entry>, usize)> {
        // Of every column that is reached: the row that leads to it, and the column before.
        let mut from: BTreeMap<usize, Option<(usize, usize)>> = BTreeMap::from([(start, None)]);
        let mut queue = vec![start];
        let mut next = 0;
        while let Some(&column) = queue.get(next) {
            next += 1;
            for &h in self.columns[column].iter().filter(|h| Some(**h) != but) {
                for &e in self.rows[&h].keys() {
                    if let Slot::Vacant(free) = from.entry(e) {
                        free.insert(Some((h, column)));
                        queue.push(e);
                    }
                }
            }
        }
        let goal = *goals.iter().find(|&&g| g != start && from.contains_key(&g))?;
        let (mut entries, mut at) = (Vec::new(), goal);
        while let Some((h, before)) = from[&at] {
            entries.extend([(h, at), (h, before)]);
            at = before;
        }
        entries.reverse();
        Some((entries, goal))
    }

    /// Moves along entries, + in the first, - in the next, until one is whole.
    fn push(&mut self, entries: &[Entry], whole: &mut [Vec<u64>]) {
        let unit = self.unit;
        let value = |&(h, c): &Entry| self.rows[&h][&c];
        let least = |plus: usize| {
            let room = |(i, e): (usize, &Entry)| if i % 2 == plus { unit - value(e) } else { value(e) };
            entries.iter().enumerate().map(room).min().unwrap_or(0)
        };
        let (up, down) = (least(0), least(1));
        let rises = mul_div(u128::from(key(self.key, &[self.step])), up + down, 1 << 64).0 < down;
        self.step += 1;
        for (i, &(h, c)) in entries.iter().enumerate() {
            let row = self.rows.get_mut(&h).expect("an open row");
            let x = row.get_mut(&c).expect("an open entry");
            *x = match (rises, i % 2 == 0) {
                (true, true) => *x + up,
                (true, false) => *x - up,
                (false, true) => *x - down,
                (false, false) => *x + down,
            };
            if *x == 0 || *x == unit {
                whole[h][c] += u64::from(*x == unit);
                row.remove(&c);
                self.columns[c].remove(&h);
            }
            if row.is_empty() {
                self.rows.remove(&h);
            }
        }
    }
}

/// Rounds a / `unit`: every entry up or down, sums of rows unchanged (each is a multiple of `unit`), sums of columns too where they are
/// whole. The same key gives the same table; over keys the mean is a / `unit`. O(rows x columns^2), for many columns of few rows less.
pub fn round_table(a: &[Vec<u128>], unit: u128, key: u64) -> Vec<Vec<u64>> {
    let mut whole: Vec<Vec<u64>> = a.iter().map(|r| r.iter().map(|v| (v / unit) as u64).collect()).collect();
    let columns = vec![BTreeSet::new(); a.first().map_or(0, Vec::len)];
    let mut open = Open { rows: BTreeMap::new(), columns, unit, key, step: 0 };
    for (h, row) in a.iter().enumerate() {
        debug_assert_eq!(row.iter().sum::<u128>() % unit, 0, "a stratum has whole rows");
        let parts = row.iter().enumerate().filter(|(_, v)| *v % unit > 0);
        let new: BTreeMap<usize, u128> = parts.map(|(c, v)| (c, v % unit)).collect();
        if !new.is_empty() {
            for &c in new.keys() {
                open.columns[c].insert(h);
            }
            open.rows.insert(h, new);
        }
        while let Some(entries) = open.rows.get(&h) {
            let columns: Vec<usize> = entries.keys().copied().collect();
            let cycle = |i: usize| open.path(columns[i], &columns[i + 1..], Some(h)).map(|p| (columns[i], p));
            let Some((first, (mut entries, last))) = (0..columns.len()).find_map(cycle) else { break };
            entries.extend([(h, last), (h, first)]);
            open.push(&entries, &mut whole);
        }
    }
    // Sums of columns that are not whole: between two columns with one open entry each.
    while !open.rows.is_empty() {
        let ends: Vec<usize> = (0..open.columns.len()).filter(|&c| open.columns[c].len() == 1).collect();
        let path = |i: usize| open.path(ends[i], &ends[i + 1..], None);
        let (entries, _) =
            (0..ends.len()).find_map(path).expect("every tree has two leaves, which are columns");
        open.push(&entries, &mut whole);
    }
    whole
}

/// Numbers >= 0 in units of 1 / `unit` that sum to `rows` x `unit` and come nearest to `need` (least squares): `need` less one level, cut off at 0.
/// What division leaves goes to the first in the order of need.
pub(super) fn level(need: &[i128], rows: u64, unit: i128) -> Vec<i128> {
    let mut order: Vec<usize> = (0..need.len()).collect();
    order.sort_by_key(|&s| (std::cmp::Reverse(need[s]), s));
    let mut sum: i128 = need.iter().sum();
    for m in (1..=need.len()).rev() {
        let excess = sum - i128::from(rows) * unit;
        let (low, rest) = (excess.div_euclid(m as i128), excess.rem_euclid(m as i128));
        if m == 1 || need[order[m - 1]] - low - i128::from(rest > 0) >= 0 {
            let mut out = vec![0; need.len()];
            for (i, &s) in order[..m].iter().enumerate() {
                out[s] = need[s] - low - i128::from(i as i128 >= m as i128 - rest);
            }
            return out;
        }
        sum -= need[order[m - 1]];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_beyond_128_bits_are_divided() {
        for t in 0..200 {
            let number = |i: u64| u128::from(key(t, &[i]));
            let (a, b, c) = (number(1), number(2), number(3).max(1));
            let long = mul_div(a << 30, b, c);
            // (a 2^30) b = q c + r, checked modulo 2^128 and by size.
            assert_eq!((a << 30).wrapping_mul(b), long.0.wrapping_mul(c).wrapping_add(long.1));
            assert!(long.1 < c);
        }
    }
}
