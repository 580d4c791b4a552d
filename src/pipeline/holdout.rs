//! Which rows are kept out of the batches. Every row has the same chance: strata are rounded in the order of the dendrogram, so
//! that neighbours make up for each other, and small ones are drawn from together. What an older plan held out stays held out:
//! rows are found again by their numbers where row groups are as they were, and by what their cells hold elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::check::coverage::{Coverage, Matched, State};
use crate::format::Kind;
use crate::format::holdout::HeldOut;
use crate::kit::error::{Error, Result};
use crate::kit::rng::{Stream, key};
use crate::kit::scratch::RowFile;
use crate::plan::Plan;
use crate::source::Dataset;

/// Rows whose hashes are read at a time.
const CHUNK: u64 = 1 << 20;
/// Bytes of a content hash in the working file.
pub use crate::engine::rows::CONTENT_BYTES;

/// How many rows of each of these lists are taken, `taken` of all: the ordered pivotal method (Deville & Tille 1998), which is
/// dependent rounding with two columns. Every list gives within one row of its share, the sum is exact, and a row's chance is
/// the same in all. O(lists).
pub fn round_in_order(rows: &[u64], taken: u64, seed: u64) -> Vec<u64> {
    let n: u128 = rows.iter().map(|&r| u128::from(r)).sum();
    let mut out = Vec::with_capacity(rows.len());
    // The list whose rounding is open, and what it still has to give, in units of 1 / n.
    let mut open: Option<(usize, u128)> = None;
    let mut step = 0;
    for (i, &r) in rows.iter().enumerate() {
        let share = u128::from(r) * u128::from(taken);
        out.push(share.checked_div(n).unwrap_or(0) as u64);
        let mut new = share.checked_rem(n).unwrap_or(0);
        if new == 0 {
            continue;
        }
        let Some((g, mut old)) = open else {
            open = Some((i, new));
            continue;
        };
        let (up, down) = (old.min(n - new), new.min(n - old));
        if (u128::from(key(seed, &[step])) * (up + down)) >> 64 < down {
            (old, new) = (old - up, new + up);
        } else {
            (old, new) = (old + down, new - down);
        }
        step += 1;
        out[g] += u64::from(old == n);
        out[i] += u64::from(new == n);
        let left = |x: u128| x != 0 && x != n;
        open = left(old).then_some((g, old)).or(left(new).then_some((i, new)));
    }
    out
}

/// Strata, by place, that are drawn from together: each on its own, but one of fewer rows than 1 / share with the next leaves
/// of the dendrogram. Returns the pool of every stratum and the rows of every pool.
pub fn pools(rows: &[u64], leaves: &[u32], share: f64) -> (Vec<usize>, Vec<u64>) {
    let mut pool = vec![0; rows.len()];
    let mut sizes: Vec<u64> = Vec::new();
    let enough = |rows: u64| rows as f64 * share >= 1.0;
    for &h in leaves {
        if sizes.last().is_none_or(|&rows| enough(rows)) {
            sizes.push(0);
        }
        let last = sizes.len() - 1;
        pool[h as usize] = last;
        sizes[last] += rows[h as usize];
    }
    // The last ones have no next leaf: they join the one before.
    if sizes.len() > 1 && !enough(sizes[sizes.len() - 1]) {
        let rest = sizes.pop().unwrap_or(0);
        let last = sizes.len() - 1;
        sizes[last] += rest;
        pool.iter_mut().for_each(|p| *p = (*p).min(last));
    }
    (pool, sizes)
}

/// Rows taken from every pool.
pub fn wanted(pools: &[u64], share: f64, seed: u64) -> Vec<u64> {
    let n: u64 = pools.iter().sum();
    let taken = ((n as f64 * share).round() as u64).min(n);
    round_in_order(pools, taken, Stream::Holdout.key(seed, &[u64::MAX]))
}

/// The plan that an update begins with, and what became of its rows.
pub struct Older<'a> {
    pub plan: &'a Plan,
    pub matched: &'a Matched,
    pub coverage: &'a Coverage,
    /// `--deal-holdout`: nothing stays held out.
    pub deal: bool,
}

/// Rows that stay held out, ascending, and of every row group whether its rows may become so.
#[derive(Default)]
pub struct Kept {
    pub rows: Vec<u64>,
    pub open: Vec<bool>,
}

impl Older<'_> {
    pub fn held(&self) -> Result<Vec<HeldOut>> {
        if self.deal { Ok(Vec::new()) } else { self.plan.held_out() }
    }

    /// Contents of held-out rows that nobody has trained on: a row equal to one of them is held out.
    pub fn known(&self) -> Result<BTreeSet<[u8; CONTENT_BYTES]>> {
        let alone = |h: HeldOut| h.content.filter(|c| c.copies == 0).map(|c| c.hash);
        Ok(self.held()?.into_iter().filter_map(alone).collect())
    }

    /// First row now of the plan's row groups that are as they were.
    fn places(&self, dataset: &Dataset) -> BTreeMap<usize, u64> {
        let groups = dataset.row_groups().iter().zip(&self.matched.origin);
        groups.filter_map(|(group, origin)| Some((origin.as_ref().copied()?, group.first_row))).collect()
    }

    /// Errors if held-out rows cannot be found again: a plan of format 1.0 knows their numbers alone.
    pub fn check(&self) -> Result<()> {
        let held = self.held()?;
        let sources = self.plan.sources()?;
        let lost = |h: &&HeldOut| {
            let source = sources.partition_point(|s| s.first_row + s.rows <= h.row);
            h.content.is_none() && self.matched.lost.contains(&source)
        };
        match held.iter().filter(lost).count() {
            n if n > 0 && !self.coverage.in_place() => Err(Error::plan(
                self.plan.path().join(Kind::Holdout.path()),
                format!(
                    "knows its held-out rows by their numbers alone, and {n} of them are no longer there"
                ),
                "deal them anew with --deal-holdout: rows that were in the batches may then be held out, and the other way round",
            )),
            _ => Ok(()),
        }
    }

    /// `contents` of all rows of the dataset.
    pub fn kept(&self, dataset: &Dataset, contents: Option<&RowFile>) -> Result<Kept> {
        let (held, sources, places) = (self.held()?, self.plan.sources()?, self.places(dataset));
        let mut rows = BTreeSet::new();
        // Of those whose row group is not as it was: how many of each content.
        let mut lost: BTreeMap<[u8; CONTENT_BYTES], u64> = BTreeMap::new();
        for h in &held {
            let s = sources.partition_point(|s| s.first_row + s.rows <= h.row);
            match (places.get(&s), h.content) {
                (Some(first), _) => drop(rows.insert(first + (h.row - sources[s].first_row))),
                (None, Some(content)) => *lost.entry(content.hash).or_default() += 1,
                // Checked before: all rows are where they were.
                (None, None) => drop(rows.insert(h.row)),
            }
        }
        let alone = self.known()?;
        let new = |file: usize, row_group: usize| {
            let path = dataset.files()[file].path.as_str();
            self.coverage.row_groups.iter().any(|g| {
                g.state == State::New && (g.file.as_str(), g.row_group as usize) == (path, row_group)
            })
        };
        let mut open = vec![false; dataset.row_groups().len()];
        let mut bytes = Vec::new();
        for (g, group) in dataset.row_groups().iter().enumerate() {
            if self.matched.origin[g].is_some() {
                continue;
            }
            let mut found = false;
            for first in (0..group.rows).step_by(CHUNK as usize) {
                let Some(contents) = contents else { break };
                contents.read(
                    group.first_row + first,
                    (group.rows - first).min(CHUNK) as usize,
                    &mut bytes,
                )?;
                for (row, hash) in (group.first_row + first..).zip(bytes.as_chunks::<CONTENT_BYTES>().0) {
                    let again = lost.get_mut(hash).filter(|n| **n > 0).map(|n| *n -= 1).is_some();
                    found |= again;
                    if again || alone.contains(hash) {
                        rows.insert(row);
                    }
                }
            }
            // Where rows of the plan are gone, a row group with one of its held-out rows may hold others of its rows, too.
            open[g] = new(group.file, group.row_group) && (!found || self.matched.lost.is_empty());
        }
        Ok(Kept { rows: rows.into_iter().collect(), open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_every_list_is_within_one_row_of_its_share() {
        for t in 0..500 {
            let rows: Vec<u64> = (0..1 + t % 40).map(|i| 1 + key(t, &[i]) % 30).collect();
            let n: u64 = rows.iter().sum();
            let taken = key(t, &[999]) % (n + 1);
            let out = round_in_order(&rows, taken, t);
            assert_eq!(out.iter().sum::<u64>(), taken, "{rows:?}");
            let mut run = 0.0;
            for (x, r) in out.iter().zip(&rows) {
                let off = *x as f64 - (r * taken) as f64 / n as f64;
                run += off;
                assert!(off.abs() < 1.0 && run.abs() < 1.0 + 1e-9, "{rows:?}");
            }
        }
        assert_eq!(round_in_order(&[], 0, 1), [0; 0]);
        assert_eq!(round_in_order(&[0, 0], 0, 1), [0, 0]);
    }

    /// What `round_table` of the reference in Python gives for two columns.
    #[test]
    fn every_row_has_the_same_chance() {
        let rows = [1, 2, 3, 7, 1, 5];
        let mut sums = [0; 6];
        (0..8000).for_each(|t| round_in_order(&rows, 4, t).iter().zip(&mut sums).for_each(|(x, s)| *s += x));
        for (s, r) in sums.iter().zip(&rows) {
            assert!((*s as f64 / 8000.0 - (r * 4) as f64 / 19.0).abs() < 0.025, "{sums:?}");
        }
    }

    #[test]
    fn small_strata_are_drawn_from_together() {
        let (pool, sizes) = pools(&[3, 30, 4, 2, 4, 1], &[0, 2, 3, 1, 4, 5], 0.1);
        assert_eq!((pool, sizes), (vec![0, 0, 0, 0, 0, 0], vec![44]));
        let (pool, sizes) = pools(&[10, 4, 3, 3, 12], &[0, 1, 2, 3, 4], 0.1);
        assert_eq!((pool, sizes), (vec![0, 1, 1, 1, 2], vec![10, 10, 12]));
        assert_eq!(pools(&[5], &[0], 0.0), (vec![0], vec![5]));
    }
}
