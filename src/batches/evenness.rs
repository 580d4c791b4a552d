//! How even the batches of a local order are, from counts alone.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::batches::halving::{Counts, Halver};
use crate::batches::local::{LocalDeal, Round};
use crate::batches::rounds::Piece;
use crate::format::units::Evenness;

/// The data's shares by place of the tour, and by score group.
struct Shares<'a> {
    place: Vec<f64>,
    tour: &'a [u32],
    group: &'a [u32],
    /// Squared distance of a random batch of one row.
    random: f64,
}

impl Shares<'_> {
    /// Sum of squares by score group.
    fn squared(&self, by_place: impl Iterator<Item = f64>) -> f64 {
        let mut groups = vec![0.0; self.group.iter().max().map_or(0, |&g| g as usize + 1)];
        by_place.zip(self.tour).for_each(|(x, &h)| groups[self.group[h as usize] as usize] += x);
        groups.iter().map(|x| x * x).sum()
    }

    /// Squared distance of `sums`, of `rows` rows, from the data, in units of a random batch of one row.
    fn distance(&self, sums: &[u64], rows: u64) -> f64 {
        let rows = rows.max(1) as f64;
        self.squared(sums.iter().zip(&self.place).map(|(&n, p)| n as f64 / rows - p)) / self.random
    }

    /// Rows by which a stratum misses its share, at most.
    fn miss(&self, sums: &[u64]) -> f64 {
        let rows = sums.iter().sum::<u64>() as f64;
        sums.iter().zip(&self.place).map(|(&n, p)| (n as f64 - rows * p).abs()).fold(0.0, f64::max)
    }
}

impl LocalDeal<'_> {
    fn shares<'a>(&'a self, group: &'a [u32]) -> Shares<'a> {
        let mut place = vec![0.0; self.tour.len()];
        for unit in 0..self.units.with_rows() {
            self.units.cells(unit).for_each(|(h, n)| place[self.place[h as usize] as usize] += f64::from(n));
        }
        let rows: f64 = place.iter().sum();
        place.iter_mut().for_each(|p| *p /= rows.max(1.0));
        let mut shares = Shares { place, tour: &self.tour, group, random: 0.0 };
        shares.random = (1.0 - shares.squared(shares.place.iter().copied())).max(1e-300);
        shares
    }

    /// Mean over all batches of the squared distance of their round's share of score groups from the data's, in units of a
    /// random batch's: 0 as in the global order, 1 as of random batches. `group`: score group of every stratum. O(strata seen
    /// in the units), in parallel over rounds.
    pub fn drift(&self, group: &[u32]) -> f64 {
        let shares = self.shares(group);
        let of = |number| self.round_drift(&self.counted(number, &mut Halver::default()), number, &shares);
        let found: Vec<f64> = (0..self.rounds.number()).into_par_iter().map(of).collect();
        found.iter().sum::<f64>() / self.full.max(1) as f64
    }

    /// Of all batches of a round.
    fn round_drift(&self, round: &Round, number: usize, shares: &Shares<'_>) -> f64 {
        let batches = self.rounds.batches(number);
        let sums = self.by_place(round, &round.full);
        self.base as f64 * shares.distance(&sums, batches * self.base) * batches as f64
    }

    fn by_place(&self, round: &Round, counts: &Counts) -> Vec<u64> {
        let mut sums = vec![0; self.tour.len()];
        counts.iter().for_each(|(cell, n)| sums[round.grid.place[cell as usize] as usize] += n);
        sums
    }

    /// Counts all batches, in parallel over rounds; no row is looked at. `slices`: equal contiguous parts that a batch is cut
    /// into, of whole streams each; 1: none. O(strata seen by each batch).
    pub fn evenness(&self, group: &[u32], slices: usize) -> Evenness {
        assert!(self.streams.is_multiple_of(slices), "slices are of whole streams");
        let shares = self.shares(group);
        let streams = self.streams / slices;
        let of_round = |number: usize| {
            let mut halver = Halver::default();
            let round = self.counted(number, &mut halver);
            let drift = self.round_drift(&round, number, &shares);
            let (mut worst, mut worst_slice) = (shares.miss(&self.by_place(&round, &round.rest)), 0.0f64);
            let mut sums = vec![0u64; self.tour.len() * slices];
            round.dealing.each(&round.grid, 0..self.rounds.batches(number), &mut halver, |_, counts, _| {
                sums.fill(0);
                for (cell, n) in counts.iter() {
                    let slice = round.grid.stream[cell as usize] as usize / streams;
                    sums[slice * self.tour.len() + round.grid.place[cell as usize] as usize] += n;
                }
                if slices > 1 {
                    worst_slice =
                        sums.chunks(self.tour.len()).map(|s| shares.miss(s)).fold(worst_slice, f64::max);
                    let (all, others) = sums.split_at_mut(self.tour.len());
                    for slice in others.chunks(all.len()) {
                        all.iter_mut().zip(slice).for_each(|(all, n)| *all += n);
                    }
                }
                worst = worst.max(shares.miss(&sums[..self.tour.len()]));
            });
            (drift, worst, worst_slice)
        };
        let found: Vec<(f64, f64, f64)> = (0..self.rounds.number()).into_par_iter().map(of_round).collect();
        let rounds = 0..self.rounds.number();
        let opened = |t| (0..self.streams).flat_map(move |s| self.units_of(self.rounds.pieces(s, t).iter()));
        let rows = |t| opened(t).map(|unit| u64::from(self.units.rows[unit as usize])).sum();
        let read = |s| self.units_of(rounds.clone().flat_map(move |t| self.rounds.pieces(s, t))).len();
        Evenness {
            drift: found.iter().map(|of| of.0).sum::<f64>() / self.full.max(1) as f64,
            worst: found.iter().map(|of| of.1).fold(0.0, f64::max),
            worst_slice: found.iter().map(|of| of.2).fold(0.0, f64::max),
            reads: (0..self.streams).map(read).sum::<usize>() as f64 / self.units.with_rows().max(1) as f64,
            rounds: self.rounds.number() as u64,
            round_batches: rounds.clone().map(|t| self.rounds.batches(t)).max().unwrap_or(0),
            round_rows: rounds.clone().map(rows).max().unwrap_or(0),
        }
    }

    fn units_of<'a>(&self, pieces: impl Iterator<Item = &'a Piece>) -> BTreeSet<u32> {
        pieces.map(|piece| piece.unit).collect()
    }
}
