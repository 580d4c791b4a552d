//! `Epoch`: the batches of one epoch, read where they were written, else computed.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use batchwright::Error;
use batchwright::batches::accumulation::Update;
use batchwright::batches::batch::Batch as Dealing;
use batchwright::batches::epochs::Record;
use batchwright::format::batches::{Batch, Batches};
use batchwright::kit::ids::RowType;
use batchwright::plan::Dealt;
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::arrays::{self, array};
use crate::error::Result;
use crate::plan::{Opened, Plan};
use crate::wait::long;

/// One epoch in batches of one size: a read-only sequence of arrays of rows. Any batch by itself in O(batch size + strata).
///
/// An epoch that was written is read from the plan (arrays are views of the mapped file, which they keep alive), any other is
/// computed: the same bits. Pickles with its plan.
#[pyclass(frozen, module = "batchwright")]
pub struct Epoch {
    plan: Py<Plan>,
    core: Arc<batchwright::plan::Plan>,
    number: u32,
    size: u32,
    len: usize,
    row_type: RowType,
    written: Option<Batches>,
    dealt: Dealt,
    latest: Mutex<Latest>,
    scanned: OnceLock<Scan>,
}

/// The batches that were computed last: what is asked about next is their weights.
#[derive(Default)]
struct Latest {
    batches: Range<usize>,
    dealing: Dealing,
}

/// Rows that are computed in the calling thread, and remembered: a few milliseconds, a few MB.
const SHORT: usize = 1 << 16;

/// What only a scan of the whole epoch tells.
#[derive(Clone, Default)]
struct Scan {
    n_eff: Vec<f32>,
    x: Vec<f32>,
    score: Vec<f32>,
    update: Vec<u32>,
    coefficient: Vec<f32>,
    ends_update: Vec<bool>,
}

impl Epoch {
    pub fn new(plan: Py<Plan>, opened: &Opened, number: u32, size: u32) -> Result<Epoch> {
        let (core, dealer) = (opened.plan.clone(), opened.dealer.clone());
        let base = dealer.epochs().base;
        if size == 0 || !u64::from(size).is_multiple_of(base) {
            let reason = format!("{size} is no multiple of {base}, the smallest candidate of the plan");
            let help = "choose a multiple of it: larger batches are unions of smaller ones";
            return Err(Error::config("batch_size", reason, help).into());
        }
        let written = core.batches(size, number)?;
        let row_type = core.manifest().row_type;
        let dealt = dealer.epoch(number, size.into());
        let len = dealt.epoch().len() as usize;
        if let Some(written) = &written
            && written.len() != len
        {
            let reason =
                format!("is damaged: epoch {number} has {} batches of {size}, not {len}", written.len());
            return Err(Error::plan(
                core.path(),
                reason,
                "write the plan again (`batchwright plan ... --force`)",
            )
            .into());
        }
        let (latest, scanned) = (Mutex::default(), OnceLock::new());
        Ok(Epoch { plan, core, number, size, len, row_type, written, dealt, latest, scanned })
    }

    /// Counts from the end where it is negative, as sequences do.
    fn place(&self, index: isize) -> PyResult<usize> {
        let place = if index < 0 { index.checked_add_unsigned(self.len) } else { Some(index) };
        match place {
            Some(i) if (0..self.len as isize).contains(&i) => Ok(i as usize),
            _ => Err(PyIndexError::new_err(format!("batch {index} of an epoch of {} batches", self.len))),
        }
    }

    fn batch_at<'py>(slf: &Bound<'py, Self>, place: usize) -> Bound<'py, PyAny> {
        let (py, this) = (slf.py(), slf.get());
        if let Some(written) = &this.written
            && let Some(view) = arrays::view(written.get(place).rows, slf.clone().into_any())
        {
            return view;
        }
        this.computed_array(py, place..place + 1)
    }

    /// Calls `f` with the rows of a few batches that are not written.
    fn computed<T>(&self, batches: Range<usize>, f: impl FnOnce(&[u64]) -> T) -> T {
        let size = self.size as usize;
        // Nobody waits: of threads that ask at the same time one remembers its batches.
        let mut shared = if batches.len() * size <= SHORT { self.latest.try_lock().ok() } else { None };
        let mut own = Latest::default();
        let latest = shared.as_deref_mut().unwrap_or(&mut own);
        if batches.start < latest.batches.start || batches.end > latest.batches.end {
            latest.batches = 0..0;
            self.dealt.epoch().run(batches.start as u64..batches.end as u64, &mut latest.dealing);
            latest.batches = batches.clone();
        }
        let rows = &latest.dealing.rows;
        let [from, to] = [batches.start, batches.end].map(|i| (i - latest.batches.start) * size);
        f(&rows[from..to.min(rows.len())])
    }

    fn computed_array<'py>(&self, py: Python<'py>, batches: Range<usize>) -> Bound<'py, PyAny> {
        match self.row_type {
            RowType::U32 => {
                let narrow = |rows: &[u64]| rows.iter().map(|&row| row as u32).collect();
                let rows: Vec<u32> = py.detach(|| self.computed(batches, narrow));
                arrays::read_only(rows.into_pyarray(py))
            }
            RowType::U64 => {
                let rows = py.detach(|| self.computed(batches, <[u64]>::to_vec));
                arrays::read_only(rows.into_pyarray(py))
            }
        }
    }

    /// Calls `f` with the rows of a batch.
    fn with_rows<T>(&self, place: usize, f: impl FnOnce(&[u64]) -> T) -> T {
        match &self.written {
            Some(written) => f(&written.get(place).rows.iter().collect::<Vec<_>>()),
            None => self.computed(place..place + 1, f),
        }
    }

    /// A list of real numbers of a written batch, as a view; else `otherwise` of its rows.
    fn reals<'py>(
        slf: &Bound<'py, Self>,
        place: usize,
        written: impl Fn(Batch<'_>) -> Option<&[f32]>,
        otherwise: impl FnOnce(&[u64]) -> batchwright::Result<Option<Vec<f32>>> + Send,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        if let Some(numbers) = this.written.as_ref().and_then(|all| written(all.get(place))) {
            return Ok(Some(arrays::real_view(numbers, slf.clone().into_any())));
        }
        let numbers = py.detach(|| this.with_rows(place, otherwise))?;
        Ok(numbers.map(|numbers| array(py, numbers).into_bound(py).into_any()))
    }

    fn scan(&self, py: Python<'_>) -> Result<&Scan> {
        if let Some(scan) = self.scanned.get() {
            return Ok(scan);
        }
        let scan = match &self.written {
            Some(written) => {
                let mut scan = Scan::default();
                written
                    .iter()
                    .for_each(|b| scan.push(b.n_eff, b.x, b.score, b.update, b.coefficient, b.ends_update));
                scan
            }
            None => {
                let dealt = self.dealt.clone();
                long(py, move |engine| {
                    let mut scan = Scan::default();
                    let scores = |r: Record| [r.n_eff, r.x, r.score].map(|x| x as f32);
                    let push = |[n_eff, x, score]: [f32; 3], place: Update| {
                        let coefficient = place.coefficient as f32;
                        scan.push(n_eff, x, score, place.update, coefficient, place.ends_update);
                        Ok(())
                    };
                    dealt.epoch().scan(engine.progress(), scores, push)?;
                    Ok(scan)
                })?
            }
        };
        Ok(self.scanned.get_or_init(|| scan))
    }
}

impl Scan {
    fn push(&mut self, n_eff: f32, x: f32, score: f32, update: u32, coefficient: f32, ends_update: bool) {
        self.n_eff.push(n_eff);
        self.x.push(x);
        self.score.push(score);
        self.update.push(update);
        self.coefficient.push(coefficient);
        self.ends_update.push(ends_update);
    }
}

#[pymethods]
impl Epoch {
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> Result<(Bound<'py, PyAny>, (u32, u32))> {
        let this = slf.get();
        Ok((this.plan.bind(slf.py()).getattr("epoch")?, (this.number, this.size)))
    }

    fn __repr__(&self) -> String {
        let written = if self.written.is_some() { "written" } else { "computed" };
        format!("Epoch({}, {} batches of {}, {written})", self.number, self.len, self.size)
    }

    #[getter]
    fn plan(&self, py: Python<'_>) -> Py<Plan> {
        self.plan.clone_ref(py)
    }

    #[getter]
    fn epoch(&self) -> u32 {
        self.number
    }

    #[getter]
    fn batch_size(&self) -> u32 {
        self.size
    }

    /// Is it read from the plan?
    #[getter]
    fn written(&self) -> bool {
        self.written.is_some()
    }

    fn __len__(&self) -> usize {
        self.len
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        Self::batch(slf, index)
    }

    /// Rows of a batch in the order to be used, shape (n,), read-only. Contiguous slices and strides of 1/2, 1/4, 1/8 are
    /// stratified too. Raises IndexError.
    fn batch<'py>(slf: &Bound<'py, Self>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        Ok(Self::batch_at(slf, slf.get().place(index)?))
    }

    /// What the batch is worth, in random rows, at progress 0.
    fn n_eff(&self, py: Python<'_>, index: isize) -> PyResult<f64> {
        let place = self.place(index)?;
        Ok(py.detach(|| self.dealt.epoch().record(place as u64).n_eff))
    }

    /// Of every row of the batch, in its order.
    fn centrality<'py>(slf: &Bound<'py, Self>, index: isize) -> Result<Option<Bound<'py, PyAny>>> {
        let core = slf.get().core.clone();
        let of = |rows: &[u64]| {
            let samples = core.samples()?;
            Ok(Some(rows.iter().map(|&row| samples.centrality(row).unwrap_or(f32::NAN)).collect()))
        };
        Self::reals(slf, slf.get().place(index)?, |batch| batch.centrality, of)
    }

    /// Weight of every row of the batch, in its order.
    fn weights(&self, py: Python<'_>, index: isize, progress: f64) -> Result<Py<PyArray1<f32>>> {
        let place = self.place(index)?;
        let weights = py.detach(|| self.with_rows(place, |rows| self.core.weights_of(rows, progress)))?;
        Ok(array(py, weights))
    }

    /// p_h / q_h of every row of the batch; None if the plan does not skew shares.
    fn loss_weight<'py>(slf: &Bound<'py, Self>, index: isize) -> Result<Option<Bound<'py, PyAny>>> {
        let core = slf.get().core.clone();
        let of = |rows: &[u64]| core.loss_weights_of(rows);
        Self::reals(slf, slf.get().place(index)?, |batch| batch.loss_weight, of)
    }

    /// Batches start to stop (default: all) one after another, shape (n,), read-only: batch i is at
    /// [(i - start) * batch_size : (i - start + 1) * batch_size]. In long runs a batch costs half of `batch`. Raises IndexError.
    #[pyo3(signature = (start = 0, stop = None))]
    fn rows<'py>(slf: &Bound<'py, Self>, start: usize, stop: Option<usize>) -> Result<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let stop = stop.unwrap_or(this.len);
        if start > stop || stop > this.len {
            let reason = format!("batches {start} to {stop} of an epoch of {} batches", this.len);
            return Err(PyIndexError::new_err(reason).into());
        }
        let (batches, size) = (start..stop, this.size as usize);
        if let Some(written) = &this.written {
            let mut pieces = written.pieces();
            if let (Some(all), 0) = (pieces.next(), pieces.len()) {
                let part = all.slice((start * size).min(all.len())..(stop * size).min(all.len()));
                if let Some(view) = arrays::view(part, slf.clone().into_any()) {
                    return Ok(view);
                }
            }
            let rows = py.detach(|| batches.flat_map(|i| written.get(i).rows.iter()).collect());
            return Ok(arrays::rows(py, rows, this.row_type));
        }
        if batches.is_empty() {
            return Ok(arrays::rows(py, Vec::new(), this.row_type));
        }
        if batches.len() * size <= SHORT {
            return Ok(this.computed_array(py, batches));
        }
        let dealt = this.dealt.clone();
        let rows = long(py, move |engine| {
            let batches = start as u64..stop as u64;
            dealt.epoch().rows(batches, engine.progress())
        })?;
        Ok(arrays::rows(py, rows, this.row_type))
    }

    /// Scores of all batches and which update each belongs to. Scans an epoch that was not written once.
    fn updates(&self, py: Python<'_>) -> Result<Updates> {
        let s = self.scan(py)?.clone();
        Ok(Updates {
            n_eff: array(py, s.n_eff),
            x: array(py, s.x),
            score: array(py, s.score),
            update: array(py, s.update),
            coefficient: array(py, s.coefficient),
            ends_update: array(py, s.ends_update),
        })
    }
}

/// Arrays of shape (batches,), as in `batches/size-B/epoch-E.arrow`.
#[pyclass(frozen, get_all, module = "batchwright")]
pub struct Updates {
    n_eff: Py<PyArray1<f32>>,
    /// Normalised squared distance to the data's composition: 1 on average for a random batch.
    x: Py<PyArray1<f32>>,
    /// n_eff / information threshold.
    score: Py<PyArray1<f32>>,
    /// Number of the update that a batch belongs to, from 0.
    update: Py<PyArray1<u32>>,
    /// Factor of the batch's mean gradient; they sum to 1 in each update.
    coefficient: Py<PyArray1<f32>>,
    ends_update: Py<PyArray1<bool>>,
}
