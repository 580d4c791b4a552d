//! Rows that stay together: connected components, and the split of each group of several rows.

use std::collections::{BTreeMap, BTreeSet};

use super::{ASIDE, NO_SPLIT};
use crate::format::manifest::SplitGroups;
use crate::kit::ids::NONE;
use crate::kit::rng::key;

/// Groups larger than a split that are named.
const NAMED: usize = 20;

/// Sets of rows that are joined pair by pair.
#[derive(Clone, Debug, Default)]
pub struct Union {
    /// The rows that were ever named, ascending.
    rows: Vec<u64>,
    /// Place of a row nearer to the lowest of its set.
    up: Vec<usize>,
}

impl Union {
    /// Of these rows, in any order; each is alone.
    pub fn new(mut rows: Vec<u64>) -> Self {
        rows.sort_unstable();
        rows.dedup();
        Union { up: (0..rows.len()).collect(), rows }
    }

    fn root(&mut self, mut i: usize) -> usize {
        while self.up[i] != i {
            self.up[i] = self.up[self.up[i]];
            i = self.up[i];
        }
        i
    }

    /// Panics if a row was not named at the beginning.
    pub fn join(&mut self, a: u64, b: u64) {
        let place = |rows: &[u64], row| rows.binary_search(&row).expect("a row that was named");
        let (a, b) = (place(&self.rows, a), place(&self.rows, b));
        let (a, b) = (self.root(a), self.root(b));
        self.up[a.max(b)] = a.min(b);
    }

    /// (lowest row of the set, row) of all sets of two or more, ascending.
    pub fn groups(mut self) -> Pairs {
        let mut pairs: Vec<(u64, u64)> = Vec::with_capacity(self.rows.len());
        for i in 0..self.rows.len() {
            let root = self.root(i);
            pairs.push((self.rows[root], self.rows[i]));
        }
        several(pairs)
    }
}

/// (group, row) pairs in order, those of groups of one row left out.
pub fn several(mut pairs: Pairs) -> Pairs {
    pairs.sort_unstable();
    let alone = |i: usize| {
        (i == 0 || pairs[i - 1].0 != pairs[i].0) && pairs.get(i + 1).is_none_or(|next| next.0 != pairs[i].0)
    };
    (0..pairs.len()).filter(|&i| !alone(i)).map(|i| pairs[i]).collect()
}

/// (lowest row, row), ascending.
pub type Pairs = Vec<(u64, u64)>;

/// What rows these links join, of those that take part.
pub fn joined(links: &[Pairs], taking: impl Fn(u64) -> bool) -> Pairs {
    let linked = |pairs: &Pairs| several(pairs.iter().copied().filter(|p| taking(p.1)).collect());
    if let [pairs] = links {
        // Named by the lowest that takes part.
        let found = linked(pairs);
        let name = |group: &[(u64, u64)]| group.iter().map(|p| (group[0].1, p.1)).collect::<Pairs>();
        return found.chunk_by(|a, b| a.0 == b.0).flat_map(name).collect();
    }
    let links: Vec<Pairs> = links.iter().map(linked).collect();
    let mut union = Union::new(links.iter().flatten().map(|p| p.1).collect());
    for group in links.iter().flat_map(|pairs| pairs.chunk_by(|a, b| a.0 == b.0)) {
        group.iter().for_each(|p| union.join(group[0].1, p.1));
    }
    union.groups()
}

/// New rows must not join rows of two splits. New rows that hang together join the split of the old ones that they share a value with; where these
/// lie in several, they are set aside. Whether some are.
pub fn part_old_splits(groups: &Pairs, links: &[Pairs], stratum: &[u32], split: &mut [u16]) -> bool {
    let is_new = |split: &[u16], row: u64| split[row as usize] == NO_SPLIT && stratum[row as usize] != NONE;
    let mut torn: BTreeSet<u64> = BTreeSet::new();
    for group in groups.chunk_by(|a, b| a.0 == b.0) {
        let old: BTreeSet<u16> = group.iter().map(|p| split[p.1 as usize]).filter(|&s| s < ASIDE).collect();
        if old.len() > 1 {
            torn.extend(group.iter().map(|p| p.1).filter(|&row| is_new(split, row)));
        }
    }
    if torn.is_empty() {
        return false;
    }
    let mut union = Union::new(torn.iter().copied().collect());
    let mut touched: Vec<(u64, u16)> = Vec::new();
    for group in links.iter().flat_map(|pairs| pairs.chunk_by(|a, b| a.0 == b.0)) {
        let new: Vec<u64> = group.iter().map(|p| p.1).filter(|row| torn.contains(row)).collect();
        let Some(&first) = new.first() else { continue };
        new.iter().for_each(|&row| union.join(first, row));
        let old = group.iter().map(|p| split[p.1 as usize]).filter(|&s| s < ASIDE);
        touched.extend(old.map(|s| (first, s)));
    }
    let sets: BTreeMap<u64, u64> = union.groups().into_iter().map(|(set, row)| (row, set)).collect();
    let set = |row: u64| sets.get(&row).copied().unwrap_or(row);
    let mut splits: BTreeMap<u64, BTreeSet<u16>> = BTreeMap::new();
    for (row, s) in touched {
        splits.entry(set(row)).or_default().insert(s);
    }
    let mut some_aside = false;
    for row in torn {
        match splits.get(&set(row)) {
            Some(of) if of.len() > 1 => (split[row as usize], some_aside) = (ASIDE, true),
            Some(of) => split[row as usize] = *of.first().unwrap_or(&NO_SPLIT),
            None => {}
        }
    }
    some_aside
}

pub fn count_groups(groups: &Pairs, smallest: u64) -> SplitGroups {
    let mut sizes: Vec<(u64, u64)> =
        groups.chunk_by(|a, b| a.0 == b.0).map(|g| (g[0].0, g.len() as u64)).collect();
    let number = sizes.len() as u64;
    let largest = sizes.iter().map(|s| s.1).max().unwrap_or(0);
    sizes.retain(|s| s.1 > smallest);
    sizes.sort_by_key(|&(group, rows)| (std::cmp::Reverse(rows), group));
    sizes.truncate(NAMED);
    SplitGroups { groups: number, rows: groups.len() as u64, largest, large: sizes }
}

/// A group of several rows: its lowest one, and how many it has in each cell, cells ascending.
pub(super) struct Counted {
    pub group: u64,
    pub size: u64,
    pub cells: Vec<(u32, u64)>,
}

impl Counted {
    /// `cells`: of the group's rows.
    pub fn new(group: u64, cells: impl Iterator<Item = u32>) -> Self {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        cells.for_each(|cell| *counts.entry(cell).or_default() += 1);
        Counted { group, size: counts.values().sum(), cells: counts.into_iter().collect() }
    }
}

/// What is wanted of every cell (rows of `cells` by columns of splits) and what there is, which changes.
pub(super) struct Wanted<'a> {
    pub target: &'a [Vec<f64>],
    pub rows: &'a [u64],
    pub total: u64,
    pub have: &'a mut [Vec<u64>],
}

/// The split of every group, the largest first (ties by key): where it raises
///
/// ```text
/// sum over cells of (x - target)^2 / rows of the cell  +  sum over splits of (X - Target)^2 / rows
/// ```
///
/// least (ties: the earlier split). Returns (index into `groups`, split). O(cells of all groups x splits) after the sort.
pub(super) fn place_groups(groups: &[Counted], wanted: &mut Wanted<'_>, seed: u64) -> Vec<(usize, usize)> {
    let splits = wanted.target.first().map_or(0, Vec::len);
    let mut sums = vec![0.0; splits];
    let mut targets = vec![0.0; splits];
    for (have, target) in wanted.have.iter().zip(wanted.target) {
        (0..splits).for_each(|s| sums[s] += have[s] as f64);
        (0..splits).for_each(|s| targets[s] += target[s]);
    }
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_cached_key(|&g| (std::cmp::Reverse(groups[g].size), key(seed, &[groups[g].group])));
    let mut cost = vec![0.0; splits];
    let mut out = Vec::with_capacity(groups.len());
    for g in order {
        let m = groups[g].size as f64;
        cost.fill(0.0);
        for &(cell, count) in &groups[g].cells {
            let (cell, count) = (cell as usize, count as f64);
            let weight = count / wanted.rows[cell] as f64;
            for (s, cost) in cost.iter_mut().enumerate() {
                *cost += (2.0 * (wanted.have[cell][s] as f64 - wanted.target[cell][s]) + count) * weight;
            }
        }
        for (s, cost) in cost.iter_mut().enumerate() {
            *cost += m * (2.0 * (sums[s] - targets[s]) + m) / wanted.total as f64;
        }
        let best = (1..splits).fold(0, |best, s| if cost[s] < cost[best] { s } else { best });
        groups[g].cells.iter().for_each(|&(cell, count)| wanted.have[cell as usize][best] += count);
        sums[best] += m;
        out.push((g, best));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_by_their_lowest_row() {
        let mut union = Union::new(vec![9, 3, 5, 7, 20, 3]);
        union.join(9, 5);
        union.join(5, 20);
        union.join(7, 7);
        assert_eq!(union.groups(), [(5, 5), (5, 9), (5, 20)]);
        assert_eq!(several(vec![(4, 4), (1, 2), (1, 1), (8, 9), (8, 8)]), [(1, 1), (1, 2), (8, 8), (8, 9)]);
    }
}
