//! Exact dealing over streams and strata at once: a table of counts is halved until a batch is left.
//!
//! One halving splits every cell of the streams x strata table as evenly as integers can, exactly in a stream's sum, within
//! one in a stratum's sum and in every prefix of the tour. Odd cells have two partners, the next odd cell of their stream
//! and the next of their stratum, which makes cycles; along a cycle the cells' odd rows go left and right in turn (the Euler
//! splitting of Alon 2003, "A simple algorithm for edge-coloring bipartite multigraphs").
//!
//! A round of k batches, k not a power of two, is first cut into its powers of two by [`part`], then each is halved down to
//! batches. Tables are sparse: everything costs O(cells that are not empty), never O(streams x strata).

use std::cmp::Reverse;
use std::ops::Range;

use crate::kit::rng::mix64;

/// Binary digits behind the point of the shares that [`Halver::part`] takes.
const BITS: u32 = 24;
/// No cell waits for a partner.
const NOBODY: u32 = u32::MAX;

/// The cells of a table of streams x places of the tour that are not empty, by stream, then place: what [`Counts`] count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// Places of the tour, one for each stratum.
    pub places: u32,
    pub stream: Vec<u32>,
    pub place: Vec<u32>,
}

impl Grid {
    pub fn len(&self) -> usize {
        self.place.len()
    }

    pub fn is_empty(&self) -> bool {
        self.place.is_empty()
    }

    /// Number of the cell in the whole table, as keys have it.
    fn number(&self, cell: u32) -> u64 {
        let cell = cell as usize;
        u64::from(self.stream[cell]) * u64::from(self.places) + u64::from(self.place[cell])
    }
}

/// Rows of some cells of a [`Grid`], ascending, none of 0 rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub cell: Vec<u32>,
    pub rows: Vec<u64>,
}

impl Counts {
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.cell.iter().copied().zip(self.rows.iter().copied())
    }

    /// Adds a cell above those there are; one of 0 rows is left out.
    pub fn push(&mut self, cell: u32, rows: u64) {
        if rows > 0 {
            self.cell.push(cell);
            self.rows.push(rows);
        }
    }

    fn clear(&mut self) {
        self.cell.clear();
        self.rows.clear();
    }

    /// What is left without `part`, which has no more of any cell.
    pub fn without(&self, part: &Counts) -> Counts {
        let (mut left, mut at) = (Counts::default(), 0);
        for (cell, rows) in self.iter() {
            let taken = if part.cell.get(at) == Some(&cell) { part.rows[at] } else { 0 };
            at += usize::from(taken > 0);
            left.push(cell, rows - taken);
        }
        left
    }

    /// Rows of every stream.
    pub fn by_stream(&self, grid: &Grid, streams: usize) -> Vec<u64> {
        let mut sums = vec![0; streams];
        self.iter().for_each(|(cell, rows)| sums[grid.stream[cell as usize] as usize] += rows);
        sums
    }
}

/// Halves tables. Its buffers are kept.
#[derive(Clone, Debug, Default)]
pub struct Halver {
    /// Entries of the table with an odd number of rows.
    odd: Vec<u32>,
    /// Of each odd cell its partner in its stratum.
    twin: Vec<u32>,
    /// Of each odd cell: its odd row goes left.
    left: Vec<bool>,
    done: Vec<bool>,
    /// By place: the odd cell that has no partner there yet.
    waiting: Vec<u32>,
    /// Which places these are, a bit each.
    occupied: Vec<u64>,
    spare: Vec<(Counts, Counts)>,
}

impl Halver {
    /// Splits `counts`, in which every stream has an even number of rows, into two that differ by at most one in every cell,
    /// not at all in a stream's sum, and by at most one in a stratum's sum and in every prefix of the tour. O(cells).
    pub fn halve(
        &mut self,
        grid: &Grid,
        counts: &Counts,
        node_key: u64,
        left: &mut Counts,
        right: &mut Counts,
    ) {
        self.odd.clear();
        self.odd.extend((0..counts.rows.len() as u32).filter(|&i| counts.rows[i as usize] & 1 == 1));
        self.pair_up(grid, counts);
        self.go_round(grid, counts, node_key);
        left.clear();
        right.clear();
        let mut odd = 0;
        for (cell, rows) in counts.iter() {
            let more = rows & 1 == 1 && {
                odd += 1;
                self.left[odd - 1]
            };
            let l = (rows >> 1) + u64::from(more);
            left.push(cell, l);
            right.push(cell, rows - l);
        }
    }

    /// Partners in strata: the next odd cell of the stratum; what is left over there: the next of the left-overs.
    fn pair_up(&mut self, grid: &Grid, counts: &Counts) {
        let places = grid.places as usize;
        self.waiting.resize(places.max(self.waiting.len()), NOBODY);
        self.occupied.resize(places.div_ceil(64).max(self.occupied.len()), 0);
        self.twin.clear();
        self.twin.resize(self.odd.len(), NOBODY);
        for (i, &entry) in (0..).zip(&self.odd) {
            let place = grid.place[counts.cell[entry as usize] as usize] as usize;
            let other = std::mem::replace(&mut self.waiting[place], NOBODY);
            self.occupied[place / 64] ^= 1 << (place % 64);
            if other == NOBODY {
                self.waiting[place] = i;
            } else {
                (self.twin[i as usize], self.twin[other as usize]) = (other, i);
            }
        }
        let mut over = NOBODY;
        for (word, bits) in self.occupied.iter_mut().enumerate() {
            while *bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                let cell = std::mem::replace(&mut self.waiting[place], NOBODY);
                let other = std::mem::replace(&mut over, cell);
                if other != NOBODY {
                    (self.twin[cell as usize], self.twin[other as usize]) = (other, cell);
                    over = NOBODY;
                }
            }
        }
        debug_assert_eq!(over, NOBODY, "every stream has an even number of odd cells");
    }

    /// Along every cycle odd rows go left and right in turn; the lowest cell's goes left if its bit is 0.
    fn go_round(&mut self, grid: &Grid, counts: &Counts, node_key: u64) {
        self.left.clear();
        self.left.resize(self.odd.len(), false);
        self.done.clear();
        self.done.resize(self.odd.len(), false);
        for lead in 0..self.odd.len() {
            if self.done[lead] {
                continue;
            }
            let cell = counts.cell[self.odd[lead] as usize];
            let first = mix64(node_key ^ grid.number(cell)) & 1 == 0;
            let mut at = lead;
            while !self.done[at] {
                // Odd cells of a stream follow each other, and there is an even number of them.
                let mate = at ^ 1;
                self.left[at] = first;
                self.left[mate] = !first;
                (self.done[at], self.done[mate]) = (true, true);
                at = self.twin[mate] as usize;
            }
        }
    }

    /// `rows[s]` rows of each stream out of `counts`, every cell and every prefix of the tour within 1 of its share (and
    /// streams / 2^24): shares in 2^-24ths, by largest remainders in each stream, halved 24 times down the left path.
    pub fn part(&mut self, grid: &Grid, counts: &Counts, rows: &[u64], flip_key: u64) -> Counts {
        let mut part = Counts::default();
        let mut from = 0;
        while from < counts.cell.len() {
            let stream = grid.stream[counts.cell[from] as usize];
            let len = counts.cell[from..].partition_point(|&cell| grid.stream[cell as usize] == stream);
            let of = &counts.rows[from..from + len];
            let (sum, want) = (u128::from(of.iter().sum::<u64>()), u128::from(rows[stream as usize]) << BITS);
            let mut share: Vec<u64> = of.iter().map(|&x| (u128::from(x) * want / sum) as u64).collect();
            let lack = want as u64 - share.iter().sum::<u64>();
            let mut by_remainder: Vec<usize> = (0..len).collect();
            by_remainder.sort_by_key(|&i| Reverse(u128::from(of[i]) * want % sum));
            by_remainder.iter().take(lack as usize).for_each(|&i| share[i] += 1);
            counts.cell[from..].iter().zip(share).for_each(|(&cell, share)| part.push(cell, share));
            from += len;
        }
        let (mut left, mut right) = self.spare.pop().unwrap_or_default();
        for bit in 0..u64::from(BITS) {
            self.halve(grid, &part, mix64(flip_key ^ bit), &mut left, &mut right);
            std::mem::swap(&mut part, &mut left);
        }
        self.spare.push((left, right));
        part
    }
}

/// A round of k batches, cut into its powers of two.
#[derive(Clone, Debug, Default)]
pub struct Dealing {
    powers: Vec<Power>,
}

/// `size` batches from `first` on, a power of two of them.
#[derive(Clone, Debug)]
struct Power {
    first: u64,
    size: u64,
    counts: Counts,
    key: u64,
}

impl Dealing {
    /// Of `batches` batches, out of counts in which every stream has a multiple of so many rows. O(cells x ones in the
    /// binary number of `batches`).
    pub fn new(grid: &Grid, counts: Counts, batches: u64, flip_key: u64, halver: &mut Halver) -> Self {
        let streams = grid.stream.last().map_or(0, |&s| s as usize + 1);
        let (mut powers, mut left, mut first, mut rest) = (Vec::new(), batches, 0, counts);
        for j in (0..u64::from(u64::BITS - batches.leading_zeros())).rev() {
            let size = 1 << j;
            if batches & size == 0 {
                continue;
            }
            let counts = if left == size {
                std::mem::take(&mut rest)
            } else {
                let rows: Vec<u64> =
                    rest.by_stream(grid, streams).iter().map(|rows| rows / left * size).collect();
                let part = halver.part(grid, &rest, &rows, mix64(flip_key ^ j));
                rest = rest.without(&part);
                part
            };
            powers.push(Power { first, size, counts, key: mix64(flip_key ^ (64 + j)) });
            (left, first) = (left - size, first + size);
        }
        Dealing { powers }
    }

    /// Calls `f` for the batches of `range` in order, with the counts of the batch and how many rows of every cell the
    /// batches before it have. Depth first: O(cells) a batch, and O(cells x log batches) to get to the first.
    pub fn each(
        &self,
        grid: &Grid,
        range: Range<u64>,
        halver: &mut Halver,
        mut f: impl FnMut(u64, &Counts, &[u64]),
    ) {
        let mut before = vec![0; grid.len()];
        for power in &self.powers {
            let root = Node { first: power.first, size: power.size, number: 1, key: power.key };
            root.descend(grid, &power.counts, &range, &mut before, halver, &mut f);
        }
    }
}

/// A node of the tree of halves: 1 is the root, 2 i and 2 i + 1 the halves of i.
#[derive(Clone, Copy)]
struct Node {
    first: u64,
    size: u64,
    number: u64,
    key: u64,
}

impl Node {
    fn descend(
        self,
        grid: &Grid,
        counts: &Counts,
        range: &Range<u64>,
        before: &mut [u64],
        halver: &mut Halver,
        f: &mut impl FnMut(u64, &Counts, &[u64]),
    ) {
        let Node { first, size, number, key } = self;
        if first >= range.end {
            return;
        }
        let earlier = first + size <= range.start;
        if !earlier && size > 1 {
            let (mut left, mut right) = halver.spare.pop().unwrap_or_default();
            halver.halve(grid, counts, mix64(key ^ number), &mut left, &mut right);
            let half = Node { first, size: size / 2, number: 2 * number, key };
            half.descend(grid, &left, range, before, halver, f);
            let half = Node { first: first + size / 2, number: 2 * number + 1, ..half };
            half.descend(grid, &right, range, before, halver, f);
            halver.spare.push((left, right));
            return;
        }
        if !earlier {
            f(first, counts, before);
        }
        counts.iter().for_each(|(cell, rows)| before[cell as usize] += rows);
    }
}
