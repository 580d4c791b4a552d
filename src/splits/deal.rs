//! Which split every row is in: totals, groups of several rows, then rows of their own.
//!
//! A *cell* is a stratum, or where a label comes first, a label and a stratum. Labels are settled first (within one row of their share), then the
//! cells inside each ([`round_table`]). Groups of several rows go where they harm least; rows of their own fill what is missing, and move between
//! cells where groups took too much of one, so that sizes hold wherever there are rows enough. Which rows: the first places of a keyed
//! permutation of a cell's rows go to the last split, the next ones to the one before.

use super::NO_SPLIT;
use super::groups::{Counted, Wanted, place_groups};
use super::round::{level, mul_div, round_table};
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::kit::rng::{Permutation, Stream};

/// What is dealt.
pub struct Rows<'a> {
    /// (label, stratum) of every cell that has rows, ascending. Strata are numbered as the dendrogram's leaves stand.
    pub cells: &'a [(u32, u32)],
    /// Cell of every row; [`NONE`]: it takes no part.
    pub cell: &'a [u32],
    /// (lowest row, row) of every group of several rows, ascending.
    pub groups: &'a [(u64, u64)],
    /// Rows that each split is to have: as many as take part.
    pub totals: &'a [u64],
    pub seed: u64,
}

/// Cells that have the same label.
struct Block {
    label: u32,
    cells: std::ops::Range<usize>,
    rows: u64,
    /// Rows wanted of every split.
    want: Vec<u64>,
}

impl Rows<'_> {
    /// Deals the rows whose `split` is [`NO_SPLIT`] and which take part, so that all together meet the totals. Free rows of a group that has rows
    /// with a split join the first of these. O(rows + cells x splits^2 + cells of groups x splits).
    pub fn deal(&self, split: &mut [u16], mut check: impl FnMut() -> Result<()>) -> Result<()> {
        let splits = self.totals.len();
        let mut rows = vec![0u64; self.cells.len()];
        self.cell.iter().filter(|&&c| c != NONE).for_each(|&c| rows[c as usize] += 1);
        let blocks = self.blocks(&rows);
        self.join_settled(split);
        let mut have = vec![vec![0u64; splits]; self.cells.len()];
        for (&cell, &s) in self.cell.iter().zip(split.iter()).filter(|(c, s)| **c != NONE && **s != NO_SPLIT)
        {
            have[cell as usize][s as usize] += 1;
        }
        check()?;
        self.deal_groups(&blocks, &rows, &mut have, split);
        check()?;
        let mut alone = vec![0u64; self.cells.len()];
        for (&cell, _) in self.cell.iter().zip(split.iter()).filter(|(c, s)| **c != NONE && **s == NO_SPLIT) {
            alone[cell as usize] += 1;
        }
        let mut counts: Vec<Vec<u64>> = Vec::with_capacity(self.cells.len());
        for block in &blocks {
            check()?;
            counts.extend(self.counts(block, &rows, &have, &alone));
        }
        let choose: Vec<Permutation> = (self.cells.iter().zip(&alone))
            .map(|(&(label, h), &n)| {
                Permutation::new(n, Stream::Split.key(self.seed, &[4, label.into(), h.into()]))
            })
            .collect();
        let mut seen = vec![0u64; self.cells.len()];
        for (&cell, split) in self.cell.iter().zip(split).filter(|(c, s)| **c != NONE && **s == NO_SPLIT) {
            let c = cell as usize;
            let mut place = choose[c].index(seen[c]);
            seen[c] += 1;
            let mut s = splits - 1;
            while place >= counts[c][s] {
                place -= counts[c][s];
                s -= 1;
            }
            *split = s as u16;
        }
        Ok(())
    }

    /// The labels, and what each is to give every split.
    fn blocks(&self, rows: &[u64]) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        for (i, &(label, _)) in self.cells.iter().enumerate() {
            if blocks.last().is_none_or(|b| b.label != label) {
                blocks.push(Block { label, cells: i..i, rows: 0, want: Vec::new() });
            }
            let block = blocks.last_mut().expect("one was pushed");
            block.cells.end = i + 1;
            block.rows += rows[i];
        }
        let share = |b: &Block| self.totals.iter().map(|&t| u128::from(b.rows) * u128::from(t)).collect();
        let table: Vec<Vec<u128>> = blocks.iter().map(share).collect();
        let all = u128::from(self.totals.iter().sum::<u64>()).max(1);
        let want = round_table(&table, all, Stream::Split.key(self.seed, &[1]));
        blocks.iter_mut().zip(want).for_each(|(block, want)| block.want = want);
        blocks
    }

    /// Rows of a group some of whose rows have a split join that of the lowest such row.
    fn join_settled(&self, split: &mut [u16]) {
        for group in self.groups.chunk_by(|a, b| a.0 == b.0) {
            let settled = group.iter().map(|g| split[g.1 as usize]).find(|&s| s != NO_SPLIT);
            let Some(settled) = settled else { continue };
            for &(_, row) in group {
                let row = row as usize;
                if split[row] == NO_SPLIT && self.cell[row] != NONE {
                    split[row] = settled;
                }
            }
        }
    }

    fn deal_groups(&self, blocks: &[Block], rows: &[u64], have: &mut [Vec<u64>], split: &mut [u16]) {
        let free = |row: u64| self.cell[row as usize] != NONE && split[row as usize] == NO_SPLIT;
        let mut counted = Vec::new();
        let mut members: Vec<&[(u64, u64)]> = Vec::new();
        for group in self.groups.chunk_by(|a, b| a.0 == b.0) {
            if group.iter().filter(|g| free(g.1)).count() > 1 {
                let cells = group.iter().filter(|g| free(g.1)).map(|g| self.cell[g.1 as usize]);
                counted.push(Counted::new(group[0].0, cells));
                members.push(group);
            }
        }
        if counted.is_empty() {
            return;
        }
        let share =
            |block: &Block, n: u64, t: u64| (u128::from(n) * u128::from(t)) as f64 / block.rows as f64;
        let target: Vec<Vec<f64>> = (blocks.iter())
            .flat_map(|b| b.cells.clone().map(move |i| (b, i)))
            .map(|(b, i)| b.want.iter().map(|&t| share(b, rows[i], t)).collect())
            .collect();
        let total = self.totals.iter().sum();
        let mut wanted = Wanted { target: &target, rows, total, have };
        for (g, s) in place_groups(&counted, &mut wanted, Stream::Split.key(self.seed, &[2])) {
            for &(_, row) in members[g] {
                let row = row as usize;
                if split[row] == NO_SPLIT && self.cell[row] != NONE {
                    split[row] = s as u16;
                }
            }
        }
    }

    /// Of every cell of a label, how many of its rows of their own each split gets.
    fn counts(&self, block: &Block, rows: &[u64], have: &[Vec<u64>], alone: &[u64]) -> Vec<Vec<u64>> {
        let w = i128::from(block.rows);
        let mut table: Vec<Vec<i128>> = Vec::with_capacity(block.cells.len());
        for i in block.cells.clone() {
            let need = block.want.iter().zip(&have[i]);
            let need = need.map(|(&t, &x)| i128::from(rows[i]) * i128::from(t) - w * i128::from(x));
            table.push(level(&need.collect::<Vec<_>>(), alone[i], w));
        }
        // What groups took too much or too little of in one cell is spread over all, in proportion to what can move.
        for s in 1..self.totals.len() {
            let taken: u64 = block.cells.clone().map(|i| have[i][s]).sum();
            let lack = w * (i128::from(block.want[s]) - i128::from(taken))
                - table.iter().map(|y| y[s]).sum::<i128>();
            let from = if lack > 0 { 0 } else { s };
            let room: Vec<i128> = table.iter().map(|y| y[from].max(0)).collect();
            let all: i128 = room.iter().sum();
            let moved = lack.abs().min(all);
            if moved == 0 {
                continue;
            }
            let (mut at, mut done) = (0, 0);
            for (y, r) in table.iter_mut().zip(room) {
                at += r;
                let by = mul_div(moved as u128, at as u128, all as u128).0 as i128 - done;
                done += by;
                let by = if lack > 0 { by } else { -by };
                y[s] += by;
                y[0] -= by;
            }
        }
        let table: Vec<Vec<u128>> =
            table.into_iter().map(|y| y.into_iter().map(|v| v as u128).collect()).collect();
        round_table(&table, w as u128, Stream::Split.key(self.seed, &[3, block.label.into()]))
    }
}
