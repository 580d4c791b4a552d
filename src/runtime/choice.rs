//! Which of the candidate batch sizes to train with, segment by segment.
//!
//! After every segment the loss of a fixed set of rows is measured; a [`Policy`] turns its drop and the segment's cost
//! into the choice of the next size. All numbers are kept in the [`Segment`]s of the log: the loss that the curve of the
//! segments before led to expect, the one observed, and the surprise between them.
//!
//! What may be expected (docs/algorithms.md): protection against a bad size, not a better one than the best fixed size.

use serde::{Deserialize, Serialize};

use super::policy::{Curve, LoaderPolicy, Policy, Ratchet, log_loss, rate};
use crate::kit::error::{Error, Result};

/// Segments per candidate that a run must have: with fewer, trying costs more than a fixed size.
const SEGMENTS_PER_CANDIDATE: u64 = 10;
/// Segments that an epoch is cut into, unless that makes them shorter than [`UPDATES`] batches of the largest size.
const PER_EPOCH: u64 = 20;
const UPDATES: u64 = 64;
/// A loss that is no number counts as this many times the one before.
const BLOWN_UP: f64 = 50.0;
/// Losses that blow up again and again stop here.
const LARGEST_LOSS: f64 = 1e300;

/// How a [`LoaderChoice`] chooses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choosing {
    /// In rows, ascending.
    pub batch_sizes: Vec<u64>,
    pub policy: Policy,
    pub seed: u64,
    /// In (0, 1]: factor on all that was learnt, every segment.
    pub discount: f64,
    /// In [0, 1]: probability that a segment tries another size.
    pub trial: f64,
    /// Length of a segment, in rows of batches of the chosen size.
    pub segment_rows: u64,
}

impl Choosing {
    /// With the defaults, for epochs of `rows` rows.
    pub fn new(batch_sizes: Vec<u64>, rows: u64) -> Self {
        let largest = batch_sizes.last().copied().unwrap_or(1);
        let segment_rows = rows.div_ceil(PER_EPOCH).max(UPDATES.saturating_mul(largest));
        Choosing { batch_sizes, policy: Policy::default(), seed: 0, discount: 0.9, trial: 0.1, segment_rows }
    }

    /// Can a run of `rows` rows in all be cut into enough segments?
    pub fn check(&self, rows: u64) -> Result<()> {
        let sizes = &self.batch_sizes;
        if sizes.is_empty() || sizes[0] == 0 || !sizes.is_sorted_by(|a, b| a < b) {
            let reason = format!("{sizes:?} are not ascending numbers of rows");
            return Err(Error::config(
                "batch_sizes",
                reason,
                "name every candidate once, the smallest first",
            ));
        }
        if !(self.discount > 0.0 && self.discount <= 1.0) {
            let reason = format!("{} is not in (0, 1]", self.discount);
            return Err(Error::config("discount", reason, "0.9 is the default; 1 forgets nothing"));
        }
        if !(0.0..=1.0).contains(&self.trial) {
            let reason = format!("{} is no probability", self.trial);
            return Err(Error::config("trial", reason, "0.1 is the default"));
        }
        if self.segment_rows == 0 {
            return Err(Error::config("segment_rows", "a segment has rows", "leave it out for the default"));
        }
        let (segments, need) = (rows / self.segment_rows, SEGMENTS_PER_CANDIDATE * sizes.len() as u64);
        if segments < need {
            return Err(Error::config(
                "segments",
                format!(
                    "a run of {rows} rows has {segments} segments of {} rows, too few to choose among {} batch sizes: {need} are needed",
                    self.segment_rows,
                    sizes.len()
                ),
                "train with one batch size, for more epochs, or with shorter segments (`segment_rows`)",
            ));
        }
        Ok(())
    }
}

/// What a segment brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// From 0.
    pub segment: u64,
    /// Place of its batch size among the candidates.
    pub candidate: usize,
    pub batch_size: u64,
    /// Rows trained on in batches of this size.
    pub rows: u64,
    /// Rows of batches of other sizes, which were on their way when the segment began.
    pub other_rows: u64,
    /// In the caller's unit, seconds or rows.
    pub cost: f64,
    /// Loss of the probe rows at its beginning.
    pub before: f64,
    /// The same at its end.
    pub observed: f64,
    /// The loss at its end that the segments before it led to expect.
    pub expected: f64,
    /// ln expected - ln observed, in nats: above 0 if the loss fell further than expected.
    pub surprise: f64,
    /// What the policy was told: a drop of the log loss per cost, for `extrapolation` the surprise per cost.
    pub reward: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Chooser {
    Policy(LoaderPolicy),
    Ratchet(Ratchet),
}

/// Chooses a batch size for every segment. [`LoaderChoice::begin`] with the first loss, [`LoaderChoice::advance`] after
/// every batch, [`LoaderChoice::update`] where that says that the segment is over. O(candidates) a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderChoice {
    choosing: Choosing,
    chooser: Chooser,
    curve: Curve,
    candidate: usize,
    /// At the beginning of the segment; None before [`LoaderChoice::begin`].
    loss: Option<f64>,
    rows: u64,
    other_rows: u64,
    log: Vec<Segment>,
}

impl LoaderChoice {
    /// For a run of `rows` rows in all.
    ///
    /// # Errors
    /// If `choosing` is not possible, or the run has fewer than 10 segments per candidate.
    pub fn new(choosing: Choosing, rows: u64) -> Result<Self> {
        choosing.check(rows)?;
        let k = choosing.batch_sizes.len();
        let chooser = match choosing.policy {
            Policy::Rate | Policy::Extrapolation => {
                Chooser::Policy(LoaderPolicy::new(k, choosing.seed, choosing.discount, choosing.trial))
            }
            Policy::Ratchet => Chooser::Ratchet(Ratchet::new(k, Ratchet::SMOOTHING, Ratchet::MIN_STAY)),
        };
        let mut choice = LoaderChoice {
            choosing,
            chooser,
            curve: Curve::default(),
            candidate: 0,
            loss: None,
            rows: 0,
            other_rows: 0,
            log: Vec::new(),
        };
        choice.choose();
        Ok(choice)
    }

    fn choose(&mut self) {
        self.candidate = match &mut self.chooser {
            Chooser::Policy(policy) => policy.choose(),
            Chooser::Ratchet(ratchet) => ratchet.choose(),
        };
    }

    pub fn choosing(&self) -> &Choosing {
        &self.choosing
    }

    /// Place of the size chosen for this segment.
    pub fn candidate(&self) -> usize {
        self.candidate
    }

    /// The size chosen for this segment, in rows.
    pub fn batch_size(&self) -> u64 {
        self.choosing.batch_sizes[self.candidate]
    }

    /// Finished segments.
    pub fn log(&self) -> &[Segment] {
        &self.log
    }

    /// The loss of the probe rows before the first segment.
    ///
    /// # Errors
    /// If training has begun, or the loss is no finite number.
    pub fn begin(&mut self, loss: f64) -> Result<()> {
        if self.loss.is_some() {
            let help = "tell the loss at the end of a segment with `update`";
            return Err(Error::config("loss", "training has already begun", help));
        }
        if !loss.is_finite() {
            let reason = format!("the loss of the untrained model is {loss}");
            return Err(Error::config("loss", reason, "look for NaN in the data or in the loss function"));
        }
        self.loss = Some(loss);
        Ok(())
    }

    /// A batch of `rows` rows was trained on, drawn as one of size `batch_size`. Is the segment over? Batches of other
    /// sizes than the chosen one do not count: they were on their way when it was chosen.
    pub fn advance(&mut self, rows: u64, batch_size: u64) -> bool {
        if batch_size == self.batch_size() {
            self.rows += rows;
        } else {
            self.other_rows += rows;
        }
        self.rows >= self.choosing.segment_rows
    }

    /// The segment ends with this loss of the probe rows after `cost` > 0, and the next size is chosen. A NaN or infinite
    /// loss counts as 50 times the one before.
    ///
    /// # Errors
    /// Before [`LoaderChoice::begin`], or if `cost` is not a positive number.
    pub fn update(&mut self, loss: f64, cost: f64) -> Result<&Segment> {
        let Some(before) = self.loss else {
            let help = "call `begin` with the loss of the untrained model";
            return Err(Error::config("loss", "there is none from before the segment", help));
        };
        positive("cost", cost)?;
        let observed = finite(loss, before);
        let expected = self.curve.expected(before, cost);
        let surprise = expected - log_loss(observed);
        let reward = match self.choosing.policy {
            Policy::Rate | Policy::Ratchet => rate(before, observed, cost),
            Policy::Extrapolation => surprise / cost,
        };
        self.curve.update(before, observed, cost);
        self.log.push(Segment {
            segment: self.log.len() as u64,
            candidate: self.candidate,
            batch_size: self.batch_size(),
            rows: self.rows,
            other_rows: self.other_rows,
            cost,
            before,
            observed,
            expected: libm::exp(expected),
            surprise,
            reward,
        });
        match &mut self.chooser {
            Chooser::Policy(policy) => policy.update(self.candidate, reward),
            Chooser::Ratchet(ratchet) => ratchet.update(reward),
        }
        (self.loss, self.rows, self.other_rows) = (Some(observed), 0, 0);
        self.choose();
        Ok(self.log.last().expect("a segment was just added"))
    }

    /// Continues from a state that was serialised.
    ///
    /// # Errors
    /// If the state belongs to other candidates, or to another way of choosing.
    pub fn restore(&mut self, state: LoaderChoice) -> Result<()> {
        let k = self.choosing.batch_sizes.len();
        let whole = match &state.chooser {
            Chooser::Policy(policy) => policy.candidates() == k,
            Chooser::Ratchet(ratchet) => ratchet.candidates() == k,
        };
        if state.choosing != self.choosing || !whole || state.candidate >= k {
            return Err(Error::config(
                "state",
                format!(
                    "it was saved by a choice with other settings: {}, not {}",
                    told(&state.choosing),
                    told(&self.choosing)
                ),
                "resume with the settings that training began with",
            ));
        }
        *self = state;
        Ok(())
    }
}

fn told(c: &Choosing) -> String {
    serde_json::to_string(c).expect("plain values")
}

/// The loss as it is used: a number that is none counts as 50 times the one before.
fn finite(loss: f64, before: f64) -> f64 {
    if loss.is_finite() { loss } else { (BLOWN_UP * before).min(LARGEST_LOSS) }
}

/// [`rate`] of losses as they were measured.
///
/// # Errors
/// If `before` is no finite number, or `cost` is not a positive one.
pub fn measured_rate(before: f64, after: f64, cost: f64) -> Result<f64> {
    if !before.is_finite() {
        let reason = format!("the loss before the segment is {before}");
        return Err(Error::config("loss", reason, "begin with a loss that is a number"));
    }
    positive("cost", cost)?;
    Ok(rate(before, finite(after, before), cost))
}

fn positive(name: &str, x: f64) -> Result<()> {
    if x > 0.0 && x.is_finite() {
        return Ok(());
    }
    Err(Error::config(name, format!("{x} is not a positive number"), "seconds or rows that a segment took"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choosing(policy: Policy) -> Choosing {
        Choosing { policy, segment_rows: 100, ..Choosing::new(vec![32, 64, 128], 1000) }
    }

    fn choice(policy: Policy) -> LoaderChoice {
        LoaderChoice::new(choosing(policy), 3000).expect("30 segments for 3 candidates")
    }

    #[test]
    fn defaults() {
        assert_eq!(Choosing::new(vec![32, 64], 1_000_000).segment_rows, 50_000);
        assert_eq!(Choosing::new(vec![32, 64], 1000).segment_rows, 64 * 64);
    }

    #[test]
    fn short_runs_are_refused() {
        let refused = |rows| LoaderChoice::new(choosing(Policy::Rate), rows).unwrap_err().to_string();
        assert!(refused(2999).contains("29 segments of 100 rows"), "{}", refused(2999));
        assert!(LoaderChoice::new(choosing(Policy::Rate), 3000).is_ok());
    }

    #[test]
    fn impossible_settings_are_refused() {
        let with = |change: fn(&mut Choosing)| {
            let mut c = choosing(Policy::Rate);
            change(&mut c);
            LoaderChoice::new(c, 1_000_000).unwrap_err().to_string()
        };
        assert!(with(|c| c.batch_sizes.clear()).starts_with("batch_sizes"));
        assert!(with(|c| c.batch_sizes = vec![64, 32]).starts_with("batch_sizes"));
        assert!(with(|c| c.batch_sizes = vec![0, 32]).starts_with("batch_sizes"));
        assert!(with(|c| c.discount = f64::NAN).starts_with("discount"));
        assert!(with(|c| c.trial = 1.1).starts_with("trial"));
        assert!(with(|c| c.segment_rows = 0).starts_with("segment_rows"));
    }

    #[test]
    fn segments_count_rows_of_the_chosen_size() {
        let mut c = choice(Policy::Rate);
        c.begin(2.0).unwrap();
        let over: Vec<bool> = (0..4).map(|_| c.advance(32, 32)).collect();
        assert_eq!(over, [false, false, false, true]);
        let first = c.update(1.5, 1.0).unwrap();
        assert_eq!((first.rows, first.other_rows, first.batch_size), (128, 0, 32));
        // Warm-up goes on to 64, but two batches of 32 are on their way.
        assert_eq!(c.batch_size(), 64);
        assert_eq!(
            [c.advance(32, 32), c.advance(32, 32), c.advance(64, 64), c.advance(64, 64)],
            [false, false, false, true]
        );
        let second = c.update(1.2, 1.0).unwrap();
        assert_eq!((second.rows, second.other_rows, second.before), (128, 64, 1.5));
    }

    #[test]
    fn losses_that_are_no_numbers_are_bad_losses() {
        let mut c = choice(Policy::Rate);
        assert!(c.update(1.0, 1.0).is_err(), "no loss from before");
        assert!(c.begin(f64::NAN).is_err());
        c.begin(2.0).unwrap();
        assert!(c.begin(2.0).is_err(), "begun twice");
        assert_eq!(c.update(f64::NAN, 1.0).unwrap().observed, 100.0);
        assert_eq!(c.update(f64::INFINITY, 1.0).unwrap().observed, 5000.0);
        for _ in 0..200 {
            let segment = c.update(f64::NAN, 1.0).unwrap();
            assert!(segment.observed.is_finite() && segment.reward.is_finite());
        }
        for cost in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(c.update(1.0, cost).is_err());
        }
    }

    #[test]
    fn resumed_is_as_if_never_stopped() {
        for policy in Policy::ALL {
            let (mut whole, mut saved) = (choice(policy), String::new());
            let step = |c: &mut LoaderChoice, i: u32| {
                let loss = 2.0 / (1.0 + 0.1 * f64::from(i)) + 0.05 * f64::from(i * 7 % 5);
                c.update(loss, 1.0 + f64::from(i % 3)).unwrap();
            };
            whole.begin(2.0).unwrap();
            for i in 0..40 {
                if i == 17 {
                    saved = serde_json::to_string(&whole).unwrap();
                }
                step(&mut whole, i);
            }
            let mut resumed = choice(policy);
            resumed.restore(serde_json::from_str(&saved).unwrap()).unwrap();
            (17..40).for_each(|i| step(&mut resumed, i));
            assert_eq!(resumed, whole);
            // Another policy does not take it.
            let other = Policy::ALL.into_iter().find(|p| *p != policy).unwrap();
            assert!(choice(other).restore(whole).is_err());
        }
    }
}
