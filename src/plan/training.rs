//! What a training loop asks a plan beside its batches: the weight of a row now, what a batch of any rows is worth, and
//! which rows to measure the loss on.

use crate::batches::batch::Batch;
use crate::batches::deal::Deal;
use crate::batches::score::Score;
use crate::batches::sizes::Sizes;
use crate::batches::weights::schedule::weight;
use crate::batches::weights::{Normalise, Schedule};
use crate::kernels::rows::RowIds;
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::kit::progress::Progress;
use crate::kit::rng::key;
use crate::runtime::{Choosing, LoaderChoice};

use super::Plan;
use crate::format::Kind;
use crate::format::holdout::HeldOut;

/// Word of the plan's seed that probe rows are dealt by.
const PROBE: u64 = 6;
/// Names of splits that the loss is measured on.
const PROBED: [&str; 5] = ["val", "valid", "validation", "dev", "holdout"];

impl Plan {
    /// Exponent of the row weights at `progress` in [0, 1].
    pub fn beta(&self, progress: f64) -> Result<f64> {
        if !(0.0..=1.0).contains(&progress) {
            let reason = format!("{progress} is not in [0, 1]");
            return Err(Error::config("progress", reason, "it is the share of training that is done"));
        }
        let weights = &self.settings()?.weights;
        Ok(weights.schedule.beta(progress, weights.strength))
    }

    /// Weights of these rows; 0 for rows that are not planned. If the plan normalises by batch, they are the batch: their
    /// mean is 1. O(rows asked for).
    pub fn weights_of(&self, rows: &[u64], progress: f64) -> Result<Vec<f32>> {
        let (beta, weights) = (self.beta(progress)?, &self.settings()?.weights);
        self.check_rows(rows)?;
        let samples = self.samples()?;
        let off = weights.schedule == Schedule::Off;
        // All look-ups first: they lie anywhere in memory, and without arithmetic in between the processor waits for many at once.
        let found: Vec<Option<f32>> = rows.iter().map(|&row| samples.centrality(row)).collect();
        let of = |c: Option<f32>| match c {
            None => 0.0,
            Some(_) if off => 1.0,
            Some(c) => weight(c.into(), beta),
        };
        let mut w: Vec<f64> = found.into_iter().map(of).collect();
        if weights.normalise == Normalise::Batch {
            let planned = w.iter().filter(|&&w| w > 0.0).count();
            let mean = w.iter().sum::<f64>() / planned.max(1) as f64;
            if mean > 0.0 {
                w.iter_mut().for_each(|w| *w /= mean);
            }
        }
        Ok(w.into_iter().map(|w| w as f32).collect())
    }

    /// Weight of every row of the dataset, mean 1 over each modality; 0 for rows that are not planned. O(rows).
    pub fn row_weights(&self, progress: f64, cancel: &Progress) -> Result<Vec<f32>> {
        let beta = self.beta(progress)?;
        let off = self.settings()?.weights.schedule == Schedule::Off;
        let samples = self.samples()?;
        let mut out = Vec::with_capacity(samples.rows() as usize);
        for i in 0..samples.chunks() {
            cancel.check()?;
            let (_, _, _, centrality) = samples.chunk(i);
            out.extend(centrality.iter().map(|c| match c {
                None => 0.0,
                Some(_) if off => 1.0,
                Some(c) => weight(c.into(), beta) as f32,
            }));
        }
        Ok(out)
    }

    /// p_h / q_h of these rows, which undoes shares that are skewed on purpose; 0 for rows that are not planned. None if
    /// the plan does not skew them.
    pub fn loss_weights_of(&self, rows: &[u64]) -> Result<Option<Vec<f32>>> {
        self.check_rows(rows)?;
        let Some(of_stratum) = self.epochs()?.loss_weights() else { return Ok(None) };
        let samples = self.samples()?;
        let of = |&row: &u64| match samples.stratum(row) {
            NONE => 0.0,
            h => of_stratum[h as usize] as f32,
        };
        Ok(Some(rows.iter().map(of).collect()))
    }

    /// What scores batches of this plan's rows.
    pub fn score(&self) -> Result<Score> {
        Ok(Score::new(&self.epochs()?.group_counts(), self.manifest().modality_share.value))
    }

    /// Rows of every score group; rows that are not planned are not counted.
    pub fn histogram(&self, rows: &[u64]) -> Result<Vec<u64>> {
        self.check_rows(rows)?;
        let groups = &self.manifest().score_groups;
        let mut histogram = vec![0; groups.iter().max().map_or(0, |&g| g as usize + 1)];
        let samples = self.samples()?;
        for &row in rows {
            match samples.stratum(row) {
                NONE => {}
                h => histogram[groups[h as usize] as usize] += 1,
            }
        }
        Ok(histogram)
    }

    /// (row, stratum) of the rows kept out of the batches, ascending by row; None if no split was asked for.
    pub fn holdout(&self) -> Result<Option<Vec<(u64, u32)>>> {
        let table = self.table(Kind::Holdout)?;
        Ok(table.is_some().then_some(self.held_out()?.into_iter().map(|h| (h.row, h.stratum)).collect()))
    }

    /// The same with what their cells hold; empty if no split was asked for.
    pub fn held_out(&self) -> Result<Vec<HeldOut>> {
        let table = self.table(Kind::Holdout)?;
        Ok(table.map(|t| crate::format::holdout::decode(&t)).transpose()?.unwrap_or_default())
    }

    /// At most `size` rows to measure the loss on, stratified, in random order: of the first split named `val`, `valid`, `validation`, `dev` or `holdout`,
    /// or of the planned rows if there is none; never of another split.
    pub fn probe(&self, size: u64) -> Result<Vec<u64>> {
        let epochs = self.epochs()?;
        let held;
        let names = self.split_names()?;
        let is_for_it = |(name, _, _): &(String, _, _)| PROBED.contains(&name.as_str());
        let split = names.iter().position(is_for_it);
        let rows = self.held_out()?.into_iter().filter(|h| Some(h.split as usize) == split);
        let rows: Vec<(u64, u32)> = rows.map(|h| (h.row, h.stratum)).collect();
        let (members, offsets) = match rows {
            rows if !rows.is_empty() => {
                held = by_stratum(rows);
                (RowIds::U64(&held.0), &held.1[..])
            }
            _ => (epochs.members, epochs.offsets),
        };
        let size = size.min(members.len() as u64);
        if size == 0 {
            return Ok(Vec::new());
        }
        let seed = key(self.manifest().seed, &[PROBE]);
        let mut batch = Batch::default();
        Deal::new(members, offsets, size, seed, 0, &[], false, None).batch(0, 1, &mut batch);
        Ok(batch.rows)
    }

    /// When which batch size is used; None: one size holds. O(strata).
    pub fn size_schedule(&self) -> Result<Option<Sizes>> {
        let (config, epochs) = (self.settings()?, self.epochs()?);
        config.size_schedule(epochs.epoch(0, epochs.base).len(), &self.manifest().sizes())
    }

    /// A choice among the plan's candidates for a run of so many epochs; `change` sets what is not the default.
    ///
    /// # Errors
    /// If the run is too short ([`LoaderChoice::new`]).
    pub fn loader_choice(&self, epochs: f64, change: impl FnOnce(&mut Choosing)) -> Result<LoaderChoice> {
        let m = self.manifest();
        if !(epochs > 0.0 && epochs.is_finite()) {
            let reason = format!("{epochs} is not a positive number");
            return Err(Error::config("epochs", reason, "say how often the training run sees every row"));
        }
        let mut sizes: Vec<u64> = m.candidates.iter().map(|c| c.batch_size.into()).collect();
        sizes.sort_unstable();
        let mut choosing = Choosing { seed: m.seed, ..Choosing::new(sizes, m.rows_planned) };
        change(&mut choosing);
        LoaderChoice::new(choosing, (m.rows_planned as f64 * epochs) as u64)
    }

    /// Errors if a row is none of the dataset's.
    pub fn check_rows(&self, rows: &[u64]) -> Result<()> {
        rows.iter().try_for_each(|&row| self.check_row(row))
    }
}

/// Rows grouped by stratum, ascending inside, and where each stratum that has some begins.
fn by_stratum(mut rows: Vec<(u64, u32)>) -> (Vec<u64>, Vec<u64>) {
    rows.sort_by_key(|&(row, h)| (h, row));
    let mut offsets = vec![0];
    for (i, pair) in rows.windows(2).enumerate() {
        if pair[0].1 != pair[1].1 {
            offsets.push(i as u64 + 1);
        }
    }
    offsets.push(rows.len() as u64);
    (rows.into_iter().map(|(row, _)| row).collect(), offsets)
}
