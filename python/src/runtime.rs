//! `Score`, `Accumulator`, `Ratchet`, `LoaderChoice`: the decisions taken while training.

use std::sync::{Mutex, MutexGuard, PoisonError};

use batchwright::Error;
use batchwright::batches::score;
use batchwright::runtime as core;
use batchwright::runtime::{Choosing, Policy};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arrays::{self, array};
use crate::error::Result;

/// A value as dicts, lists, numbers and texts.
pub fn to_python<'py>(py: Python<'py>, value: &impl Serialize) -> Result<Bound<'py, PyAny>> {
    Ok(py.import("json")?.call_method1("loads", (to_json(value),))?)
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values with text keys are always JSON")
}

/// A state that `to_python` made.
fn from_python<T: DeserializeOwned>(state: &Bound<'_, PyDict>) -> Result<T> {
    let text: String = state.py().import("json")?.call_method1("dumps", (state,))?.extract()?;
    from_json(&text)
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        let reason = format!("it cannot be read: {e}");
        Error::config("state", reason, "give back what `state()` of the same class returned").into()
    })
}

/// A panic inside leaves plain numbers behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn positive(name: &str, x: f64) -> Result<()> {
    if x > 0.0 {
        return Ok(());
    }
    Err(Error::config(name, format!("{x} is not above 0"), "give a number of rows").into())
}

pub fn policy(name: &str) -> Result<Policy> {
    Policy::named(name).ok_or_else(|| {
        let known = Policy::ALL.map(Policy::name).join(", ");
        Error::config("policy", format!("`{name}` is none"), format!("the policies are {known}")).into()
    })
}

/// How representative a batch is, from its histogram over groups alone (docs/algorithms.md).
#[pyclass(frozen, module = "batchwright")]
pub struct Score {
    score: score::Score,
    counts: Vec<u64>,
    share: f64,
}

impl Score {
    pub fn new_from(counts: Vec<u64>, share: f64) -> Result<Score> {
        score::Params { modality_share: Some(share), ..score::Params::default() }.check()?;
        if counts.iter().sum::<u64>() == 0 {
            return Err(Error::config("counts", "there are no rows", "give the rows of every group").into());
        }
        Ok(Score { score: score::Score::new(&counts, share), counts, share })
    }
}

#[pymethods]
impl Score {
    #[new]
    #[pyo3(signature = (counts, modality_share = 0.5))]
    fn new(counts: &Bound<'_, PyAny>, modality_share: f64) -> Result<Score> {
        Score::new_from(arrays::counts("counts", counts)?, modality_share)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyAny>, (Vec<u64>, f64)) {
        (py.get_type::<Score>().into_any(), (self.counts.clone(), self.share))
    }

    #[getter]
    fn groups(&self) -> usize {
        self.score.groups()
    }

    /// (effective rows, normalised distance x) of a batch with this histogram, shape (groups,). The modality share fades with
    /// progress: a max(0, 1 - 2 progress).
    #[pyo3(signature = (histogram, progress = 0.0))]
    fn n_eff(&self, histogram: &Bound<'_, PyAny>, progress: f64) -> Result<(f64, f64)> {
        let histogram = arrays::counts("histogram", histogram)?;
        if histogram.len() != self.groups() || histogram.iter().all(|&n| n == 0) {
            let reason = format!("{} rows in {} groups", histogram.iter().sum::<u64>(), histogram.len());
            let help = format!("count the rows of a batch in each of {} groups", self.groups());
            return Err(Error::config("histogram", reason, help).into());
        }
        if !(0.0..=1.0).contains(&progress) {
            let reason = format!("{progress} is not in [0, 1]");
            return Err(Error::config("progress", reason, "it is the share of training that is done").into());
        }
        Ok(self.score.n_eff_with(&histogram, score::faded(self.share, progress)))
    }
}

/// Says when gradients of several batches make an update: once their effective rows reach the threshold, after
/// 8 ceil(threshold / batch_size) batches, or at the epoch's end. The update's gradient is
/// sum(weight_b g_b) / sum(weight_b), g_b the mean gradient of batch b. Under data parallelism feed the same numbers (those of the
/// global batch) on every rank: every rank then decides alike.
#[pyclass(frozen, module = "batchwright")]
pub struct Accumulator {
    inner: Mutex<Accumulating>,
}

#[derive(Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Accumulating {
    batch_size: u64,
    /// Given, instead of computed from the batch size?
    fixed: bool,
    accumulator: core::Accumulator,
}

#[pymethods]
impl Accumulator {
    #[new]
    #[pyo3(signature = (threshold, batch_size, longest = None))]
    pub fn new(threshold: f64, batch_size: u64, longest: Option<u64>) -> Result<Accumulator> {
        positive("batch_size", batch_size as f64)?;
        if longest == Some(0) {
            return Err(
                Error::config("longest", "an update has batches", "leave it out for the default").into()
            );
        }
        let accumulator = match longest {
            None => core::Accumulator::new(threshold, batch_size),
            Some(longest) => core::Accumulator::with_longest(threshold, longest),
        };
        accumulator.check()?;
        let inner = Accumulating { batch_size, fixed: longest.is_some(), accumulator };
        Ok(Accumulator { inner: Mutex::new(inner) })
    }

    #[staticmethod]
    fn _from_json(text: &str) -> Result<Accumulator> {
        let inner: Accumulating = from_json(text)?;
        inner.accumulator.check()?;
        Ok(Accumulator { inner: Mutex::new(inner) })
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> Result<(Bound<'py, PyAny>, (String,))> {
        Ok((py.get_type::<Accumulator>().getattr("_from_json")?, (to_json(&*lock(&self.inner)),)))
    }

    #[getter]
    fn threshold(&self) -> f64 {
        lock(&self.inner).accumulator.threshold()
    }

    #[getter]
    fn batch_size(&self) -> u64 {
        lock(&self.inner).batch_size
    }

    #[setter]
    fn set_batch_size(&self, value: u64) -> Result<()> {
        positive("batch_size", value as f64)?;
        let mut inner = lock(&self.inner);
        inner.batch_size = value;
        if !inner.fixed {
            let longest = core::Accumulator::longest_of(inner.accumulator.threshold(), value);
            inner.accumulator.set_longest(longest);
        }
        Ok(())
    }

    #[getter]
    fn longest(&self) -> u64 {
        lock(&self.inner).accumulator.longest()
    }

    /// The next batch, of `n` rows worth `n_eff`: (its weight min(n_eff, 4 n), is the update complete?).
    fn feed(&self, n_eff: f64, n: u64) -> Result<(f64, bool)> {
        positive("n_eff", n_eff)?;
        positive("n", n as f64)?;
        Ok(lock(&self.inner).accumulator.feed(n_eff, n))
    }

    /// The epoch ends here: true if batches wait for an update, which is then complete.
    fn finish(&self) -> bool {
        lock(&self.inner).accumulator.finish()
    }

    /// Batches of an update that is not complete.
    #[getter]
    fn pending(&self) -> usize {
        lock(&self.inner).accumulator.pending()
    }

    /// Sum of the weights of the running update, or of the last one if it has just been completed.
    #[getter]
    fn total(&self) -> f64 {
        lock(&self.inner).accumulator.total()
    }

    /// weight / total of the batches of that update, in order.
    fn coefficients(&self, py: Python<'_>) -> Py<PyArray1<f64>> {
        let coefficients = lock(&self.inner).accumulator.coefficients().collect();
        array(py, coefficients)
    }

    /// JSON-able.
    fn state<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let text = to_json(&*lock(&self.inner));
        Ok(py.import("json")?.call_method1("loads", (text,))?)
    }

    /// Raises ConfigError if the state is not one of an accumulator.
    fn restore(&self, state: &Bound<'_, PyDict>) -> Result<()> {
        let new: Accumulating = from_python(state)?;
        new.accumulator.check()?;
        *lock(&self.inner) = new;
        Ok(())
    }
}

/// Chooses among settings 0 .. candidates by ascending size: never down, one up when the loss stops falling.
#[pyclass(frozen, module = "batchwright")]
pub struct Ratchet {
    inner: Mutex<core::Ratchet>,
}

#[pymethods]
impl Ratchet {
    #[new]
    #[pyo3(signature = (candidates, smoothing = core::Ratchet::SMOOTHING, min_stay = core::Ratchet::MIN_STAY))]
    fn new(candidates: usize, smoothing: f64, min_stay: u32) -> Result<Ratchet> {
        let ratchet = core::Ratchet::new(candidates, smoothing, min_stay);
        ratchet.check()?;
        Ok(Ratchet { inner: Mutex::new(ratchet) })
    }

    #[staticmethod]
    fn _from_json(text: &str) -> Result<Ratchet> {
        let ratchet: core::Ratchet = from_json(text)?;
        ratchet.check()?;
        Ok(Ratchet { inner: Mutex::new(ratchet) })
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> Result<(Bound<'py, PyAny>, (String,))> {
        Ok((py.get_type::<Ratchet>().getattr("_from_json")?, (to_json(&*lock(&self.inner)),)))
    }

    fn choose(&self) -> usize {
        lock(&self.inner).choose()
    }

    /// A segment ended. A NaN or infinite loss counts as 50 times the one before.
    fn update(&self, loss_before: f64, loss_after: f64, cost: f64) -> Result<()> {
        lock(&self.inner).update(core::measured_rate(loss_before, loss_after, cost)?);
        Ok(())
    }

    fn state<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let ratchet = lock(&self.inner).clone();
        to_python(py, &ratchet)
    }

    fn restore(&self, state: &Bound<'_, PyDict>) -> Result<()> {
        let new: core::Ratchet = from_python(state)?;
        new.check()?;
        let mut inner = lock(&self.inner);
        if new.candidates() != inner.candidates() {
            let reason = format!("it is one of {} candidates, not {}", new.candidates(), inner.candidates());
            return Err(
                Error::config("state", reason, "resume with the settings that training began with").into()
            );
        }
        *inner = new;
        Ok(())
    }
}

/// Chooses among batch sizes, segment by segment, by how fast the loss of a fixed set of rows (`Plan.probe`) falls.
///
/// `begin(loss)` before training; `advance(rows, batch_size)` after every batch; when that says that the segment is over,
/// `update(loss, cost)` with the loss of the probe rows now and what the segment cost (seconds or rows). The new size takes effect
/// with the next batch that is drawn; batches of the old size that are on their way do not count towards the new segment's length.
/// Under data parallelism every rank takes the same decision if all feed the same (reduced) loss and the same cost.
#[pyclass(frozen, module = "batchwright")]
pub struct LoaderChoice {
    inner: Mutex<core::LoaderChoice>,
    /// Rows of the run.
    rows: u64,
}

impl LoaderChoice {
    pub fn of(choice: core::LoaderChoice, rows: f64) -> Result<LoaderChoice> {
        Ok(LoaderChoice { inner: Mutex::new(choice), rows: rows as u64 })
    }
}

#[pymethods]
impl LoaderChoice {
    #[new]
    #[pyo3(signature = (batch_sizes, rows, epochs, *, policy = "rate", seed = 0, segment_rows = None, discount = 0.9, trial = 0.1))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python class")]
    fn new(
        batch_sizes: Vec<u64>,
        rows: u64,
        epochs: f64,
        policy: &str,
        seed: u64,
        segment_rows: Option<u64>,
        discount: f64,
        trial: f64,
    ) -> Result<LoaderChoice> {
        positive("epochs", epochs)?;
        let mut choosing = Choosing::new(batch_sizes, rows);
        choosing.policy = self::policy(policy)?;
        choosing.segment_rows = segment_rows.unwrap_or(choosing.segment_rows);
        let choosing = Choosing { seed, discount, trial, ..choosing };
        let all = rows as f64 * epochs;
        LoaderChoice::of(core::LoaderChoice::new(choosing, all as u64)?, all)
    }

    #[staticmethod]
    fn _from_json(text: &str, rows: u64) -> Result<LoaderChoice> {
        let saved: core::LoaderChoice = from_json(text)?;
        let mut choice = core::LoaderChoice::new(saved.choosing().clone(), rows)?;
        choice.restore(saved)?;
        Ok(LoaderChoice { inner: Mutex::new(choice), rows })
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> Result<(Bound<'py, PyAny>, (String, u64))> {
        let text = to_json(&*lock(&self.inner));
        Ok((py.get_type::<LoaderChoice>().getattr("_from_json")?, (text, self.rows)))
    }

    #[getter]
    fn batch_sizes(&self) -> Vec<u64> {
        lock(&self.inner).choosing().batch_sizes.clone()
    }

    /// The size chosen for this segment.
    #[getter]
    fn batch_size(&self) -> u64 {
        lock(&self.inner).batch_size()
    }

    /// Its place in `batch_sizes`.
    #[getter]
    fn candidate(&self) -> usize {
        lock(&self.inner).candidate()
    }

    #[getter]
    fn policy(&self) -> &'static str {
        lock(&self.inner).choosing().policy.name()
    }

    #[getter]
    fn segment_rows(&self) -> u64 {
        lock(&self.inner).choosing().segment_rows
    }

    /// Segments of the run.
    #[getter]
    fn segments(&self) -> u64 {
        self.rows / lock(&self.inner).choosing().segment_rows
    }

    /// The loss of the probe rows before the first segment; returns the first batch size.
    fn begin(&self, loss: f64) -> Result<u64> {
        let mut inner = lock(&self.inner);
        inner.begin(loss)?;
        Ok(inner.batch_size())
    }

    /// A batch of `rows` rows was trained on, drawn as one of `batch_size` (by default the chosen one): is the segment over?
    #[pyo3(signature = (rows, batch_size = None))]
    fn advance(&self, rows: u64, batch_size: Option<u64>) -> bool {
        let mut inner = lock(&self.inner);
        let size = batch_size.unwrap_or_else(|| inner.batch_size());
        inner.advance(rows, size)
    }

    /// The segment ends; returns the batch size of the next. A NaN or infinite loss counts as 50 times the one before.
    fn update(&self, loss: f64, cost: f64) -> Result<u64> {
        let mut inner = lock(&self.inner);
        inner.update(loss, cost)?;
        Ok(inner.batch_size())
    }

    /// One entry a segment: `segment`, `candidate`, `batch_size`, `rows` (of batches of this size), `other_rows` (of others, on
    /// their way when it began), `cost`, `before` and `observed` (losses), `expected` (the extrapolated loss), `surprise`
    /// (ln expected - ln observed: > 0 if the loss fell further), `reward` (what the policy was told).
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let log = lock(&self.inner).log().to_vec();
        to_python(py, &log)
    }

    /// JSON-able, with the log.
    fn state<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let choice = lock(&self.inner).clone();
        to_python(py, &choice)
    }

    /// Raises ConfigError if the state belongs to other candidates or another policy.
    fn restore(&self, state: &Bound<'_, PyDict>) -> Result<()> {
        let state: core::LoaderChoice = from_python(state)?;
        Ok(lock(&self.inner).restore(state)?)
    }
}
