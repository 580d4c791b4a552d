//! `Plan`: look-ups, weights, new rows.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use batchwright::Error;
use batchwright::batches::sizes::Sizes;
use batchwright::kit::ids::{NONE, RowType};
use batchwright::plan as core;
use batchwright::plan::Dealer;
use batchwright::runtime::Policy;
use numpy::{PyArray1, PyArrayDescr};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{self, array};
use crate::epoch::Epoch;
use crate::error::Result;
use crate::runtime::{Accumulator, LoaderChoice, Score, to_python};
use crate::table::Table;
use crate::wait::long;

/// A plan that has been opened.
pub struct Opened {
    pub plan: Arc<core::Plan>,
    pub dealer: Dealer,
}

/// A plan on disk. Opening reads plan.json and footers; tables are mapped when they are needed.
///
/// Pickles as its path and id: the copy opens itself at its first use and refuses a plan that has changed meanwhile. Safe to use
/// after a fork: no thread outlives a call.
#[pyclass(frozen, weakref, module = "batchwright")]
pub struct Plan {
    path: PathBuf,
    /// What a pickled plan must still be.
    id: Option<String>,
    /// The fold that it is without.
    fold: Option<u32>,
    opened: OnceLock<Opened>,
}

impl Plan {
    pub fn opened(&self) -> batchwright::Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let plan = core::Plan::open(&self.path)?;
        let plan = Arc::new(match self.fold {
            None => plan,
            Some(fold) => plan.fold(fold)?,
        });
        let now = &plan.manifest().plan;
        if self.id.as_ref().is_some_and(|id| id != now) {
            let reason = format!(
                "has changed: it is plan {}, not {}",
                short(now),
                self.id.as_deref().map_or("", short)
            );
            let help =
                "open it again in the process that began, or put back the plan that training began with";
            return Err(Error::plan(&self.path, reason, help));
        }
        let dealer = Dealer::new(plan.clone())?;
        Ok(self.opened.get_or_init(|| Opened { plan, dealer }))
    }

    pub fn core(&self) -> batchwright::Result<&Arc<core::Plan>> {
        self.opened().map(|o| &o.plan)
    }

    pub fn manifest(&self) -> batchwright::Result<&batchwright::format::Manifest> {
        self.core().map(|plan| plan.manifest())
    }

    fn not_in_a_fold(&self) -> batchwright::Result<()> {
        match self.fold {
            None => Ok(()),
            Some(fold) => {
                let reason = format!("this plan is without fold {fold} already");
                Err(Error::config("fold", reason, "ask the plan that was opened"))
            }
        }
    }

    /// A look-up by row.
    fn look_up<T: numpy::Element>(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        f: impl Fn(&batchwright::format::samples::Samples, u64) -> T + Sync,
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
pub fn paths(any: &Bound<'_, PyAny>) -> Result<Vec<String>> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    if let Ok(one) = any.extract::<PathBuf>() {
        return Ok(vec![text(one)]);
    }
    Ok(any.extract::<Vec<PathBuf>>()?.into_iter().map(text).collect())
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (path, verify = false))]
    fn new(py: Python<'_>, path: PathBuf, verify: bool) -> Result<Plan> {
        Plan::open(py, path, verify)
    }

    /// Opens the plan in this directory and checks plan.json, file sizes and footers (milliseconds); with `verify` also the hash
    /// of every file. Raises PlanError.
    #[staticmethod]
    #[pyo3(signature = (path, verify = false))]
    fn open(py: Python<'_>, path: PathBuf, verify: bool) -> Result<Plan> {
        // Workers may have another working directory.
        let path = std::path::absolute(&path).unwrap_or(path);
        let plan = Plan { path, id: None, fold: None, opened: OnceLock::new() };
        let core = py.detach(|| plan.core().cloned())?;
        if verify {
            long(py, move |_| core.verify())?;
        }
        Ok(plan)
    }

    #[staticmethod]
    #[pyo3(signature = (path, id, fold = None))]
    fn _reopen(path: PathBuf, id: String, fold: Option<u32>) -> Plan {
        Plan { path, id: Some(id), fold, opened: OnceLock::new() }
    }

    #[expect(clippy::type_complexity, reason = "what pickle asks for")]
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> Result<(Bound<'py, PyAny>, (PathBuf, String, Option<u32>))> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => self.manifest()?.plan.clone(),
        };
        Ok((py.get_type::<Plan>().getattr("_reopen")?, (self.path.clone(), id, self.fold)))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> Result<bool> {
        let other = other.cast::<Plan>().ok();
        Ok(match other {
            Some(other) => self.manifest()?.plan == other.get().manifest()?.plan,
            None => false,
        })
    }

    fn __hash__(&self) -> Result<u64> {
        let id = &self.manifest()?.plan;
        Ok(id.get(..15).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0))
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("batchwright._calls")?.getattr("face")?.call1((slf,))
    }

    /// Copies the plan to a new directory, whole or not at all, and opens it there: keeps one that lies in a temporary folder.
    fn save(&self, py: Python<'_>, path: PathBuf) -> Result<Plan> {
        let plan = self.core()?.clone();
        let out = path.clone();
        long(py, move |_| plan.save(&out))?;
        Plan::open(py, path, false)
    }

    /// The plan as an HTML page, which a notebook shows: `batchwright.report` of it, with the same arguments.
    #[pyo3(signature = (out = None, **options))]
    fn report<'py>(
        slf: &Bound<'py, Self>,
        out: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("batchwright.functions")?.getattr("report")?.call((slf, out), options)
    }

    /// A table of the plan by its name in docs/format.md ("samples", "modalities", "strata", ...), mapped into memory. Raises ConfigError for
    /// a name that no table has, and for a table that this plan has not.
    fn table(&self, name: &str) -> Result<Table> {
        Table::open(self.core()?, name)
    }

    fn __repr__(&self) -> Result<String> {
        let m = self.manifest()?;
        let fold = self.fold.map_or(String::new(), |fold| format!(" without fold {fold}"));
        Ok(format!(
            "Plan({:?}{fold}, id={}, {} rows, {} modalities)",
            self.path,
            short(&m.plan),
            m.rows,
            m.modalities
        ))
    }

    #[getter]
    fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// 64 hex digits: equal rows, settings and seed give equal ids.
    #[getter]
    fn plan_id(&self) -> Result<&str> {
        Ok(&self.manifest()?.plan)
    }

    /// plan.json, see docs/format.md.
    #[getter(manifest)]
    fn plan_json<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        to_python(py, self.manifest()?)
    }

    /// Rows of the dataset, planned or not.
    #[getter]
    fn rows(&self) -> Result<u64> {
        Ok(self.manifest()?.rows)
    }

    /// Rows of an epoch.
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

    /// Dimensions of the feature space.
    #[getter]
    fn dims(&self) -> Result<u32> {
        Ok(self.manifest()?.dims)
    }

    /// Number of modalities, M.
    #[getter]
    fn modalities(&self) -> Result<u32> {
        Ok(self.manifest()?.modalities)
    }

    /// False: the data has no clear number of modalities.
    #[getter]
    fn clear(&self) -> Result<bool> {
        Ok(self.core()?.clear()?)
    }

    /// What sets each modality apart in the data's own columns, by its number; empty texts where nothing does.
    #[getter]
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.core()?.modalities()?.into_iter().map(|m| m.name).collect())
    }

    #[getter]
    fn strata(&self) -> Result<u32> {
        Ok(self.manifest()?.strata)
    }

    /// The recommended batch size, over all ranks and micro-batches.
    #[getter]
    fn batch_size(&self) -> Result<u32> {
        Ok(self.manifest()?.batch_size)
    }

    /// Batch sizes to choose from, ascending; all are multiples of the first.
    #[getter]
    fn candidates(&self) -> Result<Vec<u32>> {
        let mut sizes: Vec<u32> = self.manifest()?.candidates.iter().map(|c| c.batch_size).collect();
        sizes.sort_unstable();
        Ok(sizes)
    }

    /// Neighbouring rows that come into a batch together; 1: batches are dealt row by row. See docs/composition.md.
    #[getter]
    fn chunk(&self) -> Result<u64> {
        Ok(self.core()?.config()?.chunk())
    }

    /// Columns whose equal values come into different batches; empty: rows may meet duplicates. See docs/composition.md.
    #[getter]
    fn no_duplicates(&self) -> Result<Vec<String>> {
        Ok(self.core()?.config()?.batches.no_duplicates)
    }

    /// When which batch size holds in an epoch of a plan whose size changes in training (--size-schedule): (the first of its batches of the smallest
    /// candidate size, batch size), ascending. None: one size holds.
    fn size_schedule(&self, epoch: u32) -> Result<Option<Vec<(u64, u64)>>> {
        let core = self.core()?;
        let base = core.manifest().sizes().first().copied().unwrap_or(1);
        let sizes =
            |all: Sizes| all.of_epoch(epoch).into_iter().map(|(first, k)| (first, k * base)).collect();
        Ok(core.size_schedule()?.map(sizes))
    }

    /// The batch number `step`, counted over all epochs, of a plan whose batch size changes in training: (epoch, the first of its batches of the
    /// smallest candidate size, batch size). The state of a run is the plan and this number, on any number of ranks. Raises ConfigError for other
    /// plans. O(epochs).
    fn locate_step(&self, step: u64) -> Result<(u32, u64, u64)> {
        let core = self.core()?;
        let base = core.manifest().sizes().first().copied().unwrap_or(1);
        let found = core.size_schedule()?.and_then(|sizes| sizes.locate(step)).ok_or_else(|| {
            Error::config(
                "step",
                "this plan has one batch size",
                "batch i of an epoch is epoch(e)[i]; plan with --size-schedule",
            )
        })?;
        Ok((found.epoch, found.batch, found.k * base))
    }

    /// Epochs that were written. Any other is computed: see `epoch`.
    #[getter]
    fn epochs(&self) -> Result<u32> {
        Ok(self.manifest()?.epochs)
    }

    #[getter]
    fn seed(&self) -> Result<u64> {
        Ok(self.manifest()?.seed)
    }

    /// Effective rows that an update needs.
    #[getter]
    fn information_threshold(&self) -> Result<f64> {
        Ok(self.manifest()?.information_threshold)
    }

    /// Share of the gradient's variance that the score groups explain, before it fades.
    #[getter]
    fn modality_share(&self) -> Result<f64> {
        Ok(self.manifest()?.modality_share.value)
    }

    /// Score group of every stratum, shape (strata,).
    #[getter]
    fn score_groups(&self, py: Python<'_>) -> Result<Py<PyArray1<u32>>> {
        Ok(array(py, self.manifest()?.score_groups.clone()))
    }

    /// The Parquet files in row order, as paths relative to their deepest common directory.
    #[getter]
    fn inputs(&self) -> Result<Vec<&str>> {
        Ok(self.manifest()?.inputs.iter().map(|i| i.path.as_str()).collect())
    }

    /// Epoch `epoch` (from 0) in batches of `batch_size` rows: by default the recommended one, else any multiple of the smallest
    /// candidate. O(strata).
    #[pyo3(signature = (epoch, batch_size = None))]
    fn epoch(slf: &Bound<'_, Self>, epoch: u32, batch_size: Option<u32>) -> Result<Epoch> {
        let size = match batch_size {
            Some(size) => size,
            None => slf.get().batch_size()?,
        };
        Epoch::new(slf.clone().unbind(), slf.get().opened()?, epoch, size)
    }

    /// One rank's rows of batch after batch, read from the data by threads of its own: a `batchwright.stream.Stream`, which takes the
    /// same arguments.
    #[pyo3(signature = (data, columns = None, **options))]
    fn stream<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        columns: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("batchwright.stream")?.getattr("Stream")?.call((slf, data, columns), options)
    }

    /// Compares files, row groups and row counts with those that the plan was made from, with `fingerprints` also the bytes of the
    /// planned columns. Files, folders and globs, as for `batchwright plan`. Returns the files in row order, one for each entry of
    /// `inputs`. Raises PlanError naming the first difference.
    #[pyo3(signature = (paths, fingerprints = false))]
    fn check_dataset(
        &self,
        py: Python<'_>,
        paths: &Bound<'_, PyAny>,
        fingerprints: bool,
    ) -> Result<Vec<String>> {
        let (plan, inputs) = (self.core()?.clone(), self::paths(paths)?);
        long(py, move |engine| {
            let dataset =
                plan.open_dataset(&inputs, batchwright::source::Dataset::MEMORY, engine.progress())?;
            plan.check_dataset(&dataset, fingerprints)?;
            Ok(dataset.names().map(String::from).collect())
        })
    }

    /// Rows of a micro-batch of one rank: batch_size / (world_size x micro_steps). Raises ConfigError if it does not divide, or if a plan in
    /// the local order has no whole streams for every rank.
    #[pyo3(signature = (world_size, micro_steps = 1, batch_size = None))]
    fn check_world_size(&self, world_size: u32, micro_steps: u32, batch_size: Option<u32>) -> Result<u32> {
        let size = match batch_size {
            Some(size) => size,
            None => self.batch_size()?,
        };
        let parts = u64::from(world_size) * u64::from(micro_steps);
        if parts == 0 || !u64::from(size).is_multiple_of(parts) {
            let reason = format!(
                "a batch of {size} rows does not divide into {world_size} ranks x {micro_steps} micro-batches"
            );
            let help = "plan for it with `batchwright plan --world-size W --micro-steps A`, or choose another number";
            return Err(Error::config("world_size", reason, help).into());
        }
        self.core()?.check_world_size(world_size.into())?;
        Ok((u64::from(size) / parts) as u32)
    }

    /// Modality of every row, -1 for rows that are not planned. Shape as `rows`, as for all look-ups; O(rows asked for).
    fn modality(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<i64>>> {
        self.look_up(py, rows, |samples, row| signed(samples.modality(row)))
    }

    /// Stratum of every row, -1 for rows that are not planned.
    fn stratum(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<i64>>> {
        self.look_up(py, rows, |samples, row| signed(samples.stratum(row)))
    }

    /// Rows of every split or fold, by name, in order; with `--holdout` alone `train` and `holdout`. Empty: there are none. See docs/splits.md.
    #[getter]
    fn splits<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let plan = self.core()?;
        let names = py.detach(|| plan.split_names())?;
        let splits = PyDict::new(py);
        names.into_iter().try_for_each(|(name, _, rows)| splits.set_item(name, rows))?;
        Ok(splits)
    }

    /// Rows of this split or fold, ascending. Raises ConfigError if there is none of this name. O(rows of the dataset).
    fn split(&self, py: Python<'_>, name: &str) -> Result<Py<PyArray1<i64>>> {
        let plan = self.core()?;
        let rows = py.detach(|| plan.split(name))?;
        Ok(array(py, rows.into_iter().map(|row| row as i64).collect()))
    }

    /// The folds as scikit-learn's `cv=` and xgboost's `folds=` take them: a sequence of (rows to train on, rows to test), both ascending. The
    /// arrays are made when they are asked for. Raises ConfigError if the plan has no folds.
    fn folds(slf: &Bound<'_, Self>) -> Result<Folds> {
        let plan = slf.get();
        plan.not_in_a_fold()?;
        match plan.core()?.folds()? {
            0 => Err(Error::config("fold", "the plan has no folds", "plan with --folds 5").into()),
            folds => Ok(Folds { plan: slf.clone().unbind(), folds }),
        }
    }

    /// The plan for training without the rows of a fold: its epochs and everything that takes a plan go by the other rows (by time, by the earlier
    /// ones). Strata, weights and statistics are those of all rows. Raises ConfigError if there is no such fold. O(rows).
    fn fold(&self, py: Python<'_>, fold: u32) -> Result<Plan> {
        self.not_in_a_fold()?;
        let plan = self.core()?;
        let opened = py.detach(|| -> batchwright::Result<Opened> {
            let plan = Arc::new(plan.fold(fold)?);
            Ok(Opened { dealer: Dealer::new(plan.clone())?, plan })
        })?;
        Ok(Plan { path: self.path.clone(), id: None, fold: Some(fold), opened: OnceLock::from(opened) })
    }

    /// The fold that it is without.
    #[getter]
    fn _fold(&self) -> Option<u32> {
        self.fold
    }

    /// Lowest row of the group of every row, -1 where it is alone. `of`: "splits" (rows that splits keep together) or "no_duplicates" (rows that
    /// share a value of that column); by default the only groups that there are. Equal numbers are one group:
    /// `group[:, None] == group[None, :]` masks them in a loss. Raises ConfigError if there are none, or two kinds and none is named.
    #[pyo3(signature = (rows, of = None))]
    fn group(&self, py: Python<'_>, rows: &Bound<'_, PyAny>, of: Option<&str>) -> Result<Py<PyArray1<i64>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        let of = match of {
            None => None,
            Some("splits") => Some(core::Groups::Splits),
            Some("no_duplicates") => Some(core::Groups::NoDuplicates),
            Some(other) => {
                let reason = format!("`{other}` is no kind of group");
                return Err(Error::config("of", reason, "say \"splits\" or \"no_duplicates\"").into());
            }
        };
        let found = py.detach(|| plan.group_of(&rows, of))?;
        Ok(array(py, found.into_iter().map(|group| group.map_or(-1, |row| row as i64)).collect()))
    }

    /// Euclidean distance of every row to its modality's centre in feature space, NaN for rows that are not planned.
    fn distance(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<f32>>> {
        self.look_up(py, rows, |samples, row| samples.distance(row).unwrap_or(f32::NAN))
    }

    /// Where every row lies in its modality: 1 at the centre, 0 at the edge; NaN for rows that are not planned.
    fn centrality(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<f32>>> {
        self.look_up(py, rows, |samples, row| samples.centrality(row).unwrap_or(f32::NAN))
    }

    /// Weight of every row of the dataset, shape (rows,): mean 1 over each modality, 0 for rows that are not planned.
    fn weights(&self, py: Python<'_>, progress: f64) -> Result<Py<PyArray1<f32>>> {
        let plan = self.core()?.clone();
        Ok(array(py, long(py, move |engine| plan.row_weights(progress, engine.progress()))?))
    }

    /// Weights of these rows. If the plan normalises by batch, `rows` is the batch: their mean is 1.
    fn weights_for(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        progress: f64,
    ) -> Result<Py<PyArray1<f32>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        Ok(array(py, py.detach(|| plan.weights_of(&rows, progress))?))
    }

    /// Exponent of the weights: exp(beta (centrality - 1/2)), times what makes their mean 1.
    fn beta(&self, progress: f64) -> Result<f64> {
        Ok(self.core()?.beta(progress)?)
    }

    /// p_h / q_h of every row: undoes shares that the plan skews on purpose. None if it does not, 0 for rows not planned.
    fn loss_weight(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Option<Py<PyArray1<f32>>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        Ok(py.detach(|| plan.loss_weights_of(&rows))?.map(|w| array(py, w)))
    }

    /// What scores a batch by the histogram of its rows over the score groups.
    fn score(&self) -> Result<Score> {
        Score::new_from(self.opened()?.dealer.epochs().group_counts(), self.modality_share()?)
    }

    /// Rows of every score group, shape (groups,); rows that are not planned are not counted.
    fn histogram(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Py<PyArray1<i64>>> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        let histogram = py.detach(|| plan.histogram(&rows))?;
        Ok(array(py, histogram.into_iter().map(|n| n as i64).collect()))
    }

    /// At most `size` rows on which to measure the loss, stratified and the same in every run: of the split named val, valid, validation, dev or
    /// holdout, if there is one, else planned ones.
    #[pyo3(signature = (size = 1024))]
    fn probe<'py>(&self, py: Python<'py>, size: u64) -> Result<Bound<'py, PyAny>> {
        let plan = self.core()?;
        let rows = py.detach(|| plan.probe(size))?;
        Ok(arrays::rows(py, rows, plan.manifest().row_type))
    }

    /// The rows of all splits but the first, which are kept out of the batches, ascending; None if there are none, and with folds.
    fn holdout<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        let plan = self.core()?;
        let Some(held) = py.detach(|| plan.holdout())? else { return Ok(None) };
        let rows = held.into_iter().map(|(row, _)| row).collect();
        Ok(Some(arrays::rows(py, rows, plan.manifest().row_type)))
    }

    /// Where new rows belong: `points` of shape (n, dims), float32 or float64, as they are in the dataset's vector column. Raises
    /// ConfigError for plans whose rows are not one vector column: see `assign_dataset`.
    fn assign(&self, py: Python<'_>, points: &Bound<'_, PyAny>) -> Result<Assignment> {
        let (plan, points) = (self.core()?.clone(), arrays::points(points)?);
        let found = long(py, move |engine| plan.assigner()?.assign_points(&points, engine))?;
        Ok(Assignment::new(py, found))
    }

    /// Where the rows of another dataset with the plan's columns belong.
    fn assign_dataset(&self, py: Python<'_>, paths: &Bound<'_, PyAny>) -> Result<Assignment> {
        let (plan, inputs) = (self.core()?.clone(), self::paths(paths)?);
        let found = long(py, move |engine| {
            let dataset =
                plan.open_dataset(&inputs, batchwright::source::Dataset::MEMORY, engine.progress())?;
            plan.assigner()?.assign_dataset(&dataset, engine)
        })?;
        Ok(Assignment::new(py, found))
    }

    /// Where rows lie in the Parquet files. O(rows log row groups).
    fn locate(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> Result<Places> {
        let (plan, rows) = (self.core()?, arrays::counts("rows", rows)?);
        let places = py.detach(|| plan.locate(&rows))?;
        Ok(Places {
            file: array(py, places.iter().map(|p| p.file).collect()),
            row_group: array(py, places.iter().map(|p| p.row_group).collect()),
            offset: array(py, places.iter().map(|p| p.offset).collect()),
        })
    }

    /// All row groups of the dataset in row order.
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

    /// What the column `--id` calls the rows. Reads only pages of `paths`, the dataset, that hold some of them.
    fn ids(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        paths: &Bound<'_, PyAny>,
    ) -> Result<Vec<Option<String>>> {
        let (plan, rows, inputs) = (self.core()?.clone(), arrays::counts("rows", rows)?, self::paths(paths)?);
        long(py, move |engine| {
            plan.ids(
                &rows,
                &plan.open_dataset(&inputs, batchwright::source::Dataset::MEMORY, engine.progress())?,
                engine,
            )
        })
    }

    /// A choice among the plan's candidates for a run of so many epochs; `seed`: by default the plan's.
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

    /// An accumulator with the plan's threshold, for batches of this size (by default the recommended one).
    #[pyo3(signature = (batch_size = None, threshold = None))]
    fn accumulator(&self, batch_size: Option<u64>, threshold: Option<f64>) -> Result<Accumulator> {
        let m = self.manifest()?;
        let size = batch_size.unwrap_or(m.batch_size.into());
        Accumulator::new(threshold.unwrap_or(m.information_threshold), size, None)
    }
}

/// The folds of a plan: a sequence of (rows to train on, rows to test), each int64 of shape (n,), ascending. O(rows) an item.
#[pyclass(frozen, module = "batchwright")]
pub struct Folds {
    plan: Py<Plan>,
    folds: u32,
}

/// Rows to train on, and rows to test.
type Fold = (Py<PyArray1<i64>>, Py<PyArray1<i64>>);

#[pymethods]
impl Folds {
    fn __len__(&self) -> usize {
        self.folds as usize
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> Result<Fold> {
        let fold = if index < 0 { index + self.folds as isize } else { index };
        if !(0..self.folds as isize).contains(&fold) {
            let reason = format!("fold {index} of {}", self.folds);
            return Err(PyErr::new::<pyo3::exceptions::PyIndexError, _>(reason).into());
        }
        let plan = self.plan.get().core()?;
        let (train, test) = py.detach(|| plan.fold_rows(fold as u32))?;
        let signed = |rows: Vec<u64>| array(py, rows.into_iter().map(|row| row as i64).collect());
        Ok((signed(train), signed(test)))
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let builtins = slf.py().import("builtins")?;
        builtins.call_method1(
            "map",
            (slf.getattr("__getitem__")?, builtins.call_method1("range", (slf.get().folds,))?),
        )
    }
}

/// Where rows belong: arrays of shape (n,).
#[pyclass(frozen, get_all, module = "batchwright")]
pub struct Assignment {
    /// -1 for rows that the plan's filter or its rule for invalid rows leaves out.
    modality: Py<PyArray1<i64>>,
    stratum: Py<PyArray1<i64>>,
    /// Euclidean, to the modality's centre; NaN for rows that are left out.
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

/// Where rows lie: arrays of shape (n,).
#[pyclass(frozen, get_all, module = "batchwright")]
pub struct Places {
    /// Place in `Plan.inputs`.
    file: Py<PyArray1<u32>>,
    /// Row group in the file.
    row_group: Py<PyArray1<u32>>,
    /// Row in the row group.
    offset: Py<PyArray1<u64>>,
}

/// Row groups in row order: arrays of shape (row groups,).
#[pyclass(frozen, get_all, module = "batchwright")]
pub struct RowGroups {
    file: Py<PyArray1<u32>>,
    row_group: Py<PyArray1<u32>>,
    /// Global number of the first row.
    first_row: Py<PyArray1<u64>>,
    rows: Py<PyArray1<u64>>,
}
