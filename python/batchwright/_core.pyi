"""The compiled part of batchwright: plans, and the decisions taken while training. Import its names from `batchwright`.

Rows are global row numbers: files in byte order of their paths, then rows in file order. Wherever rows are taken, any one-dimensional
integer array-like will do; rows are given back as read-only arrays of the plan's row type (uint32, uint64 from 2^32 rows on).
Progress is the share of training that is done, in [0, 1]. Every method is thread-safe, releases the GIL where it computes, and
stops at Ctrl-C where it may take long.
"""

import pathlib
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchwright import results, stream

__version__: str

Rows: TypeAlias = NDArray[np.uint32] | NDArray[np.uint64]
Path: TypeAlias = str | PathLike[str]

class BatchwrightError(Exception):
    """What all errors of batchwright derive from. `str()` is the whole message with its remedy."""

    help: str
    """What to do about it; empty where the message already says it."""

class ConfigError(BatchwrightError, ValueError):
    """A setting or an argument is wrong, or two of them contradict each other."""

class InputError(BatchwrightError):
    """The dataset cannot be used as it is, or the operating system refused something."""

class PlanError(BatchwrightError):
    """A plan is damaged, of a newer format, changed, or does not belong to this dataset."""

def main(argv: Sequence[str]) -> int:
    """Runs the command line `batchwright`: the same program as the Rust binary. `argv[0]` is the program's name. Returns the exit
    code. Writes to the process's standard output and error, not to `sys.stdout`."""

def keywords(verb: str) -> str:
    """The settings of a verb as JSON: a list of {name, key, value, choices, list, help, heading}, in the order of its help."""

def call(verb: str, request: str, listen: Any | None = None, engine: Any | None = None) -> tuple[str, list[str]]:
    """Runs a verb: (what it prints with `--json`, warnings). `listen` is called with a list of (stage, unit, done, total), ten times
    a second at most; what it raises ends the run. `engine`: an object of `batchwright.engines`."""

def spool(stream: object, path: Path) -> int:
    """Writes an Arrow stream (a capsule of `__arrow_c_stream__`) to a Parquet file; returns its rows. The stream is used up."""

def spool_arrays(columns: Sequence[tuple[str, NDArray[Any]]], path: Path) -> int:
    """Writes arrays of NumPy of the same length, each with its name, to a Parquet file: one dimension makes a column of numbers or texts,
    two a column of vectors. Returns the rows."""

def run_task(job: bytes, task: bytes, threads: int = 1) -> bytes:
    """Does a task of a job, both as an engine was given them, on so many threads (0: one per core), without the GIL. The result goes
    to `tell.done` as it is; what fails in a task is in it. The last job stays open: the next of its tasks starts at once. Processes of
    different releases do not work together."""

@final
class Tell:
    """What an engine reports to while it runs: at least every 100 ms. A call raises RuntimeError once the run has ended, by Ctrl-C or
    because a task has failed: then the engine stops what it runs and lets the exception through."""

    def done(self, task: int, result: bytes) -> None:
        """The result of a task, by its place in the list. A second one of the same task is dropped."""

    def retried(self, task: int) -> None:
        """A task that was lost with its worker runs once more."""

    def running(self, tasks: int) -> None:
        """So many tasks are at work now."""

@final
class Folder:
    """Tasks as files in a directory that all machines see: `batchwright work DIR` does them, on any of them. A worker that gives no
    sign for `lease` seconds is lost, and its task free again. The same as `--engine folder:DIR`."""

    def __init__(self, path: Path, lease: float = 60.0) -> None: ...
    @property
    def path(self) -> pathlib.Path: ...
    @property
    def lease(self) -> float: ...

@final
class Plan:
    """A plan on disk. Opening reads plan.json and footers; tables are mapped when they are needed.

    Pickles as its path and id: the copy opens itself at its first use and refuses a plan that has changed meanwhile. Safe to use
    after a fork: no thread outlives a call."""

    def __new__(cls, path: Path, verify: bool = False) -> Plan: ...
    @staticmethod
    def open(path: Path, verify: bool = False) -> Plan:
        """Opens the plan in this directory and checks plan.json, file sizes and footers (milliseconds); with `verify` also the hash
        of every file. Raises PlanError."""

    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...
    def _repr_html_(self) -> str: ...
    def save(self, path: Path) -> Plan:
        """Copies the plan to a new directory, whole or not at all, and opens it there: keeps one that lies in a temporary folder."""

    def report(self, out: Path | None = None, **options: Any) -> results.Report:
        """The plan as an HTML page, which a notebook shows: `batchwright.report` of it, with the same arguments."""

    def table(self, name: str) -> Table:
        """A table of the plan by its name in docs/format.md ("samples", "modalities", "strata", ...), mapped into memory. Raises ConfigError for
        a name that no table has, and for a table that this plan has not."""

    @property
    def path(self) -> str: ...
    @property
    def plan_id(self) -> str:
        """64 hex digits: equal rows, settings and seed give equal ids."""

    @property
    def manifest(self) -> dict[str, Any]:
        """plan.json, see docs/format.md."""

    @property
    def rows(self) -> int:
        """Rows of the dataset, planned or not."""

    @property
    def rows_planned(self) -> int:
        """Rows of an epoch."""

    @property
    def row_dtype(self) -> np.dtype[np.uint32] | np.dtype[np.uint64]: ...
    @property
    def dims(self) -> int:
        """Dimensions of the feature space."""

    @property
    def modalities(self) -> int:
        """Number of modalities, M."""

    @property
    def clear(self) -> bool:
        """False: the data has no clear number of modalities."""

    @property
    def names(self) -> list[str]:
        """What sets each modality apart in the data's own columns, by its number; empty texts where nothing does."""

    @property
    def strata(self) -> int: ...
    @property
    def batch_size(self) -> int:
        """The recommended batch size, over all ranks and micro-batches."""

    @property
    def candidates(self) -> list[int]:
        """Batch sizes to choose from, ascending; all are multiples of the first."""

    @property
    def chunk(self) -> int:
        """Neighbouring rows that come into a batch together; 1: batches are dealt row by row. See docs/composition.md."""

    @property
    def no_duplicates(self) -> list[str]:
        """Columns whose equal values come into different batches; empty: rows may meet duplicates. See docs/composition.md."""

    def size_schedule(self, epoch: int) -> list[tuple[int, int]] | None:
        """When which batch size holds in an epoch of a plan whose size changes in training (--size-schedule): (the first of its batches of the smallest
        candidate size, batch size), ascending. None: one size holds."""

    def locate_step(self, step: int) -> tuple[int, int, int]:
        """The batch number `step`, counted over all epochs, of a plan whose batch size changes in training: (epoch, the first of its batches of the
        smallest candidate size, batch size). The state of a run is the plan and this number, on any number of ranks. Raises ConfigError for other
        plans. O(epochs)."""

    @property
    def epochs(self) -> int:
        """Epochs that were written. Any other is computed: see `epoch`."""

    @property
    def seed(self) -> int: ...
    @property
    def information_threshold(self) -> float:
        """Effective rows that an update needs."""

    @property
    def modality_share(self) -> float:
        """Share of the gradient's variance that the score groups explain, before it fades."""

    @property
    def score_groups(self) -> NDArray[np.uint32]:
        """Score group of every stratum, shape (strata,)."""

    @property
    def inputs(self) -> list[str]:
        """The Parquet files in row order, as paths relative to their deepest common directory."""

    def epoch(self, epoch: int, batch_size: int | None = None) -> Epoch:
        """Epoch `epoch` (from 0) in batches of `batch_size` rows: by default the recommended one, else any multiple of the smallest
        candidate. O(strata)."""

    def stream(self, data: Any, columns: Sequence[str] | None = None, **options: Any) -> stream.Stream:
        """One rank's rows of batch after batch, read from the data by threads of its own: a `batchwright.stream.Stream`, which takes the
        same arguments."""

    def check_dataset(self, paths: Path | Sequence[Path], fingerprints: bool = False) -> list[str]:
        """Compares files, row groups and row counts with those that the plan was made from, with `fingerprints` also the bytes of the
        planned columns. Files, folders and globs, as for `batchwright plan`. Returns the files in row order, one for each entry of
        `inputs`. Raises PlanError naming the first difference."""

    def check_world_size(self, world_size: int, micro_steps: int = 1, batch_size: int | None = None) -> int:
        """Rows of a micro-batch of one rank: batch_size / (world_size x micro_steps). Raises ConfigError if it does not divide, or if a plan in
        the local order has no whole streams for every rank."""

    def modality(self, rows: ArrayLike) -> NDArray[np.int64]:
        """Modality of every row, -1 for rows that are not planned. Shape as `rows`, as for all look-ups; O(rows asked for)."""

    def stratum(self, rows: ArrayLike) -> NDArray[np.int64]:
        """Stratum of every row, -1 for rows that are not planned."""

    @property
    def splits(self) -> dict[str, int]:
        """Rows of every split or fold, by name, in order; with `--holdout` alone `train` and `holdout`. Empty: there are none. See docs/splits.md."""

    def split(self, name: str) -> NDArray[np.int64]:
        """Rows of this split or fold, ascending. Raises ConfigError if there is none of this name. O(rows of the dataset)."""

    def folds(self) -> Folds:
        """The folds as scikit-learn's `cv=` and xgboost's `folds=` take them: a sequence of (rows to train on, rows to test), both ascending. The
        arrays are made when they are asked for. Raises ConfigError if the plan has no folds."""

    def fold(self, fold: int) -> Plan:
        """The plan for training without the rows of a fold: its epochs and everything that takes a plan go by the other rows (by time, by the earlier
        ones). Strata, weights and statistics are those of all rows. Raises ConfigError if there is no such fold. O(rows)."""

    @property
    def _fold(self) -> int | None:
        """The fold that it is without."""

    def group(self, rows: ArrayLike, of: Literal["splits", "no_duplicates"] | None = None) -> NDArray[np.int64]:
        """Lowest row of the group of every row, -1 where it is alone. `of`: "splits" (rows that splits keep together) or "no_duplicates" (rows that
        share a value of that column); by default the only groups that there are. Equal numbers are one group:
        `group[:, None] == group[None, :]` masks them in a loss. Raises ConfigError if there are none, or two kinds and none is named."""

    def distance(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Euclidean distance of every row to its modality's centre in feature space, NaN for rows that are not planned."""

    def centrality(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Where every row lies in its modality: 1 at the centre, 0 at the edge; NaN for rows that are not planned."""

    def weights(self, progress: float) -> NDArray[np.float32]:
        """Weight of every row of the dataset, shape (rows,): mean 1 over each modality, 0 for rows that are not planned."""

    def weights_for(self, rows: ArrayLike, progress: float) -> NDArray[np.float32]:
        """Weights of these rows. If the plan normalises by batch, `rows` is the batch: their mean is 1."""

    def beta(self, progress: float) -> float:
        """Exponent of the weights: exp(beta (centrality - 1/2)), times what makes their mean 1."""

    def loss_weight(self, rows: ArrayLike) -> NDArray[np.float32] | None:
        """p_h / q_h of every row: undoes shares that the plan skews on purpose. None if it does not, 0 for rows not planned."""

    def score(self) -> Score:
        """What scores a batch by the histogram of its rows over the score groups."""

    def histogram(self, rows: ArrayLike) -> NDArray[np.int64]:
        """Rows of every score group, shape (groups,); rows that are not planned are not counted."""

    def probe(self, size: int = 1024) -> Rows:
        """At most `size` rows on which to measure the loss, stratified and the same in every run: of the split named val, valid, validation, dev or
        holdout, if there is one, else planned ones."""

    def holdout(self) -> Rows | None:
        """The rows of all splits but the first, which are kept out of the batches, ascending; None if there are none, and with folds."""

    def assign(self, points: ArrayLike) -> Assignment:
        """Where new rows belong: `points` of shape (n, dims), float32 or float64, as they are in the dataset's vector column. Raises
        ConfigError for plans whose rows are not one vector column: see `assign_dataset`."""

    def assign_dataset(self, paths: Path | Sequence[Path]) -> Assignment:
        """Where the rows of another dataset with the plan's columns belong."""

    def locate(self, rows: ArrayLike) -> Places:
        """Where rows lie in the Parquet files. O(rows log row groups)."""

    def row_groups(self) -> RowGroups:
        """All row groups of the dataset in row order."""

    def ids(self, rows: ArrayLike, paths: Path | Sequence[Path]) -> list[str | None]:
        """What the column `--id` calls the rows. Reads only pages of `paths`, the dataset, that hold some of them."""

    def loader_choice(
        self,
        epochs: float,
        *,
        policy: Literal["rate", "extrapolation", "ratchet"] = "rate",
        seed: int | None = None,
        segment_rows: int | None = None,
    ) -> LoaderChoice:
        """A choice among the plan's candidates for a run of so many epochs; `seed`: by default the plan's."""

    def accumulator(self, batch_size: int | None = None, threshold: float | None = None) -> Accumulator:
        """An accumulator with the plan's threshold, for batches of this size (by default the recommended one)."""

@final
class Table:
    """A table of a plan, mapped into memory: for whatever takes an Arrow stream (`polars.DataFrame(table)`, `pyarrow.table(table)`,
    `pandas.DataFrame.from_arrow(table)`, DuckDB), any number of times."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule interface."""

    def __len__(self) -> int: ...
    @property
    def column_names(self) -> list[str]: ...
    @property
    def schema(self) -> list[tuple[str, str]]:
        """Type of every column by name, as Arrow writes it."""

    def to_numpy(self, name: str) -> NDArray[Any]:
        """A column of numbers, booleans or texts, shape (rows,), or of vectors, shape (rows, dims); a copy. Nulls are -1 among whole numbers, NaN
        among others, None among texts. Raises ConfigError for lists of several lengths: take them through Arrow."""

@final
class Folds:
    """The folds of a plan: a sequence of (rows to train on, rows to test), each int64 of shape (n,), ascending. O(rows) an item."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]: ...

@final
class Epoch:
    """One epoch in batches of one size: a read-only sequence of arrays of rows. Any batch by itself in O(batch size + strata).

    An epoch that was written is read from the plan (arrays are views of the mapped file, which they keep alive), any other is
    computed: the same bits. Pickles with its plan."""

    @property
    def plan(self) -> Plan: ...
    @property
    def epoch(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def written(self) -> bool:
        """Is it read from the plan?"""

    def __len__(self) -> int:
        """Number of batches; the last may be short."""

    def __getitem__(self, index: int, /) -> Rows: ...
    def __iter__(self) -> Iterator[Rows]: ...
    def batch(self, index: int) -> Rows:
        """Rows of a batch in the order to be used, shape (n,), read-only. Contiguous slices and strides of 1/2, 1/4, 1/8 are
        stratified too. Raises IndexError."""

    def n_eff(self, index: int) -> float:
        """What the batch is worth, in random rows, at progress 0."""

    def centrality(self, index: int) -> NDArray[np.float32]:
        """Of every row of the batch, in its order."""

    def weights(self, index: int, progress: float) -> NDArray[np.float32]:
        """Weight of every row of the batch, in its order."""

    def loss_weight(self, index: int) -> NDArray[np.float32] | None:
        """p_h / q_h of every row of the batch; None if the plan does not skew shares."""

    def rows(self, start: int = 0, stop: int | None = None) -> Rows:
        """Batches start to stop (default: all) one after another, shape (n,), read-only: batch i is at
        [(i - start) * batch_size : (i - start + 1) * batch_size]. In long runs a batch costs half of `batch`. Raises IndexError."""

    def updates(self) -> Updates:
        """Scores of all batches and which update each belongs to. Scans an epoch that was not written once."""

@final
class Updates:
    """Arrays of shape (batches,), as in `batches/size-B/epoch-E.arrow`."""

    @property
    def n_eff(self) -> NDArray[np.float32]: ...
    @property
    def x(self) -> NDArray[np.float32]:
        """Normalised squared distance to the data's composition: 1 on average for a random batch."""

    @property
    def score(self) -> NDArray[np.float32]:
        """n_eff / information threshold."""

    @property
    def update(self) -> NDArray[np.uint32]:
        """Number of the update that a batch belongs to, from 0."""

    @property
    def coefficient(self) -> NDArray[np.float32]:
        """Factor of the batch's mean gradient; they sum to 1 in each update."""

    @property
    def ends_update(self) -> NDArray[np.bool_]: ...

@final
class Assignment:
    """Where rows belong: arrays of shape (n,)."""

    @property
    def modality(self) -> NDArray[np.int64]:
        """-1 for rows that the plan's filter or its rule for invalid rows leaves out."""

    @property
    def stratum(self) -> NDArray[np.int64]: ...
    @property
    def distance(self) -> NDArray[np.float32]:
        """Euclidean, to the modality's centre; NaN for rows that are left out."""

@final
class Places:
    """Where rows lie: arrays of shape (n,)."""

    @property
    def file(self) -> NDArray[np.uint32]:
        """Place in `Plan.inputs`."""

    @property
    def row_group(self) -> NDArray[np.uint32]:
        """Row group in the file."""

    @property
    def offset(self) -> NDArray[np.uint64]:
        """Row in the row group."""

@final
class RowGroups:
    """Row groups in row order: arrays of shape (row groups,)."""

    @property
    def file(self) -> NDArray[np.uint32]: ...
    @property
    def row_group(self) -> NDArray[np.uint32]: ...
    @property
    def first_row(self) -> NDArray[np.uint64]:
        """Global number of the first row."""

    @property
    def rows(self) -> NDArray[np.uint64]: ...

@final
class Score:
    """How representative a batch is, from its histogram over groups alone (docs/algorithms.md)."""

    def __new__(cls, counts: ArrayLike, modality_share: float = 0.5) -> Score:
        """`counts`: rows of every group in the full data. `modality_share` in [0, 0.9]."""

    @property
    def groups(self) -> int: ...
    def n_eff(self, histogram: ArrayLike, progress: float = 0.0) -> tuple[float, float]:
        """(effective rows, normalised distance x) of a batch with this histogram, shape (groups,). The modality share fades with
        progress: a max(0, 1 - 2 progress)."""

@final
class Accumulator:
    """Says when gradients of several batches make an update: once their effective rows reach the threshold, after
    8 ceil(threshold / batch_size) batches, or at the epoch's end. The update's gradient is
    sum(weight_b g_b) / sum(weight_b), g_b the mean gradient of batch b. Under data parallelism feed the same numbers (those of the
    global batch) on every rank: every rank then decides alike."""

    def __new__(cls, threshold: float, batch_size: int, longest: int | None = None) -> Accumulator:
        """`threshold` in effective rows. `longest`: most batches of an update, instead of the rule above."""

    @property
    def threshold(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @batch_size.setter
    def batch_size(self, value: int) -> None: ...
    @property
    def longest(self) -> int: ...
    def feed(self, n_eff: float, n: int) -> tuple[float, bool]:
        """The next batch, of `n` rows worth `n_eff`: (its weight min(n_eff, 4 n), is the update complete?)."""

    def finish(self) -> bool:
        """The epoch ends here: true if batches wait for an update, which is then complete."""

    @property
    def pending(self) -> int:
        """Batches of an update that is not complete."""

    @property
    def total(self) -> float:
        """Sum of the weights of the running update, or of the last one if it has just been completed."""

    def coefficients(self) -> NDArray[np.float64]:
        """weight / total of the batches of that update, in order."""

    def state(self) -> dict[str, Any]:
        """JSON-able."""

    def restore(self, state: dict[str, Any]) -> None:
        """Raises ConfigError if the state is not one of an accumulator."""

@final
class Ratchet:
    """Chooses among settings 0 .. candidates by ascending size: never down, one up when the loss stops falling."""

    def __new__(cls, candidates: int, smoothing: float = 0.2, min_stay: int = 4) -> Ratchet: ...
    def choose(self) -> int: ...
    def update(self, loss_before: float, loss_after: float, cost: float) -> None:
        """A segment ended. A NaN or infinite loss counts as 50 times the one before."""

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...

@final
class LoaderChoice:
    """Chooses among batch sizes, segment by segment, by how fast the loss of a fixed set of rows (`Plan.probe`) falls.

    `begin(loss)` before training; `advance(rows, batch_size)` after every batch; when that says that the segment is over,
    `update(loss, cost)` with the loss of the probe rows now and what the segment cost (seconds or rows). The new size takes effect
    with the next batch that is drawn; batches of the old size that are on their way do not count towards the new segment's length.
    Under data parallelism every rank takes the same decision if all feed the same (reduced) loss and the same cost."""

    def __new__(
        cls,
        batch_sizes: Sequence[int],
        rows: int,
        epochs: float,
        *,
        policy: Literal["rate", "extrapolation", "ratchet"] = "rate",
        seed: int = 0,
        segment_rows: int | None = None,
        discount: float = 0.9,
        trial: float = 0.1,
    ) -> LoaderChoice:
        """`batch_sizes` ascending, `rows` of an epoch. `segment_rows`: by default max(rows / 20, 64 x the largest size). `rate` picks
        the size whose log loss falls fastest per cost, `extrapolation` the one that beats the extrapolated loss curve most,
        `ratchet` never goes down. Raises ConfigError for runs of fewer than 10 segments per candidate: use one size there."""

    @property
    def batch_sizes(self) -> list[int]: ...
    @property
    def batch_size(self) -> int:
        """The size chosen for this segment."""

    @property
    def candidate(self) -> int:
        """Its place in `batch_sizes`."""

    @property
    def policy(self) -> str: ...
    @property
    def segment_rows(self) -> int: ...
    @property
    def segments(self) -> int:
        """Segments of the run."""

    def begin(self, loss: float) -> int:
        """The loss of the probe rows before the first segment; returns the first batch size."""

    def advance(self, rows: int, batch_size: int | None = None) -> bool:
        """A batch of `rows` rows was trained on, drawn as one of `batch_size` (by default the chosen one): is the segment over?"""

    def update(self, loss: float, cost: float) -> int:
        """The segment ends; returns the batch size of the next. A NaN or infinite loss counts as 50 times the one before."""

    @property
    def log(self) -> list[dict[str, Any]]:
        """One entry a segment: `segment`, `candidate`, `batch_size`, `rows` (of batches of this size), `other_rows` (of others, on
        their way when it began), `cost`, `before` and `observed` (losses), `expected` (the extrapolated loss), `surprise`
        (ln expected - ln observed: > 0 if the loss fell further), `reward` (what the policy was told)."""

    def state(self) -> dict[str, Any]:
        """JSON-able, with the log."""

    def restore(self, state: dict[str, Any]) -> None:
        """Raises ConfigError if the state belongs to other candidates or another policy."""

@final
class Column(Sequence[Any]):
    """Cells that are no numbers: an Arrow array, without copying, for whatever takes one (`pyarrow.array(column)`,
    `polars.Series(column)`), and a sequence of Python objects."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """The Arrow PyCapsule interface."""

    def tolist(self) -> list[Any]:
        """Python objects: texts as `str`, nulls as None, anything else as PyArrow makes it."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> Any: ...

@final
class Stream:
    """The compiled part of `batchwright.stream.Stream`."""

    def __init__(
        self,
        plan: Plan,
        data: Any,
        columns: list[str],
        ragged: list[str],
        rank: int,
        world_size: int,
        epoch: int,
        batch: int,
        epochs: int | None,
        threads: int,
        memory: int | None,
        mask: bool,
        drop_last: bool,
    ) -> None: ...
    def next(self, k: int) -> tuple[int, int, Rows, dict[str, Any]] | None:
        """(epoch, number of the first batch of the smallest size, rows, columns) of the next batch; None: the last epoch has ended."""

    @property
    def memory(self) -> int:
        """Bytes that are read ahead at most."""

    @property
    def forms(self) -> tuple[list[str], list[str]]:
        """Names of the columns that are arrays of NumPy, and of those that are Arrow's."""

    def close(self) -> None:
        """Ends the threads. O(what they are at)."""
