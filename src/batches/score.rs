//! How representative a batch is, from its histogram over the score groups alone.
//!
//! With n rows, histogram k_h, shares p_h of the N planned rows and C = 1 - sum p_h^2,
//! x = n sum (k_h/n - p_h)^2 / (C (N-n)/(N-1)) is 1 on average for a simple random batch (the finite population factor
//! of Cochran 1977), 0 for a perfectly stratified one and large for a skewed one. If a share `a` of the gradient's
//! variance lies between the groups, the batch is worth n_eff = n / ((1-a) + a x) random rows. A plan's own batches all
//! score alike, up to rounding: scores earn their keep on streams that are not stratified.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kit::error::{Error, Result};

/// Largest share of the variance that may be ascribed to the groups: above it a stratified batch would count for
/// more than ten random ones.
pub const LARGEST_SHARE: f64 = 0.9;

/// Share of the gradient's variance taken for the groups' where no label tells.
pub const UNKNOWN_SHARE: f64 = 0.5;

/// How batches are scored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Information an update needs, in rows of a random batch, > 0; None: 4 x the batch size, with chunks the batch size.
    pub information_threshold: Option<f64>,
    /// In [0, 0.9]: share of the gradient's variance between score groups; None: predicted from the label, else 0.5.
    pub modality_share: Option<f64>,
}

impl Params {
    pub fn check(&self) -> Result<()> {
        if let Some(x) = self.information_threshold
            && !(x > 0.0 && x.is_finite())
        {
            return Err(Error::config(
                "scores.information_threshold",
                format!("{x} is not a positive number of rows"),
                "leave it out for 4 x the batch size",
            ));
        }
        if let Some(a) = self.modality_share
            && !(0.0..=LARGEST_SHARE).contains(&a)
        {
            return Err(Error::config(
                "scores.modality_share",
                format!("{a} is not in [0, {LARGEST_SHARE}]"),
                "leave it out to take it from the label",
            ));
        }
        Ok(())
    }

    /// The threshold in rows, one for all candidates. Batches that are dealt in chunks are not worth more than their rows, and each
    /// is an update.
    pub fn threshold(&self, batch_size: u64, in_chunks: bool) -> f64 {
        let batches = if in_chunks { 1.0 } else { 4.0 };
        self.information_threshold.unwrap_or(batches * batch_size as f64)
    }
}

/// Scores batches against the groups' shares of the planned rows.
#[derive(Clone, Debug)]
pub struct Score {
    rows: f64,
    share: Vec<f64>,
    /// 1 - sum of squared shares; 0 with a single group, where nothing can be said and x is 1.
    diversity: f64,
    a: f64,
}

impl Score {
    /// `counts`: planned rows of every group; `a` in [0, 0.9].
    pub fn new(counts: &[u64], a: f64) -> Self {
        let rows: f64 = counts.iter().map(|&n| n as f64).sum();
        let share: Vec<f64> = counts.iter().map(|&n| n as f64 / rows).collect();
        let diversity = 1.0 - share.iter().map(|p| p * p).sum::<f64>();
        Score { rows, share, diversity, a }
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.share.len()
    }

    /// (effective sample size, normalised distance x) of a non-empty batch with this histogram over the groups. O(groups).
    pub fn n_eff(&self, hist: &[u64]) -> (f64, f64) {
        self.n_eff_with(hist, self.a)
    }

    /// The same with another share, for example [`faded`].
    pub fn n_eff_with(&self, hist: &[u64], a: f64) -> (f64, f64) {
        assert_eq!(hist.len(), self.share.len(), "one count per group");
        let n: f64 = hist.iter().map(|&k| k as f64).sum();
        let x = if self.diversity > 0.0 {
            let left = (self.rows - n) / (self.rows - 1.0);
            let d2: f64 =
                hist.iter().zip(&self.share).map(|(&k, p)| (k as f64 / n - p) * (k as f64 / n - p)).sum();
            n * d2 / (self.diversity * left.max(1e-12))
        } else {
            1.0
        };
        (n / ((1.0 - a) + a * x), x)
    }
}

/// The groups explain less of the gradient as training goes on: a max(0, 1 - 2 progress). Plans carry progress 0.
pub fn faded(a: f64, progress: f64) -> f64 {
    a * (1.0 - 2.0 * progress).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{Permutation, key};

    const NOTE: [u64; 5] = [200, 100, 500, 50, 150];

    #[test]
    fn bar_f6() {
        let score = Score::new(&NOTE, 0.5);
        for (hist, n_eff, x) in [
            ([20, 10, 50, 5, 15], 200.0, 0.0),
            ([100, 0, 0, 0, 0], 1.306241, 152.111111),
            ([7, 3, 16, 2, 4], 60.529555, 0.057335),
        ] {
            let got = score.n_eff(&hist);
            assert!((got.0 - n_eff).abs() < 1e-6 && (got.1 - x).abs() < 1e-6, "{hist:?}: {got:?}");
        }
    }

    #[test]
    fn bar_f5() {
        let score = Score::new(&NOTE, 0.5);
        let ends = [200, 300, 800, 850, 1000];
        let mut sum = 0.0;
        for batch in 0..4000 {
            let permutation = Permutation::new(1000, key(5, &[batch]));
            let mut hist = [0u64; 5];
            for i in 0..64 {
                let row = permutation.index(i);
                hist[ends.partition_point(|&end| end <= row)] += 1;
            }
            sum += score.n_eff(&hist).1;
        }
        assert!((sum / 4000.0 - 1.0).abs() < 0.05, "{}", sum / 4000.0);
    }

    #[test]
    fn one_group_says_nothing() {
        assert_eq!(Score::new(&[1000], 0.5).n_eff(&[64]), (64.0, 1.0));
        assert_eq!(Score::new(&[1], 0.5).n_eff(&[1]), (1.0, 1.0));
        let all = Score::new(&NOTE, 0.5).n_eff(&NOTE);
        assert!(all.0.is_finite() && all.1 < 1e-6);
    }

    #[test]
    fn share_fades() {
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|u| faded(0.8, u)), [0.8, 0.4, 0.0, 0.0]);
    }

    #[test]
    fn checks() {
        assert!(Params::default().check().is_ok());
        for x in [0.0, f64::NAN, f64::INFINITY] {
            assert!(Params { information_threshold: Some(x), ..Params::default() }.check().is_err());
        }
        for a in [-0.1, 0.95, f64::NAN] {
            assert!(Params { modality_share: Some(a), ..Params::default() }.check().is_err());
        }
        assert_eq!(Params::default().threshold(32, false), 128.0);
        assert_eq!(Params::default().threshold(32, true), 32.0);
    }
}
