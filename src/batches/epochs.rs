//! Whole epochs: the dealt batches with everything the plan says about them. [`pipeline`](crate::pipeline) writes them
//! and [`plan`](crate::plan) computes those that were not written, through this one file: the same bytes.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::batches::accumulation::{Update, Updates};
use crate::batches::allocation::loss_weights;
use crate::batches::batch::Batch;
use crate::batches::deal::Deal;
use crate::batches::duplicates::{Duplicates, Exchanges};
use crate::batches::local::{LocalDeal, LocalOrder};
use crate::batches::score::Score;
use crate::format::dendrogram::Merge;
use crate::kernels::rows::RowIds;
use crate::kit::error::Result;
use crate::kit::progress::Progress;

/// What all epochs of a plan share. Borrowed from the plan's files or from the run that is writing them.
pub struct Epochs<'a> {
    /// Planned rows grouped by stratum, ascending inside.
    pub members: RowIds<'a>,
    /// Where each stratum begins in `members`, and the end (strata + 1).
    pub offsets: &'a [u64],
    pub dendrogram: &'a [Merge],
    /// Score group of every stratum.
    pub score_groups: &'a [u32],
    /// Rows each stratum contributes to an epoch; None: all its rows once.
    pub draws: Option<&'a [u64]>,
    /// Rows that come into a batch together; 1 in a local order.
    pub chunk: u64,
    /// Strata are labels that give whole chunks: batches of `chunk` rows of each of some labels.
    pub labels: bool,
    /// None: rows may meet duplicates.
    pub duplicates: Option<&'a Duplicates>,
    /// None: batches are dealt in the global order.
    pub local: Option<LocalOrder<'a>>,
    pub seed: u64,
    /// The smallest candidate size; all others are its multiples.
    pub base: u64,
    pub drop_last: bool,
    /// Share of the gradient variance that the score groups explain (`a` of the score).
    pub modality_share: f64,
    /// Samples an update needs.
    pub information_threshold: f64,
}

/// One batch as written to `batches/size-<B>/epoch-<e>.arrow`, without its place in the updates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Number of the batch in its epoch.
    pub index: u64,
    /// Global row numbers, in the order of the batch.
    pub rows: Vec<u64>,
    /// Their strata.
    pub stratum: Vec<u32>,
    /// Effective sample size, in samples.
    pub n_eff: f64,
    /// Normalised squared distance to the full data's composition: 1 on average for a random batch.
    pub x: f64,
    /// `n_eff` / information threshold.
    pub score: f64,
}

/// Rows whose batches are computed at once before they are handed on: bounds memory and keeps all threads busy.
const CHUNK_ROWS: u64 = 1 << 19;
/// Rows of the runs that [`Epoch::rows`] is computed in.
const RUN_ROWS: u64 = 1 << 15;
/// Runs of batches that a chunk is cut into: the unit of work of a thread.
const RUNS: u64 = 16;

impl<'a> Epochs<'a> {
    fn strata(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Rows of every score group.
    pub fn group_counts(&self) -> Vec<u64> {
        let groups = self.score_groups.iter().max().map_or(0, |&g| g as usize + 1);
        let mut counts = vec![0; groups];
        for h in 0..self.strata() {
            counts[self.score_groups[h] as usize] += self.offsets[h + 1] - self.offsets[h];
        }
        counts
    }

    /// Epoch `epoch` in batches of `size` rows, a multiple of the base size.
    pub fn epoch(&'a self, epoch: u32, size: u64) -> Epoch<'a> {
        assert_eq!(size % self.base, 0, "candidate sizes are multiples of the smallest");
        let (base, seed, drop_last) = (self.base, self.seed, self.drop_last);
        let deal = match self.local {
            Some(local) => Dealt::Local(LocalDeal::new(
                local,
                self.strata(),
                base,
                seed,
                epoch,
                self.dendrogram,
                drop_last,
            )),
            None => {
                let (members, offsets) = (self.members, self.offsets);
                let deal =
                    Deal::new(members, offsets, base, seed, epoch, self.dendrogram, drop_last, self.draws);
                Dealt::Global(if self.labels {
                    deal.in_labels(self.chunk)
                } else {
                    deal.in_chunks(self.chunk)
                })
            }
        };
        let score = Score::new(&self.group_counts(), self.modality_share);
        Epoch { all: self, deal, exchanges: OnceLock::new(), score, size }
    }

    /// Weight of a row's loss by stratum where shares are skewed on purpose; None where all rows are drawn once, and where labels are
    /// to be met as often as each other.
    pub fn loss_weights(&self) -> Option<Vec<f64>> {
        let sizes: Vec<u64> = self.offsets.windows(2).map(|o| o[1] - o[0]).collect();
        self.draws.filter(|_| !self.labels).map(|draws| loss_weights(&sizes, draws))
    }
}

/// The dealing of an epoch in either order.
enum Dealt<'a> {
    Global(Deal<'a>),
    Local(LocalDeal<'a>),
}

/// One epoch in batches of one size.
pub struct Epoch<'a> {
    all: &'a Epochs<'a>,
    deal: Dealt<'a>,
    /// Made when rows are first asked for.
    exchanges: OnceLock<Arc<Exchanges>>,
    score: Score,
    size: u64,
}

impl Epoch<'_> {
    /// Number of batches.
    pub fn len(&self) -> u64 {
        match &self.deal {
            Dealt::Global(deal) => deal.batches(self.k()),
            Dealt::Local(deal) => deal.batches(self.k()),
        }
    }

    /// Batches of the smallest size in one.
    fn k(&self) -> u64 {
        self.size / self.all.base
    }

    /// The dealing, if it is that of a local order.
    pub fn local(&self) -> Option<&LocalDeal<'_>> {
        match &self.deal {
            Dealt::Global(_) => None,
            Dealt::Local(deal) => Some(deal),
        }
    }

    /// The dealing, if it is that of the global order.
    pub fn global(&self) -> Option<&Deal<'_>> {
        match &self.deal {
            Dealt::Global(deal) => Some(deal),
            Dealt::Local(_) => None,
        }
    }

    /// Rows that change places so that none meets a duplicate, if that was asked for.
    fn exchanges(&self, deal: &Deal<'_>) -> Option<&Exchanges> {
        let duplicates = self.all.duplicates?;
        Some(self.exchanges.get_or_init(|| duplicates.exchanges(deal)))
    }

    /// Before these batches are dealt in parallel.
    fn prepare(&self, batches: Range<u64>) {
        match &self.deal {
            Dealt::Local(deal) => deal.prepare(batches.start..batches.end.min(self.len()), self.k()),
            Dealt::Global(deal) => drop(self.exchanges(deal)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Deals a run of batches, one after another: their rows in order. O(B + strata) a batch; in a local order O(strata seen by
    /// a batch), and for the first batch of a round the rows of its units.
    pub fn run(&self, batches: Range<u64>, into: &mut Batch) {
        match &self.deal {
            Dealt::Global(deal) => {
                deal.run(batches.clone(), self.k(), into);
                if let Some(exchanges) = self.exchanges(deal) {
                    exchanges.put(deal, batches, self.k(), into);
                }
            }
            Dealt::Local(deal) => deal.run(batches, self.k(), into),
        }
    }

    /// Batch `index` by itself, without its place in an update (that needs [`Epoch::scan`]). O(B + strata).
    pub fn record(&self, index: u64) -> Record {
        let mut batch = Batch::default();
        self.run(index..index + 1, &mut batch);
        self.record_of(index, &batch.rows, &batch.strata())
    }

    fn record_of(&self, index: u64, rows: &[u64], stratum: &[u32]) -> Record {
        let mut histogram = vec![0u64; self.score.groups()];
        for &h in stratum {
            histogram[self.all.score_groups[h as usize] as usize] += 1;
        }
        let (n_eff, x) = self.score.n_eff(&histogram);
        let score = n_eff / self.all.information_threshold;
        let (rows, stratum) = (rows.to_vec(), stratum.to_vec());
        Record { index, rows, stratum, n_eff, x, score }
    }

    /// All rows, batch after batch. Runs on the current rayon pool; memory is the result.
    pub fn rows(&self, batches: Range<u64>, progress: &Progress) -> Result<Vec<u64>> {
        let run = (RUN_ROWS / self.size).max(1);
        let mut all = Vec::new();
        for chunk in batches.clone().step_by((CHUNK_ROWS / self.size).max(run) as usize) {
            let chunk = chunk..(chunk + (CHUNK_ROWS / self.size).max(run)).min(batches.end);
            self.prepare(chunk.clone());
            let firsts: Vec<u64> = chunk.clone().step_by(run as usize).collect();
            let rows_of = |&first: &u64| {
                progress.check()?;
                let mut work = Batch::default();
                self.run(first..(first + run).min(chunk.end), &mut work);
                Ok(work.rows)
            };
            let runs: Vec<Vec<u64>> = firsts.par_iter().map(rows_of).collect::<Result<_>>()?;
            runs.iter().for_each(|rows| all.extend_from_slice(rows));
        }
        Ok(all)
    }

    /// All batches in order: `prepare` is called in parallel; `each` one after the other, with the batch's place in the
    /// updates, while the next batches are dealt. Runs on the current rayon pool; memory is two chunks of batches and the
    /// batches of one update.
    pub fn scan<T: Send>(
        &self,
        progress: &Progress,
        prepare: impl Fn(Record) -> T + Sync,
        mut each: impl FnMut(T, Update) -> Result<()> + Send,
    ) -> Result<()> {
        let chunk = (CHUNK_ROWS / self.size).max(RUNS);
        let deal = |first: u64| -> Vec<Scored<T>> {
            self.prepare(first..first + chunk);
            let run = |r: u64| {
                let of_run = first + r * chunk / RUNS..(first + (r + 1) * chunk / RUNS).min(self.len());
                if of_run.is_empty() {
                    return Vec::new();
                }
                let mut work = Batch::default();
                self.run(of_run.clone(), &mut work);
                let size = self.size as usize;
                (of_run.zip(work.rows.chunks(size)).zip(work.strata().chunks(size)))
                    .map(|((i, rows), stratum)| {
                        let record = self.record_of(i, rows, stratum);
                        Scored { n_eff: record.n_eff, rows: rows.len() as u64, batch: prepare(record) }
                    })
                    .collect()
            };
            (0..RUNS).into_par_iter().map(run).collect::<Vec<_>>().into_iter().flatten().collect()
        };
        let mut updates = Updates::new(self.all.information_threshold, self.size);
        let mut dealt = deal(0);
        for first in (0..self.len()).step_by(chunk as usize) {
            let hand_on = || {
                dealt.into_iter().try_for_each(|Scored { batch, n_eff, rows }| {
                    progress.check()?;
                    updates.push(batch, n_eff, rows).try_for_each(|(batch, update)| each(batch, update))
                })
            };
            let (done, next) = rayon::join(hand_on, || deal(first + chunk));
            done?;
            dealt = next;
        }
        updates.finish().try_for_each(|(batch, update)| each(batch, update))
    }
}

/// A batch that waits for its place in the updates.
struct Scored<T> {
    batch: T,
    n_eff: f64,
    rows: u64,
}
