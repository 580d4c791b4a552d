//! `Plan`: look-ups, weights, new rows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use batchwright::Error;
use batchwright::epochs::Epochs;
use batchwright::ids::{NONE, RowType};
use batchwright::plan as core;
use batchwright::runtime::Policy;
use batchwright::source::Dataset;
use numpy::{PyArray1, PyArrayDescr};
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::arrays::{self, array};
use crate::epoch::Epoch;
use crate::error::Result;
use crate::runtime::{Accumulator, LoaderChoice, Score, to_python};
use crate::wait::long;

self_cell!(
    /// What all epochs share, with the plan that it borrows from.
    pub struct Dealer {
        owner: Arc<core::Plan>,
        #[covariant]
        dependent: Epochs,
    }
);

/// A plan that has been opened.
pub struct Opened {
    pub plan: Arc<core::Plan>,
    pub dealer: Arc<Dealer>,
}

#[pyclass(frozen, module = "batchwright")]
pub struct Plan {
    path: PathBuf,
    /// What a pickled plan must still be.
    id: Option<String>,
    opened: OnceLock<Opened>,
}

impl Plan {
    pub fn opened(&self) -> batchwright::Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let plan = Arc::new(core::Plan::open(&self.path)?);
        let now = &plan.manifest().plan;
        if self.id.as_ref().is_some_and(|id| id != now) {
            let reason = format!("has changed: it is plan {}, not {}", short(now), self.id.as_deref().map_or("", short));
            let help = "open it again in the process that began, or put back the plan that training began with";
            return Err(Error::plan(&self.path, reason, help));
        }
        let dealer = Arc::new(Dealer::try_new(plan.clone(), |plan| plan.epochs())?);
        Ok(self.opened.get_or_init(|| Opened { plan, dealer }))
    }

    pub fn core(&self) -> batchwright::Result<&Arc<core::Plan>> {
        self.opened().map(|o| &o.plan)
    }

    pub fn manifest(&self) -> batchwright::Result<&core::Manifest> {
        self.core().map(|plan| plan.manifest())
    }

    /// A look-up by row.
    fn look_up<T: numpy::Element>(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        f: impl Fn(&core::samples::Samples, u64) -> T + Sync,
    ) -> Result<Py<PyArray1<T>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        let found = py.detach(|| -> batchwright::Result<Vec<T>> {
            plan.check_rows(&rows)?;
            let samples = plan.samples()?;
            Ok(rows.iter().map(|&row| f(samples, row)).collect())
        })?;
        Ok(array(py, found))
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// -1 where there is none.
fn signed(id: u32) -> i64 {
    if id == NONE { -1 } else { id.into() }
}

/// A path or several.
fn paths(any: &Bound<'_, PyAny>) -> Result<Vec<String>> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    if let Ok(one) = any.extract::<PathBuf>() {
        return Ok(vec![text(one)]);
    }
    Ok(any.extract::<Vec<PathBuf>>()?.into_iter().map(text).collect())
}

#[pymethods]
impl Plan {
    #[staticmethod]
    #[pyo3(signature = (path, verify = false))]
    fn open(py: Python<'_>, path: PathBuf, verify: bool) -> Result<Plan> {
        // Workers may have another working directory.
        let path = std::path::absolute(&path).unwrap_or(path);
        let plan = Plan { path, id: None, opened: OnceLock::new() };
        let core = py.detach(|| plan.core().cloned())?;
        if verify {
            long(py, move |engine| engine.install(|| core.verify()))?;
        }
        Ok(plan)
    }

    #[staticmethod]
    fn _reopen(path: PathBuf, id: String) -> Plan {
        Plan { path, id: Some(id), opened: OnceLock::new() }
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> Result<(Bound<'py, PyAny>, (PathBuf, String))> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => self.manifest()?.plan.clone(),
        };
        Ok((py.get_type::<Plan>().getattr("_reopen")?, (self.path.clone(), id)))
    }

    fn __repr__(&self) -> Result<String> {
        let m = self.manifest()?;
        Ok(format!("Plan({:?}, id={}, {} rows, {} modalities)", self.path, short(&m.plan), m.rows, m.modalities))
    }

    #[getter]
    fn path(&self) -> &Path {
        &self.path
    }

    #[getter]
    fn plan_id(&self) -> Result<&str> {
        Ok(&self.manifest()?.plan)
    }

    #[getter(manifest)]
    fn plan_json<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        to_python(py, self.manifest()?)
    }

    #[getter]
    fn rows(&self) -> Result<u64> {
        Ok(self.manifest()?.rows)
    }

    #[getter]
    fn rows_planned(&self) -> Result<u64> {
        Ok(self.manifest()?.rows_planned)
    }

    #[getter]
    fn row_dtype<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyArrayDescr>> {
        Ok(match self.manifest()?.row_type {
            RowType::U32 => numpy::dtype::<u32>(py),
            RowType::U64 => numpy::dtype::<u64>(py),
        })
    }

    #[getter]
    fn dims(&self) -> Result<u32> {
        Ok(self.manifest()?.dims)
    }

    #[getter]
    fn modalities(&self) -> Result<u32> {
        Ok(self.manifest()?.modalities)
    }

    #[getter]
    fn strata(&self) -> Result<u32> {
        Ok(self.manifest()?.strata)
    }

    #[getter]
    fn batch_size(&self) -> Result<u32> {
        Ok(self.manifest()?.batch_size)
    }

    #[getter]
    fn candidates(&self) -> Result<Vec<u32>> {
        let mut sizes: Vec<u32> = self.manifest()?.candidates.iter().map(|c| c.batch_size).collect();
        sizes.sort_unstable();
        Ok(sizes)
    }

    #[getter]
    fn epochs(&self) -> Result<u32> {
        Ok(self.manifest()?.epochs)
    }

    #[getter]
    fn seed(&self) -> Result<u64> {
        Ok(self.manifest()?.seed)
    }

    #[getter]
    fn information_threshold(&self) -> Result<f64> {
        Ok(self.manifest()?.information_threshold)
    }

    #[getter]
    fn modality_share(&self) -> Result<f64> {
        Ok(self.manifest()?.modality_share.value)
    }

    #[getter]
    fn score_groups(&self, py: Python<'_>) -> Result<Py<PyArray1<u32>>> {
        Ok(array(py, self.manifest()?.score_groups.clone()))
    }

    #[getter]
    fn inputs(&self) -> Result<Vec<&str>> {
        Ok(self.manifest()?.inputs.iter().map(|i| i.path.as_str()).collect())
    }

    #[pyo3(signature = (epoch, batch_size = None))]
    fn epoch(slf: &Bound<'_, Self>, epoch: u32, batch_size: Option<u32>) -> Result<Epoch> {
        let size = match batch_size {
            Some(size) => size,
            None => slf.get().batch_size()?,
        };
        Epoch::new(slf.clone().unbind(), slf.get().opened()?, epoch, size)
    }

    #[pyo3(signature = (paths, fingerprints = false))]
    fn check_dataset(&self, py: Python<'_>, paths: &Bound<'_, PyAny>, fingerprints: bool) -> Result<Vec<String>> {
        let (plan, inputs) = (self.core()?.clone(), self::paths(paths)?);
        long(py, move |engine| {
            engine.install(|| {
                let dataset = Dataset::open(&inputs)?;
                plan.check_dataset(&dataset, fingerprints)?;
                Ok(dataset.names().map(String::from).collect())
            })
        })
    }

    #[pyo3(signature = (world_size, micro_steps = 1, batch_size = None))]
    fn check_world_size(&self, world_size: u32, micro_steps: u32, batch_size: Option<u32>) -> Result<u32> {
        let size = match batch_size {
            Some(size) => size,
            None => self.batch_size()?,
        };
        let parts = u64::from(world_size) * u64::from(micro_steps);
        if parts == 0 || !u64::from(size).is_multiple_of(parts) {
            let reason = format!("a batch of {size} rows does not divide into {world_size} ranks x {micro_steps} micro-batches");
            let help = "plan for it with `batchwright plan --world-size W --micro-steps A`, or choose another number";
            return Err(Error::config("world_size", reason, help).into());
        }
        Ok((u64::from(size) / parts) as u32)
    }

    fn modality(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<i64>>> {
        self.look_up(py, rows, |samples, row| signed(samples.modality(row)))
    }

    fn stratum(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<i64>>> {
        self.look_up(py, rows, |samples, row| signed(samples.stratum(row)))
    }

    fn distance(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<f32>>> {
        self.look_up(py, rows, |samples, row| samples.distance(row).unwrap_or(f32::NAN))
    }

    fn centrality(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<f32>>> {
        self.look_up(py, rows, |samples, row| samples.centrality(row).unwrap_or(f32::NAN))
    }

    fn weights(&self, py: Python<'_>, progress: f64) -> Result<Py<PyArray1<f32>>> {
        let plan = self.core()?.clone();
        Ok(array(py, long(py, move |engine| plan.row_weights(progress, engine.progress()))?))
    }

    fn weights_for(&self, py: Python<'_>, rows: &Bound<'_, PyAny>, progress: f64) -> Result<Py<PyArray1<f32>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        Ok(array(py, py.detach(|| plan.weights_of(&rows, progress))?))
    }

    fn beta(&self, progress: f64) -> Result<f64> {
        Ok(self.core()?.beta(progress)?)
    }

    fn loss_weight(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Option<Py<PyArray1<f32>>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        Ok(py.detach(|| plan.loss_weights_of(&rows))?.map(|w| array(py, w)))
    }

    fn score(&self) -> Result<Score> {
        Score::new_from(self.opened()?.dealer.borrow_dependent().group_counts(), self.modality_share()?)
    }

    fn histogram(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<i64>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        let histogram = py.detach(|| plan.histogram(&rows))?;
        Ok(array(py, histogram.into_iter().map(|n| n as i64).collect()))
    }

    #[pyo3(signature = (size = 1024))]
    fn probe<'py>(&self, py: Python<'py>, size: u64) -> Result<Bound<'py, PyAny>> {
        let plan = self.core()?;
        let rows = py.detach(|| plan.probe(size))?;
        Ok(arrays::rows(py, rows, plan.manifest().row_type))
    }

    fn holdout<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        let plan = self.core()?;
        let Some(held) = py.detach(|| plan.holdout())? else { return Ok(None) };
        let rows = held.into_iter().map(|(row, _)| row).collect();
        Ok(Some(arrays::rows(py, rows, plan.manifest().row_type)))
    }

    fn assign(&self, py: Python<'_>, points: &Bound<'_, PyAny>) -> Result<Assignment> {
        let (plan, points) = (self.core()?.clone(), arrays::points(points)?);
        let found = long(py, move |engine| plan.assigner()?.assign_points(&points, engine))?;
        Ok(Assignment::new(py, found))
    }

    fn assign_dataset(&self, py: Python<'_>, paths: &Bound<'_, PyAny>) -> Result<Assignment> {
        let (plan, inputs) = (self.core()?.clone(), self::paths(paths)?);
        let found = long(py, move |engine| {
            let dataset = engine.install(|| Dataset::open(&inputs))?;
            plan.assigner()?.assign_dataset(&dataset, engine)
        })?;
        Ok(Assignment::new(py, found))
    }

    fn locate(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Places> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        let places = py.detach(|| plan.locate(&rows))?;
        Ok(Places {
            file: array(py, places.iter().map(|p| p.file).collect()),
            row_group: array(py, places.iter().map(|p| p.row_group).collect()),
            offset: array(py, places.iter().map(|p| p.offset).collect()),
        })
    }

    fn row_groups(&self, py: Python<'_>) -> Result<RowGroups> {
        let plan = self.core()?;
        let (sources, files) = py.detach(|| Ok::<_, Error>((plan.sources()?, plan.source_files()?)))?;
        Ok(RowGroups {
            file: array(py, files.to_vec()),
            row_group: array(py, sources.iter().map(|s| s.row_group as u32).collect()),
            first_row: array(py, sources.iter().map(|s| s.first_row).collect()),
            rows: array(py, sources.iter().map(|s| s.rows).collect()),
        })
    }

    fn ids(&self, py: Python<'_>, rows: &Bound<'_, PyAny>, paths: &Bound<'_, PyAny>) -> Result<Vec<Option<String>>> {
        let (plan, rows, inputs) = (self.core()?.clone(), arrays::counts("rows", rows)?, self::paths(paths)?);
        long(py, move |engine| engine.install(|| plan.ids(&rows, &Dataset::open(&inputs)?)))
    }

    #[pyo3(signature = (epochs, *, policy = "rate", seed = None, segment_rows = None))]
    fn loader_choice(
        &self,
        epochs: f64,
        policy: &str,
        seed: Option<u64>,
        segment_rows: Option<u64>,
    ) -> Result<LoaderChoice> {
        let policy: Policy = crate::runtime::policy(policy)?;
        let choice = self.core()?.loader_choice(epochs, |choosing| {
            choosing.policy = policy;
            choosing.seed = seed.unwrap_or(choosing.seed);
            choosing.segment_rows = segment_rows.unwrap_or(choosing.segment_rows);
        })?;
        LoaderChoice::of(choice, self.manifest()?.rows_planned as f64 * epochs)
    }

    #[pyo3(signature = (batch_size = None, threshold = None))]
    fn accumulator(&self, batch_size: Option<u64>, threshold: Option<f64>) -> Result<Accumulator> {
        let m = self.manifest()?;
        let size = batch_size.unwrap_or(m.batch_size.into());
        Accumulator::new(threshold.unwrap_or(m.information_threshold), size, None)
    }
}

/// Where rows belong.
#[pyclass(frozen, get_all, module = "batchwright")]
pub struct Assignment {
    modality: Py<PyArray1<i64>>,
    stratum: Py<PyArray1<i64>>,
    distance: Py<PyArray1<f32>>,
}

impl Assignment {
    fn new(py: Python<'_>, found: core::Assignment) -> Self {
        Assignment {
            modality: array(py, found.modality.into_iter().map(signed).collect()),
            stratum: array(py, found.stratum.into_iter().map(signed).collect()),
            distance: array(py, found.distance),
        }
    }
}

/// Where rows lie in the Parquet files.
#[pyclass(frozen, get_all, module = "batchwright")]
pub struct Places {
    file: Py<PyArray1<u32>>,
    row_group: Py<PyArray1<u32>>,
    offset: Py<PyArray1<u64>>,
}

/// The row groups of the dataset.
#[pyclass(frozen, get_all, module = "batchwright")]
pub struct RowGroups {
    file: Py<PyArray1<u32>>,
    row_group: Py<PyArray1<u32>>,
    first_row: Py<PyArray1<u64>>,
    rows: Py<PyArray1<u64>>,
}
