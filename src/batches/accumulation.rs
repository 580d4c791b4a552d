//! Batches into updates: gradients accumulate until their batches together hold `information_threshold` rows' worth of
//! information, then the optimizer steps.
//!
//! A batch weighs min(n_eff, 4 n). The update's gradient is sum w_b g_b / sum w_b with g_b the mean gradient of batch b:
//! the inverse-variance weights if its error is proportional to 1 / n_eff. A batch's share w_b / sum w is its
//! *coefficient*; they sum to 1 in each update. An update is forced after 8 ceil(threshold / batch size) batches, and at
//! the epoch's end.

use serde::{Deserialize, Serialize};

use crate::kit::error::{Error, Result};

/// A batch counts for at most this many times its rows.
const CAP: f64 = 4.0;
/// An update takes at most this many times the batches it should need.
const PATIENCE: f64 = 8.0;
/// Slack of the threshold against rounding.
const SLACK: f64 = 1e-9;

/// Decides batch by batch when to step: for planned epochs, and for a training loop on any other stream. Serialises, so
/// that training resumes inside an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accumulator {
    threshold: f64,
    longest: u64,
    /// Of the batches of the running update, or of the last one if it is complete.
    weights: Vec<f64>,
    total: f64,
    complete: bool,
}

impl Accumulator {
    /// `threshold` in rows, > 0; `batch_size` is the candidate's, it bounds the batches of an update.
    pub fn new(threshold: f64, batch_size: u64) -> Self {
        Self::with_longest(threshold, Self::longest_of(threshold, batch_size))
    }

    /// Most batches of an update that should need threshold / batch_size of them.
    pub fn longest_of(threshold: f64, batch_size: u64) -> u64 {
        (PATIENCE * (threshold / batch_size as f64).ceil()) as u64
    }

    /// With a given bound on the batches of an update.
    pub fn with_longest(threshold: f64, longest: u64) -> Self {
        Accumulator { threshold, longest: longest.max(1), weights: Vec::new(), total: 0.0, complete: true }
    }

    /// Errors if the threshold is no positive number, or a weight is none: a state may come from anywhere.
    pub fn check(&self) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if !positive(self.threshold) {
            let reason = format!("{} is not a positive number of rows", self.threshold);
            return Err(Error::config("threshold", reason, "4 x the batch size is the plan's default"));
        }
        if self.longest == 0 || !self.weights.iter().all(|&w| positive(w)) {
            let reason = "it is not one of an accumulator";
            return Err(Error::config("state", reason, "take it from `state` of an accumulator"));
        }
        Ok(())
    }

    /// The next batch, of `n` rows: (its weight, whether to update now).
    pub fn feed(&mut self, n_eff: f64, n: u64) -> (f64, bool) {
        if self.complete {
            (self.total, self.complete) = (0.0, false);
            self.weights.clear();
        }
        let weight = n_eff.min(CAP * n as f64);
        self.total += weight;
        self.weights.push(weight);
        self.complete = self.total >= self.threshold - SLACK || self.weights.len() as u64 >= self.longest;
        (weight, self.complete)
    }

    /// The stream ends, or pauses at an epoch's end: true if batches wait for their update, which is now complete.
    pub fn finish(&mut self) -> bool {
        !std::mem::replace(&mut self.complete, true)
    }

    /// In rows.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Most batches of an update.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// Changes the bound, when batches of another size follow.
    pub fn set_longest(&mut self, longest: u64) {
        self.longest = longest.max(1);
    }

    /// Batches that wait for their update.
    pub fn pending(&self) -> usize {
        if self.complete { 0 } else { self.weights.len() }
    }

    /// Sum of the weights of the running update, or of the last one if it is complete.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// weight / total of that update's batches, in order.
    pub fn coefficients(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.weights.iter().map(|weight| weight / self.total)
    }
}

/// A batch's place in the updates of its epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Counts from 0 in each epoch.
    pub update: u32,
    /// In (0, 1]: factor of the batch's mean gradient.
    pub coefficient: f64,
    pub ends_update: bool,
}

/// Gives each batch of an epoch its [`Update`]. Holds the batches of one update.
#[derive(Clone, Debug)]
pub struct Updates<T> {
    accumulator: Accumulator,
    /// The batches of the current update.
    window: Vec<T>,
    next: u32,
}

impl<T> Updates<T> {
    /// `threshold` and `batch_size` as for [`Accumulator::new`].
    pub fn new(threshold: f64, batch_size: u64) -> Self {
        Updates { accumulator: Accumulator::new(threshold, batch_size), window: Vec::new(), next: 0 }
    }

    /// Those of a whole epoch, given as (batch, n_eff, n).
    pub fn of(
        batches: impl IntoIterator<Item = (T, f64, u64)>,
        threshold: f64,
        batch_size: u64,
    ) -> Vec<(T, Update)> {
        let mut updates = Updates::new(threshold, batch_size);
        let mut all = Vec::new();
        for (batch, n_eff, n) in batches {
            all.extend(updates.push(batch, n_eff, n));
        }
        all.extend(updates.finish());
        all
    }

    /// Takes the next batch, of `n` rows. Gives the batches of its update in order if it is the last of them, else nothing.
    pub fn push(&mut self, batch: T, n_eff: f64, n: u64) -> impl Iterator<Item = (T, Update)> {
        self.window.push(batch);
        let complete = self.accumulator.feed(n_eff, n).1;
        self.take(complete)
    }

    /// The epoch ends: gives the batches that still wait.
    pub fn finish(&mut self) -> impl Iterator<Item = (T, Update)> {
        let waiting = self.accumulator.finish();
        self.take(waiting)
    }

    fn take(&mut self, complete: bool) -> impl Iterator<Item = (T, Update)> {
        let count = if complete { self.window.len() } else { 0 };
        let update = self.next;
        self.next += u32::from(complete);
        let coefficients = self.accumulator.coefficients();
        self.window.drain(..count).zip(coefficients).enumerate().map(move |(i, (batch, coefficient))| {
            (batch, Update { update, coefficient, ends_update: i + 1 == count })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(n_eff: &[f64], n: u64, threshold: f64, batch_size: u64) -> Vec<Update> {
        let batches = n_eff.iter().map(|&n_eff| ((), n_eff, n));
        Updates::of(batches, threshold, batch_size).into_iter().map(|(_, update)| update).collect()
    }

    /// Batches that score 0.2, 0.25, 0.2 and 0.35 of the threshold make one update with these coefficients.
    #[test]
    fn founders_note() {
        let scores = [0.2, 0.25, 0.2, 0.35];
        let got = updates(&scores.map(|s| s * 400.0), 100, 400.0, 100);
        for (update, score) in got.iter().zip(scores) {
            assert_eq!(update.update, 0);
            assert!((update.coefficient - score).abs() < 1e-12, "{update:?}");
        }
        assert_eq!(got.iter().map(|u| u.ends_update).collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn forced_updates_and_the_end() {
        // Worth next to nothing: an update every 8 ceil(128 / 100) = 16 batches, and one at the end.
        let got = updates(&[1e-3; 40], 100, 128.0, 100);
        let ends: Vec<usize> = (0..40).filter(|&i| got[i].ends_update).collect();
        assert_eq!(ends, [15, 31, 39]);
        assert_eq!(got[39].update, 2);
        assert!((got[39].coefficient - 1.0 / 8.0).abs() < 1e-12);
        assert!(updates(&[], 100, 128.0, 100).is_empty());
    }

    #[test]
    fn weights_are_capped() {
        let mut a = Accumulator::new(128.0, 32);
        assert_eq!(a.feed(1e9, 8), (32.0, false));
        assert_eq!(a.feed(96.0, 32), (96.0, true));
        assert_eq!(a.feed(96.0, 32), (96.0, false));
    }

    #[test]
    fn an_update_and_its_end() {
        let mut a = Accumulator::new(128.0, 32);
        assert!(!a.finish() && a.pending() == 0, "nothing waits");
        a.feed(32.0, 32);
        a.feed(96.0, 32);
        assert_eq!((a.pending(), a.total()), (0, 128.0));
        assert_eq!(a.coefficients().collect::<Vec<_>>(), [0.25, 0.75]);
        a.feed(64.0, 32);
        assert_eq!((a.pending(), a.total()), (1, 64.0));
        let saved = serde_json::to_string(&a).unwrap();
        assert!(a.finish() && !a.finish() && a.pending() == 0);
        assert_eq!(a.coefficients().collect::<Vec<_>>(), [1.0]);
        let mut resumed: Accumulator = serde_json::from_str(&saved).unwrap();
        resumed.check().unwrap();
        assert_eq!(resumed.feed(64.0, 32), (64.0, true));
    }

    #[test]
    fn impossible_states_are_refused() {
        for threshold in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Accumulator::new(threshold, 32).check().is_err());
        }
        let mut a = Accumulator::new(128.0, 32);
        a.weights.push(f64::NAN);
        assert!(a.check().is_err());
    }
}
