//! How the next setting is chosen from what the segments before it gained.
//!
//! A *segment* is a stretch of training with one setting (a batch size, a number of accumulated batches), between two
//! measurements of a loss on the same rows; its reward is a number per unit of cost. [`LoaderPolicy`] is a discounted
//! bandit (Garivier & Moulines 2011) with keyed trials, [`Ratchet`] only ever goes up. [`Curve`] extrapolates the loss
//! (Holt 1957), so that what a segment brought can be compared with what was to be expected.

use serde::{Deserialize, Serialize};

use crate::kit::error::{Error, Result};
use crate::kit::rng::key;

/// Losses below count as this: their logarithm is taken.
const SMALLEST_LOSS: f64 = 1e-12;
/// Weight of the newest loss in the curve's level, and of the newest step in its trend.
const LEVEL: f64 = 0.5;
const TREND: f64 = 0.2;

/// What a segment is rewarded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The drop of the log loss, per cost.
    #[default]
    Rate,
    /// How much further the log loss fell than the extrapolated curve said, per cost.
    Extrapolation,
    /// The drop of the log loss, per cost; never down, one up when it stops ([`Ratchet`]).
    Ratchet,
}

impl Policy {
    pub const ALL: [Policy; 3] = [Policy::Rate, Policy::Extrapolation, Policy::Ratchet];

    pub fn name(self) -> &'static str {
        match self {
            Policy::Rate => "rate",
            Policy::Extrapolation => "extrapolation",
            Policy::Ratchet => "ratchet",
        }
    }

    pub fn named(name: &str) -> Option<Policy> {
        Policy::ALL.into_iter().find(|p| p.name() == name)
    }
}

pub(super) fn log_loss(loss: f64) -> f64 {
    libm::log(loss.max(SMALLEST_LOSS))
}

/// Drop of the log loss per cost.
pub fn rate(before: f64, after: f64, cost: f64) -> f64 {
    (log_loss(before) - log_loss(after)) / cost
}

/// The log loss as a line with a level and a trend per cost, both smoothed (Holt 1957).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// None before the first segment.
    level: Option<f64>,
    trend: f64,
}

impl Curve {
    /// The log loss that the segments before lead one to expect after one more of this cost; `before` is the loss it
    /// begins with.
    pub fn expected(&self, before: f64, cost: f64) -> f64 {
        self.level.unwrap_or_else(|| log_loss(before)) + self.trend * cost
    }

    /// Takes the segment in; call [`Curve::expected`] first.
    pub fn update(&mut self, before: f64, after: f64, cost: f64) {
        let expected = self.expected(before, cost);
        let last = self.level.unwrap_or_else(|| log_loss(before));
        let level = LEVEL * log_loss(after) + LEVEL * expected;
        self.trend = (1.0 - TREND) * self.trend + TREND * (level - last) / cost;
        self.level = Some(level);
    }
}

/// One pass through all settings, then the one with the best discounted mean reward; now and then another one is tried.
/// If none is rewarded any more, the next larger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderPolicy {
    seed: u64,
    /// In (0, 1]: factor on all that was learnt, every segment.
    discount: f64,
    /// In [0, 1]: probability of a trial.
    trial: f64,
    segment: u64,
    /// The setting in use, trials aside.
    current: usize,
    /// Discounted number of segments and sum of rewards of every setting.
    count: Vec<f64>,
    sum: Vec<f64>,
}

impl LoaderPolicy {
    /// `candidates` >= 1 settings, ascending.
    pub fn new(candidates: usize, seed: u64, discount: f64, trial: f64) -> Self {
        let zeros = vec![0.0; candidates];
        LoaderPolicy { seed, discount, trial, segment: 0, current: 0, count: zeros.clone(), sum: zeros }
    }

    /// In [0, 1].
    fn uniform(&self, tag: u64) -> f64 {
        key(self.seed, &[self.segment, tag]) as f64 / 2f64.powi(64)
    }

    /// The setting of the next segment. Once a segment: it may move on.
    pub fn choose(&mut self) -> usize {
        let k = self.count.len();
        if self.segment < k as u64 {
            self.current = self.segment as usize;
            return self.current;
        }
        let (mut best, mut reward) = (0, f64::NEG_INFINITY);
        for (i, (sum, count)) in self.sum.iter().zip(&self.count).enumerate() {
            if sum / count > reward {
                (best, reward) = (i, sum / count);
            }
        }
        if reward <= 0.0 {
            best = (self.current + 1).min(k - 1);
        }
        if self.uniform(1) < self.trial {
            return ((self.uniform(2) * k as f64) as usize).min(k - 1);
        }
        self.current = best;
        best
    }

    /// A segment with setting `candidate` ended.
    pub fn update(&mut self, candidate: usize, reward: f64) {
        for (count, sum) in self.count.iter_mut().zip(&mut self.sum) {
            *count *= self.discount;
            *sum *= self.discount;
        }
        self.count[candidate] += 1.0;
        self.sum[candidate] += reward;
        self.segment += 1;
    }

    pub(super) fn candidates(&self) -> usize {
        self.count.len()
    }
}

/// Never down; one up when the smoothed reward of the current setting is no longer positive. For numbers of accumulated
/// batches: their cost is counted in samples, so a larger one is never cheaper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratchet {
    candidates: usize,
    /// In (0, 1]: weight of the newest reward.
    smoothing: f64,
    /// Segments that a setting is kept at least.
    min_stay: u32,
    current: usize,
    stayed: u32,
    reward: Option<f64>,
}

impl Ratchet {
    pub const SMOOTHING: f64 = 0.2;
    pub const MIN_STAY: u32 = 4;

    /// `candidates` >= 1 settings, ascending.
    pub fn new(candidates: usize, smoothing: f64, min_stay: u32) -> Self {
        Ratchet { candidates, smoothing, min_stay, current: 0, stayed: 0, reward: None }
    }

    /// Errors if a setting or a number of the state is impossible: a state may come from anywhere.
    pub fn check(&self) -> Result<()> {
        let smoothing = self.smoothing > 0.0 && self.smoothing <= 1.0;
        if self.candidates == 0 || self.current >= self.candidates || !smoothing {
            let reason = format!("{} candidates with smoothing {}", self.candidates, self.smoothing);
            let help = "there is at least one candidate, and smoothing is in (0, 1]";
            return Err(Error::config("ratchet", reason, help));
        }
        Ok(())
    }

    pub fn choose(&self) -> usize {
        self.current
    }

    /// A segment with the chosen setting ended; `reward` as of [`rate`].
    pub fn update(&mut self, reward: f64) {
        let smoothed = match self.reward {
            None => reward,
            Some(before) => (1.0 - self.smoothing) * before + self.smoothing * reward,
        };
        self.reward = Some(smoothed);
        self.stayed += 1;
        if self.stayed >= self.min_stay && smoothed <= 0.0 && self.current + 1 < self.candidates {
            *self = Ratchet { current: self.current + 1, stayed: 0, reward: None, ..*self };
        }
    }

    pub fn candidates(&self) -> usize {
        self.candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for policy in Policy::ALL {
            assert_eq!(Policy::named(policy.name()), Some(policy));
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.name());
        }
    }

    #[test]
    fn warm_up_then_the_best() {
        let mut policy = LoaderPolicy::new(3, 0, 0.9, 0.0);
        for (k, reward) in [0.1, 0.3, 0.2].into_iter().enumerate() {
            assert_eq!(policy.choose(), k);
            policy.update(k, reward);
        }
        assert_eq!(policy.choose(), 1);
        // Nothing improves any more: one size up, then it stays at the largest.
        for k in [0, 1, 2] {
            policy.update(k, -1.0);
        }
        assert_eq!([policy.choose(), policy.choose()], [2, 2]);
    }

    #[test]
    fn trials_are_keyed_and_as_frequent_as_asked() {
        let trials = |seed| {
            let mut policy = LoaderPolicy::new(4, seed, 0.9, 0.1);
            let mut tried = Vec::new();
            for segment in 0..1000 {
                let k = policy.choose();
                if segment >= 4 && k != 0 {
                    tried.push((segment, k));
                }
                policy.update(k, if k == 0 { 1.0 } else { 0.1 });
            }
            tried
        };
        assert_eq!(trials(7), trials(7));
        assert_ne!(trials(7), trials(8));
        // 0.1 x 3/4 of 996 are 75; five standard deviations are 42.
        assert!((33..117).contains(&trials(7).len()), "{}", trials(7).len());
    }

    #[test]
    fn ratchet_stays_then_moves_up() {
        let mut ratchet = Ratchet::new(2, 0.2, 4);
        let mut seen = Vec::new();
        for reward in [-1.0, -1.0, -1.0, -1.0, 5.0, -9.0, -9.0, -9.0, -9.0, -9.0] {
            seen.push(ratchet.choose());
            ratchet.update(reward);
        }
        assert_eq!(seen, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_curve_that_falls_evenly_comes_to_be_expected() {
        let mut curve = Curve::default();
        let loss = |i: i32| libm::exp(-0.1 * f64::from(i));
        for i in 0..60 {
            curve.update(loss(i), loss(i + 1), 2.0);
        }
        assert!((curve.expected(loss(60), 2.0) + 6.1).abs() < 1e-3);
    }
}
