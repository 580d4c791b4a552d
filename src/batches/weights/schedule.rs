//! Weight of a row from its centrality c and the training progress u: exp(beta(u) (c - 1/2)) x normaliser(beta).
//!
//! Centralities are ranks, spread evenly over (0, 1) in every modality, so the mean weight has a closed form,
//! sinh(beta/2) / (beta/2), and its inverse makes the mean 1 at any progress without a look at the rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Below this |beta| every weight is 1 to the last bit that matters, and the closed forms would divide 0 by 0.
const FLAT: f64 = 1e-6;

/// beta as a function of progress; b is the strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// b (1 - 2u): the centre first, uniform at half time, the periphery last.
    #[default]
    CentreToPeriphery,
    /// b max(0, 1 - 2u): the centre first, uniform from half time on.
    CentreThenUniform,
    /// -b max(0, 2u - 1): uniform until half time, then the periphery.
    PeripheryLate,
    /// All weights are 1.
    Off,
}

impl Schedule {
    pub const ALL: [Schedule; 4] =
        [Schedule::CentreToPeriphery, Schedule::CentreThenUniform, Schedule::PeripheryLate, Schedule::Off];

    /// beta at `progress` in [0, 1].
    pub fn beta(self, progress: f64, strength: f64) -> f64 {
        match self {
            Schedule::CentreToPeriphery => strength * (1.0 - 2.0 * progress),
            Schedule::CentreThenUniform => strength * (1.0 - 2.0 * progress).max(0.0),
            Schedule::PeripheryLate => -strength * (2.0 * progress - 1.0).max(0.0),
            Schedule::Off => 0.0,
        }
    }

    /// The schedule at 101 evenly spaced values of progress: the rows of `weights.arrow`.
    pub fn knots(self, strength: f64) -> Vec<Knot> {
        let knot = |i: u32| {
            let progress = f64::from(i) / 100.0;
            let beta = self.beta(progress, strength);
            Knot { progress, beta, normaliser: normaliser(beta), effective_share: kish(beta) }
        };
        (0..=100).map(knot).collect()
    }
}

/// The schedule at one value of progress.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knot {
    /// In [0, 1].
    pub progress: f64,
    pub beta: f64,
    /// Makes the mean weight of every modality 1.
    pub normaliser: f64,
    /// In (0, 1]: effective rows of a weighted batch over its rows.
    pub effective_share: f64,
}

/// (beta/2) / sinh(beta/2).
pub fn normaliser(beta: f64) -> f64 {
    if beta.abs() < FLAT { 1.0 } else { (beta / 2.0) / libm::sinh(beta / 2.0) }
}

/// Weight of a row of centrality `c` in (0, 1).
pub fn weight(c: f64, beta: f64) -> f64 {
    libm::exp(beta * (c - 0.5)) * normaliser(beta)
}

/// (sum w)^2 / (n sum w^2) of evenly spread centralities (Kish 1965): tanh(beta/2) / (beta/2).
pub fn kish(beta: f64) -> f64 {
    if beta.abs() < FLAT { 1.0 } else { 1.0 / ((beta / 2.0) / libm::tanh(beta / 2.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::weights::centrality::centrality_of_rank;

    #[test]
    fn bar_f7() {
        for (c, want) in [(0.05, 0.611815), (0.5, 0.959517), (0.95, 1.504823)] {
            assert!((weight(c, 1.0) - want).abs() < 1e-6);
        }
        for (b, want) in [(1.0, 0.924), (2.0, 0.762), (4.0, 0.482)] {
            assert!((kish(b) - want).abs() < 5e-4 && (kish(-b) - want).abs() < 5e-4);
        }
    }

    #[test]
    fn bar_f4() {
        for n in [1000u64, 4096, 20_001] {
            for beta in [-2.0, -1.0, -0.3, 0.0, 1e-7, 0.5, 1.0, 2.0] {
                let sum: f64 = (0..n).map(|r| weight(f64::from(centrality_of_rank(r, n)), beta)).sum();
                let mean = sum / n as f64;
                assert!((mean - 1.0).abs() < 1e-6, "n {n} beta {beta}: {mean}");
            }
        }
    }

    #[test]
    fn schedules() {
        let at = |schedule: Schedule| [0.0, 0.25, 0.5, 1.0].map(|u| schedule.beta(u, 2.0));
        assert_eq!(at(Schedule::CentreToPeriphery), [2.0, 1.0, 0.0, -2.0]);
        assert_eq!(at(Schedule::CentreThenUniform), [2.0, 1.0, 0.0, 0.0]);
        assert_eq!(at(Schedule::PeripheryLate), [0.0, 0.0, 0.0, -2.0]);
        assert_eq!(at(Schedule::Off), [0.0; 4]);
        for schedule in Schedule::ALL {
            let knots = schedule.knots(1.0);
            assert_eq!((knots.len(), knots[0].progress, knots[100].progress), (101, 0.0, 1.0));
            assert!(knots.iter().all(|k| k.normaliser > 0.9 && k.effective_share <= 1.0));
        }
    }
}
