//! Batches into updates: gradients accumulate until their batches together hold `information_threshold` rows' worth of
//! information, then the optimizer steps.
//!
//! A batch weighs min(n_eff, 4 n). The update's gradient is sum w_b g_b / sum w_b with g_b the mean gradient of batch b:
//! the inverse-variance weights if its error is proportional to 1 / n_eff. A batch's share w_b / sum w is its
//! *coefficient*; they sum to 1 in each update. An update is forced after 8 ceil(threshold / batch size) batches, and at
//! the epoch's end.

use std::collections::VecDeque;

/// A batch counts for at most this many times its rows.
const CAP: f64 = 4.0;
/// An update takes at most this many times the batches it should need.
const PATIENCE: f64 = 8.0;
/// Slack of the threshold against rounding.
const SLACK: f64 = 1e-9;

/// Decides batch by batch when to step: what a training loop runs on a stream that was not planned.
#[derive(Clone, Debug)]
pub struct Accumulator {
    threshold: f64,
    longest: usize,
    sum: f64,
    batches: usize,
}

impl Accumulator {
    /// `threshold` in rows, > 0; `batch_size` is the candidate's, it bounds the batches of an update.
    pub fn new(threshold: f64, batch_size: u64) -> Self {
        Self::with_longest(threshold, (PATIENCE * (threshold / batch_size as f64).ceil()) as usize)
    }

    /// With a given bound on the batches of an update.
    pub fn with_longest(threshold: f64, longest: usize) -> Self {
        Accumulator { threshold, longest: longest.max(1), sum: 0.0, batches: 0 }
    }

    /// The next batch, of `n` rows: (its weight, whether to update now).
    pub fn feed(&mut self, n_eff: f64, n: u64) -> (f64, bool) {
        let weight = n_eff.min(CAP * n as f64);
        self.sum += weight;
        self.batches += 1;
        let fire = self.sum >= self.threshold - SLACK || self.batches >= self.longest;
        if fire {
            (self.sum, self.batches) = (0.0, 0);
        }
        (weight, fire)
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

/// Gives each (batch, n_eff, n) of an epoch, in order, its [`Update`]. Looks ahead by at most one update.
#[derive(Clone, Debug)]
pub struct Updates<T, I> {
    batches: I,
    accumulator: Accumulator,
    /// The batches of the current update and their weights.
    window: Vec<(T, f64)>,
    ready: VecDeque<(T, Update)>,
    next: u32,
}

impl<T, I: Iterator<Item = (T, f64, u64)>> Updates<T, I> {
    /// `threshold` and `batch_size` as for [`Accumulator::new`].
    pub fn new(batches: impl IntoIterator<IntoIter = I>, threshold: f64, batch_size: u64) -> Self {
        Updates {
            batches: batches.into_iter(),
            accumulator: Accumulator::new(threshold, batch_size),
            window: Vec::new(),
            ready: VecDeque::new(),
            next: 0,
        }
    }
}

impl<T, I: Iterator<Item = (T, f64, u64)>> Iterator for Updates<T, I> {
    type Item = (T, Update);

    fn next(&mut self) -> Option<(T, Update)> {
        if self.ready.is_empty() {
            for (batch, n_eff, n) in self.batches.by_ref() {
                let (weight, fire) = self.accumulator.feed(n_eff, n);
                self.window.push((batch, weight));
                if fire {
                    break;
                }
            }
            let sum: f64 = self.window.iter().map(|(_, weight)| weight).sum();
            let last = self.window.len().wrapping_sub(1);
            let update = self.next;
            self.ready.extend(self.window.drain(..).enumerate().map(|(i, (batch, weight))| {
                (batch, Update { update, coefficient: weight / sum, ends_update: i == last })
            }));
            self.next += 1;
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(n_eff: &[f64], n: u64, threshold: f64, batch_size: u64) -> Vec<Update> {
        let batches = n_eff.iter().map(|&n_eff| ((), n_eff, n));
        Updates::new(batches, threshold, batch_size).map(|(_, update)| update).collect()
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
}
