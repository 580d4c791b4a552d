"""The command's verbs as functions: the same words, the same rows, the same bytes. scripts/functions.py writes this file from the
definitions of the flags.

`data` is whatever `batchwright.tables` knows: paths, folders, patterns and URLs of Parquet files, or a table in memory (a pandas or polars
data frame, an Arrow table or stream, a Hugging Face dataset, an array of NumPy or PyTorch of shape (n, dims), a dict of arrays). Rows are
numbered as they stand.

Settings are keyword arguments; None is the default. `config` is the path of a batchwright.toml, or a dict as in one; keywords go before it.
Environment variables named BATCHWRIGHT_* and a batchwright.toml that nobody named do not count. `progress`: None shows bars (tqdm) on a
terminal and in a notebook once a call lasts a second, True at once, False never; a callable gets a `batchwright.results.Stage`, ten times a
second at most, and what it raises ends the call. What should be known though the call goes on is a `BatchwrightWarning`."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from batchwright._calls import call, checked, exists, named, opened, settings
from batchwright._core import Plan
from batchwright.results import Check, Comparison, Count, Delta, Encoded, Estimate, Report, Stage, Update

__all__ = ["check", "diff", "encode", "estimate", "modalities", "plan", "report", "update"]

Path = str | PathLike[str]
Config = Path | Mapping[str, Any] | None
Progress = bool | Callable[[Stage], Any] | None


@named
def plan(
    data: Any,
    out: Path | None = None,
    *,
    id: str | None = None,
    label: str | None = None,
    where: str | None = None,
    invalid: Literal["error", "drop"] | None = None,
    features: str | Sequence[str] | None = None,
    as_: Literal["f16", "f32", "f64"] | None = None,
    transform: Literal["none", "unit", "standard", "robust"] | None = None,
    categories: Literal["one-hot", "hash"] | None = None,
    encode: str | None = None,
    max_seq_length: int | None = None,
    estimator: Literal["consensus", "pretrained", "hdbscan", "kmeans", "gaussian-mixture", "dbscan", "column"] | None = None,
    modalities: int | None = None,
    criterion: Literal["silhouette", "gap", "bic"] | None = None,
    modality_column: str | None = None,
    resolution: int | None = None,
    names: bool | None = None,
    stratify_by: str | None = None,
    fine_strata: int | Literal["auto"] | None = None,
    split: str | Sequence[str] | None = None,
    folds: int | Literal["groups"] | None = None,
    split_by: str | None = None,
    group: str | Sequence[str] | None = None,
    split_column: str | None = None,
    split_files: str | Sequence[str] | None = None,
    split_order: str | Sequence[str] | None = None,
    split_time: str | None = None,
    gap: str | None = None,
    leaks: Literal["report", "purge"] | None = None,
    batch_size: int | Literal["auto"] | None = None,
    samples_per_modality: float | None = None,
    coverage: float | None = None,
    multiple: int | None = None,
    world_size: int | None = None,
    micro_steps: int | None = None,
    candidates: Literal["auto"] | Sequence[int] | None = None,
    size_schedule: Sequence[tuple[float, int]] | None = None,
    epochs: int | None = None,
    allocation: str | Sequence[float] | Mapping[str, float] | None = None,
    tau: float | None = None,
    drop_last: bool | None = None,
    chunk: int | Literal["batch"] | None = None,
    rows_per_label: int | Literal["batch"] | None = None,
    no_duplicates: str | Sequence[str] | None = None,
    train_epochs: int | None = None,
    holdout: float | None = None,
    locality: Literal["global", "local"] | None = None,
    window: int | Literal["auto"] | None = None,
    streams: int | Literal["auto"] | None = None,
    unit_rows: int | Literal["auto"] | None = None,
    window_memory: int | str | None = None,
    read: str | Sequence[str] | None = None,
    weights: Literal["centre-to-periphery", "centre-then-uniform", "periphery-late", "off"] | None = None,
    weight_strength: float | None = None,
    centrality: Literal["distance", "density", "margin"] | None = None,
    normalise: Literal["modality", "batch"] | None = None,
    information_threshold: float | None = None,
    modality_share: float | None = None,
    seed: int | None = None,
    encoder: Path | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    simd: Literal["auto", "avx512-vnni", "avx512", "avx2", "off"] | None = None,
    engine: Any = None,
    task_bytes: int | str | None = None,
    config: Config = None,
    exist: Literal["error", "replace", "reuse"] = "error",
    progress: Progress = None,
) -> Plan:
    """Counts the modalities of a dataset and builds a plan: `batchwright plan`.

    Returns the plan, opened. It is written to the directory `out`, whole or not at all; without `out` it lies in a temporary folder that
    goes with the object (`Plan.save` keeps it). The same rows, settings and seed give the same bytes, from files or from a table.

    Args:
        id: Column that names a row for people, shown in the report.
        label: Column with the class, to predict the gain; never used for clustering.
        where: Only the rows for which this SQL condition is true.
        invalid: Rows whose features are null, NaN, infinite or of the wrong length: stop, or drop them [default: error].
        features: Columns that rows are clustered by [default: the one vector column, floats first; else all numeric columns].
        as_: What bytes of fixed size hold that do not say it themselves [default: no numbers].
        transform: How numbers are scaled first: not at all, to length 1, to mean 0 and deviation 1, or to median 0 and quartile
            range 1 [default: none].
        categories: How text and boolean columns become numbers [default: one-hot].
        encode: Column whose values encoder turns into vectors; the feature, alone or together with those of features.
        max_seq_length: Most tokens of a text, special ones included; the rest is cut off [default: from the model's files].
        estimator: How modalities are counted [default: consensus].
        modalities: Fix the number of modalities; chooses the estimator kmeans.
        criterion: What chooses the number of k-means cells; chooses the estimator kmeans [default: silhouette].
        modality_column: Take the values of this column as the modalities; chooses the estimator column.
        resolution: Rows of a sample block: with more rows, finer modes can be told apart [default: 10000].
        names: Name modalities by the values and words of the data that set each apart; false: leave the names empty [default:
            true].
        stratify_by: What batches are stratified by: modalities, the values of a column, or both; COLUMN:q10: ten bins of its
            numbers [default: modality].
        fine_strata: Number of strata that the modalities are split into, in all; 0: the modalities themselves; auto: 300, with
            chunk up to 4096 [default: auto].
        split: Splits and what each gets: shares (0.8, 80%), numbers of rows, or `rest`; batches are dealt from the first.
        folds: Equal parts for cross-validation, each the test set once; groups: one for each value of the group column.
        split_by: What splits are balanced by [default: the label, if there is one of at most 1000 values, and inside it the
            strata].
        group: Columns: rows that share a value of one (a patient, an author) are in one split; also modality, prototype, stratum.
        split_column: Column whose values name the splits (train, val, test); rows without a value are in none.
        split_files: Splits by the paths of the files.
        split_order: Order of the splits of split_column or split_files [default: train, val, others by name, test].
        split_time: Column of times: the earliest rows are in the first split; with folds K, fold f is tested on the time after
            all that it is trained on.
        gap: Least time between a split and the next: rows in between are set aside; in the unit of the column, or 7d, 12h, 30s.
        leaks: Rows of a group in several splits of split_column or split_files: count them, or set those of the earlier splits
            aside [default: report].
        batch_size: Rows of a batch; auto: the smallest size at which every batch contains every covered modality [default: auto].
        samples_per_modality: Batch size as a multiple of the number of modalities, instead of coverage.
        coverage: Share of the rows whose modality must be in every batch [default: 0.99].
        multiple: Round the batch size up to a multiple of this [default: 8; a size that is given is taken as it is].
        world_size: Ranks (GPUs) that share a batch [default: 1].
        micro_steps: Micro-batches that each rank splits its part of a batch into [default: 1].
        candidates: Batch sizes to prepare, all multiples of the smallest; auto: the batch size B, 2B and 4B [default: auto].
        size_schedule: Batch sizes that change in training: each holds from a share of it on, such as 0:256,0.1:512,0.3:1024.
        epochs: Epochs to write; any other can be computed from the plan later [default: 3, or 0 above 67 million rows and in the
            local order].
        allocation: Shares of the strata in a batch: as in the data, all equal, tempered by tau, or from a JSON or TOML file
            [default: proportional].
        tau: Temper the shares: proportional to share^TAU, so 1 is proportional and 0 is equal; chooses allocation tau [default:
            1.0].
        drop_last: Leave out the rows at the end of an epoch that do not fill a batch.
        chunk: Neighbouring rows that come into a batch together, a divisor of the batch size: hard negatives for contrastive
            losses [default: 1].
        rows_per_label: Batches of so many rows of each of some labels, those of stratify_by, else label; `batch`: of one label.
        no_duplicates: Columns: rows that share a value of one (a user, a document, a text) come into different batches.
        train_epochs: Epochs of the training, for the shares of size_schedule.
        holdout: Share of the rows to keep out of the batches for validation: split train=1-SHARE,holdout=SHARE [default: 0.0].
        locality: Order of batches: rows from anywhere, or row groups one after another, each read once an epoch [default:
            global].
        window: Units (of rows that are decoded at a time) of a stream in a round; more mix better and take more memory [default:
            auto].
        streams: Streams that every batch takes as many rows from: world sizes that divide it fit [default: auto].
        unit_rows: Rows of a unit [default: auto].
        window_memory: Memory that the units of a round may take, decoded, such as 512MiB [default: 536870912].
        read: Columns that training reads, for window_memory [default: all].
        weights: How the weight moves between the centre and the edge of the modalities during training [default:
            centre-to-periphery].
        weight_strength: How strong the weights are: at 1 the heaviest row weighs e times the lightest; more than 2 is rarely wise
            [default: 1.0].
        centrality: How centrality is measured [default: distance].
        normalise: Where weights have mean 1: in each modality, or in each batch [default: modality].
        information_threshold: Representative samples to collect before an optimizer update [default: 4 times the batch size; with
            chunk the batch size].
        modality_share: Share of the gradient's variance that lies between modalities, 0 to 0.9 [default: from the label, else
            0.5].
        seed: Seed of all random decisions: the same data, settings and seed give the same plan [default: 0].
        encoder: Pre-trained network for encode: a Hugging Face folder (config.json, model.safetensors, tokenizer.json), or an
            .onnx file.
        threads: Threads [default: one per core]. The result does not depend on it.
        memory: Memory to stay within, such as 4GiB or 500MB [default: 4GiB]. The result does not depend on it.
        simd: Widest vector instructions to use, for testing: the result never depends on it [default: auto].
        engine: Where the data is read [default: on the threads of this process].
        task_bytes: Bytes that a task of an engine reads at most, such as 100MB [default: 512MiB]. The result does not depend on
            it.
        exist: what to do if `out` is a plan: "error"; "replace" it; "reuse" it if it was made with these settings from these
            rows, else say what differs.

    Raises:
        ConfigError: a setting.
        InputError: a file, a column or a row, by name; the disk.
    """
    given = settings(locals())
    return exists(data, out, exist, config, given, progress)


@named
def modalities(
    data: Any,
    *,
    where: str | None = None,
    invalid: Literal["error", "drop"] | None = None,
    features: str | Sequence[str] | None = None,
    as_: Literal["f16", "f32", "f64"] | None = None,
    transform: Literal["none", "unit", "standard", "robust"] | None = None,
    categories: Literal["one-hot", "hash"] | None = None,
    encode: str | None = None,
    max_seq_length: int | None = None,
    estimator: Literal[
        "consensus", "pretrained", "hdbscan", "kmeans", "gaussian-mixture", "dbscan", "column", "all",
    ] | None = None,
    modalities: int | None = None,
    criterion: Literal["silhouette", "gap", "bic"] | None = None,
    modality_column: str | None = None,
    resolution: int | None = None,
    names: bool | None = None,
    seed: int | None = None,
    encoder: Path | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    simd: Literal["auto", "avx512-vnni", "avx512", "avx2", "off"] | None = None,
    engine: Any = None,
    task_bytes: int | str | None = None,
    config: Config = None,
    progress: Progress = None,
) -> Count | Comparison:
    """Only counts the modalities: `batchwright modalities`. Reads a sample and writes nothing.

    Returns a `Count`: modalities, interval, confidence, clear, sizes, details; with estimator="all" a `Comparison` of all estimators on the
    same sample.

    Args:
        where: Only the rows for which this SQL condition is true.
        invalid: Rows whose features are null, NaN, infinite or of the wrong length: stop, or drop them [default: error].
        features: Columns that rows are clustered by [default: the one vector column, floats first; else all numeric columns].
        as_: What bytes of fixed size hold that do not say it themselves [default: no numbers].
        transform: How numbers are scaled first: not at all, to length 1, to mean 0 and deviation 1, or to median 0 and quartile
            range 1 [default: none].
        categories: How text and boolean columns become numbers [default: one-hot].
        encode: Column whose values encoder turns into vectors; the feature, alone or together with those of features.
        max_seq_length: Most tokens of a text, special ones included; the rest is cut off [default: from the model's files].
        estimator: How modalities are counted [default: consensus].
        modalities: Fix the number of modalities; chooses the estimator kmeans.
        criterion: What chooses the number of k-means cells; chooses the estimator kmeans [default: silhouette].
        modality_column: Take the values of this column as the modalities; chooses the estimator column.
        resolution: Rows of a sample block: with more rows, finer modes can be told apart [default: 10000].
        names: Name modalities by the values and words of the data that set each apart; false: leave the names empty [default:
            true].
        seed: Seed of all random decisions: the same data, settings and seed give the same answer [default: 0].
        encoder: Pre-trained network for encode: a Hugging Face folder (config.json, model.safetensors, tokenizer.json), or an
            .onnx file.
        threads: Threads [default: one per core]. The result does not depend on it.
        memory: Memory to stay within, such as 4GiB or 500MB [default: 4GiB]. The result does not depend on it.
        simd: Widest vector instructions to use, for testing: the result never depends on it [default: auto].
        engine: Where the data is read [default: on the threads of this process].
        task_bytes: Bytes that a task of an engine reads at most, such as 100MB [default: 512MiB]. The result does not depend on
            it.

    Raises:
        ConfigError, InputError: as of `plan`.
    """
    given = settings(locals())
    found = call("modalities", given, progress, data=data, config=config)
    return Comparison(found) if estimator == "all" else Count(found)


@named
def estimate(
    data: Any,
    *,
    id: str | None = None,
    label: str | None = None,
    where: str | None = None,
    invalid: Literal["error", "drop"] | None = None,
    features: str | Sequence[str] | None = None,
    as_: Literal["f16", "f32", "f64"] | None = None,
    transform: Literal["none", "unit", "standard", "robust"] | None = None,
    categories: Literal["one-hot", "hash"] | None = None,
    encode: str | None = None,
    max_seq_length: int | None = None,
    estimator: Literal["consensus", "pretrained", "hdbscan", "kmeans", "gaussian-mixture", "dbscan", "column"] | None = None,
    modalities: int | None = None,
    criterion: Literal["silhouette", "gap", "bic"] | None = None,
    modality_column: str | None = None,
    resolution: int | None = None,
    names: bool | None = None,
    stratify_by: str | None = None,
    fine_strata: int | Literal["auto"] | None = None,
    split: str | Sequence[str] | None = None,
    folds: int | Literal["groups"] | None = None,
    split_by: str | None = None,
    group: str | Sequence[str] | None = None,
    split_column: str | None = None,
    split_files: str | Sequence[str] | None = None,
    split_order: str | Sequence[str] | None = None,
    split_time: str | None = None,
    gap: str | None = None,
    leaks: Literal["report", "purge"] | None = None,
    batch_size: int | Literal["auto"] | None = None,
    samples_per_modality: float | None = None,
    coverage: float | None = None,
    multiple: int | None = None,
    world_size: int | None = None,
    micro_steps: int | None = None,
    candidates: Literal["auto"] | Sequence[int] | None = None,
    size_schedule: Sequence[tuple[float, int]] | None = None,
    epochs: int | None = None,
    allocation: str | Sequence[float] | Mapping[str, float] | None = None,
    tau: float | None = None,
    drop_last: bool | None = None,
    chunk: int | Literal["batch"] | None = None,
    rows_per_label: int | Literal["batch"] | None = None,
    no_duplicates: str | Sequence[str] | None = None,
    train_epochs: int | None = None,
    holdout: float | None = None,
    locality: Literal["global", "local"] | None = None,
    window: int | Literal["auto"] | None = None,
    streams: int | Literal["auto"] | None = None,
    unit_rows: int | Literal["auto"] | None = None,
    window_memory: int | str | None = None,
    read: str | Sequence[str] | None = None,
    weights: Literal["centre-to-periphery", "centre-then-uniform", "periphery-late", "off"] | None = None,
    weight_strength: float | None = None,
    centrality: Literal["distance", "density", "margin"] | None = None,
    normalise: Literal["modality", "batch"] | None = None,
    information_threshold: float | None = None,
    modality_share: float | None = None,
    seed: int | None = None,
    encoder: Path | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    simd: Literal["auto", "avx512-vnni", "avx512", "avx2", "off"] | None = None,
    engine: Any = None,
    task_bytes: int | str | None = None,
    config: Config = None,
) -> Estimate:
    """What `plan` would read, write and need, from the footers of the files: `batchwright plan --dry-run`.

    Args:
        id: Column that names a row for people, shown in the report.
        label: Column with the class, to predict the gain; never used for clustering.
        where: Only the rows for which this SQL condition is true.
        invalid: Rows whose features are null, NaN, infinite or of the wrong length: stop, or drop them [default: error].
        features: Columns that rows are clustered by [default: the one vector column, floats first; else all numeric columns].
        as_: What bytes of fixed size hold that do not say it themselves [default: no numbers].
        transform: How numbers are scaled first: not at all, to length 1, to mean 0 and deviation 1, or to median 0 and quartile
            range 1 [default: none].
        categories: How text and boolean columns become numbers [default: one-hot].
        encode: Column whose values encoder turns into vectors; the feature, alone or together with those of features.
        max_seq_length: Most tokens of a text, special ones included; the rest is cut off [default: from the model's files].
        estimator: How modalities are counted [default: consensus].
        modalities: Fix the number of modalities; chooses the estimator kmeans.
        criterion: What chooses the number of k-means cells; chooses the estimator kmeans [default: silhouette].
        modality_column: Take the values of this column as the modalities; chooses the estimator column.
        resolution: Rows of a sample block: with more rows, finer modes can be told apart [default: 10000].
        names: Name modalities by the values and words of the data that set each apart; false: leave the names empty [default:
            true].
        stratify_by: What batches are stratified by: modalities, the values of a column, or both; COLUMN:q10: ten bins of its
            numbers [default: modality].
        fine_strata: Number of strata that the modalities are split into, in all; 0: the modalities themselves; auto: 300, with
            chunk up to 4096 [default: auto].
        split: Splits and what each gets: shares (0.8, 80%), numbers of rows, or `rest`; batches are dealt from the first.
        folds: Equal parts for cross-validation, each the test set once; groups: one for each value of the group column.
        split_by: What splits are balanced by [default: the label, if there is one of at most 1000 values, and inside it the
            strata].
        group: Columns: rows that share a value of one (a patient, an author) are in one split; also modality, prototype, stratum.
        split_column: Column whose values name the splits (train, val, test); rows without a value are in none.
        split_files: Splits by the paths of the files.
        split_order: Order of the splits of split_column or split_files [default: train, val, others by name, test].
        split_time: Column of times: the earliest rows are in the first split; with folds K, fold f is tested on the time after
            all that it is trained on.
        gap: Least time between a split and the next: rows in between are set aside; in the unit of the column, or 7d, 12h, 30s.
        leaks: Rows of a group in several splits of split_column or split_files: count them, or set those of the earlier splits
            aside [default: report].
        batch_size: Rows of a batch; auto: the smallest size at which every batch contains every covered modality [default: auto].
        samples_per_modality: Batch size as a multiple of the number of modalities, instead of coverage.
        coverage: Share of the rows whose modality must be in every batch [default: 0.99].
        multiple: Round the batch size up to a multiple of this [default: 8; a size that is given is taken as it is].
        world_size: Ranks (GPUs) that share a batch [default: 1].
        micro_steps: Micro-batches that each rank splits its part of a batch into [default: 1].
        candidates: Batch sizes to prepare, all multiples of the smallest; auto: the batch size B, 2B and 4B [default: auto].
        size_schedule: Batch sizes that change in training: each holds from a share of it on, such as 0:256,0.1:512,0.3:1024.
        epochs: Epochs to write; any other can be computed from the plan later [default: 3, or 0 above 67 million rows and in the
            local order].
        allocation: Shares of the strata in a batch: as in the data, all equal, tempered by tau, or from a JSON or TOML file
            [default: proportional].
        tau: Temper the shares: proportional to share^TAU, so 1 is proportional and 0 is equal; chooses allocation tau [default:
            1.0].
        drop_last: Leave out the rows at the end of an epoch that do not fill a batch.
        chunk: Neighbouring rows that come into a batch together, a divisor of the batch size: hard negatives for contrastive
            losses [default: 1].
        rows_per_label: Batches of so many rows of each of some labels, those of stratify_by, else label; `batch`: of one label.
        no_duplicates: Columns: rows that share a value of one (a user, a document, a text) come into different batches.
        train_epochs: Epochs of the training, for the shares of size_schedule.
        holdout: Share of the rows to keep out of the batches for validation: split train=1-SHARE,holdout=SHARE [default: 0.0].
        locality: Order of batches: rows from anywhere, or row groups one after another, each read once an epoch [default:
            global].
        window: Units (of rows that are decoded at a time) of a stream in a round; more mix better and take more memory [default:
            auto].
        streams: Streams that every batch takes as many rows from: world sizes that divide it fit [default: auto].
        unit_rows: Rows of a unit [default: auto].
        window_memory: Memory that the units of a round may take, decoded, such as 512MiB [default: 536870912].
        read: Columns that training reads, for window_memory [default: all].
        weights: How the weight moves between the centre and the edge of the modalities during training [default:
            centre-to-periphery].
        weight_strength: How strong the weights are: at 1 the heaviest row weighs e times the lightest; more than 2 is rarely wise
            [default: 1.0].
        centrality: How centrality is measured [default: distance].
        normalise: Where weights have mean 1: in each modality, or in each batch [default: modality].
        information_threshold: Representative samples to collect before an optimizer update [default: 4 times the batch size; with
            chunk the batch size].
        modality_share: Share of the gradient's variance that lies between modalities, 0 to 0.9 [default: from the label, else
            0.5].
        seed: Seed of all random decisions: the same data, settings and seed give the same plan [default: 0].
        encoder: Pre-trained network for encode: a Hugging Face folder (config.json, model.safetensors, tokenizer.json), or an
            .onnx file.
        threads: Threads [default: one per core]. The result does not depend on it.
        memory: Memory to stay within, such as 4GiB or 500MB [default: 4GiB]. The result does not depend on it.
        simd: Widest vector instructions to use, for testing: the result never depends on it [default: auto].
        engine: Where the data is read [default: on the threads of this process].
        task_bytes: Bytes that a task of an engine reads at most, such as 100MB [default: 512MiB]. The result does not depend on
            it.

    Raises:
        ConfigError, InputError: as of `plan`.
    """
    given = settings(locals())
    return Estimate(call("estimate", given, False, data=data, config=config))


@named
def check(
    plan: Plan | Path,
    data: Any,
    *,
    alpha: float | None = None,
    share: float | None = None,
    composition: int | None = None,
    mean: float | None = None,
    spread: float | None = None,
    mmd: float | None = None,
    far: float | None = None,
    gain: float | None = None,
    unseen: float | None = None,
    fail_level: Literal["error", "warning", "note"] | None = None,
    strict: bool | None = None,
    quick: bool | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    encoder: Path | None = None,
    engine: Any = None,
    task_bytes: int | str | None = None,
    config: Config = None,
    progress: Progress = None,
) -> Check:
    """Does a plan still fit its data: `batchwright check`.

    Returns a `Check`, true where the plan holds: answer, findings, diagnosis, exit_code, `raise_if_drifted()`.

    Args:
        alpha: Chance of any false alarm in the whole check [default: 0.01].
        share: Least shift of a share (of a modality, of a value of a column) that counts, as Cohen's h [default: 0.05].
        composition: Least shift of a distribution over groups or deciles that counts, as Cohen's w [default: 0.2].
        mean: Least shift of a mean that counts, in standard deviations (Cohen's d) [default: 0.1].
        spread: Least change of the spread that counts, as the logarithm of the ratio [default: 0.02].
        mmd: Least distance of the mean embeddings that counts, in standard deviations [default: 0.05].
        far: Largest share of the new rows that may be unlike anything in the plan [default: 0.01].
        gain: How much the predicted variance ratio may rise [default: 0.1].
        unseen: Largest effect that may go unseen: with too few rows to rule it out, the answer is `cannot tell` [default: 0.25].
        fail_level: Least level of a finding that makes the check fail [default: error].
        strict: Exit with 1, not 4, where there are too few rows to tell.
        quick: Trust size, modification time (or entity tag) and footer of a file instead of hashing its bytes; page checksums are
            not looked at.
        threads: Threads [default: one per core]. The result does not depend on it.
        memory: Memory to stay within, such as 4GiB; a check that may need more ends before it reads.
        encoder: The encoder that the plan was made with, if it was: folder of a Hugging Face model, or an ONNX file.
        engine: Where the data is read [default: on the threads of this process].
        task_bytes: Bytes that a task of an engine reads at most, such as 100MB [default: 512MiB]. The result does not depend on
            it.

    Raises:
        ConfigError, InputError: as of `plan`.
        PlanError: a damaged plan.
    """
    given = settings(locals())
    return Check(call("check", given, progress, plan=opened(plan), data=data, config=config))


@named
def update(
    plan: Plan | Path,
    data: Any,
    out: Path,
    *,
    encoder: Path | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    simd: Literal["auto", "avx512-vnni", "avx512", "avx2", "off"] | None = None,
    engine: Any = None,
    task_bytes: int | str | None = None,
    alpha: float | None = None,
    share: float | None = None,
    composition: int | None = None,
    mean: float | None = None,
    spread: float | None = None,
    mmd: float | None = None,
    far: float | None = None,
    gain: float | None = None,
    unseen: float | None = None,
    fail_level: Literal["error", "warning", "note"] | None = None,
    strict: bool | None = None,
    quick: bool | None = None,
    config: Config = None,
    refit: bool = False,
    verify: bool = False,
    deal_holdout: bool = False,
    exist: Literal["error", "replace"] = "error",
    progress: Progress = None,
) -> Update:
    """Brings a plan up to date with its data, reading only what changed: `batchwright update`. The plan's own settings hold.

    Returns an `Update`: plan (opened; the old one where nothing was to be done), how, why, modalities (the old number of each).

    Args:
        encoder: Pre-trained network for encode: a Hugging Face folder (config.json, model.safetensors, tokenizer.json), or an
            .onnx file.
        threads: Threads [default: one per core]. The result does not depend on it.
        memory: Memory to stay within, such as 4GiB or 500MB [default: 4GiB]. The result does not depend on it.
        simd: Widest vector instructions to use, for testing: the result never depends on it [default: auto].
        engine: Where the data is read [default: on the threads of this process].
        task_bytes: Bytes that a task of an engine reads at most, such as 100MB [default: 512MiB]. The result does not depend on
            it.
        alpha: Chance of any false alarm in the whole check [default: 0.01].
        share: Least shift of a share (of a modality, of a value of a column) that counts, as Cohen's h [default: 0.05].
        composition: Least shift of a distribution over groups or deciles that counts, as Cohen's w [default: 0.2].
        mean: Least shift of a mean that counts, in standard deviations (Cohen's d) [default: 0.1].
        spread: Least change of the spread that counts, as the logarithm of the ratio [default: 0.02].
        mmd: Least distance of the mean embeddings that counts, in standard deviations [default: 0.05].
        far: Largest share of the new rows that may be unlike anything in the plan [default: 0.01].
        gain: How much the predicted variance ratio may rise [default: 0.1].
        unseen: Largest effect that may go unseen: with too few rows to rule it out, the answer is `cannot tell` [default: 0.25].
        fail_level: Least level of a finding that makes the check fail [default: error].
        strict: Exit with 1, not 4, where there are too few rows to tell.
        quick: Trust size, modification time (or entity tag) and footer of a file instead of hashing its bytes; page checksums are
            not looked at.
        refit: count the modalities again in any case.
        verify: hash the bytes of all files, also of those that look unchanged.
        deal_holdout: deal the held-out rows anew.
        exist: "replace" replaces a plan at `out`, which may be the old one.

    Raises:
        ConfigError, InputError: as of `plan`.
        PlanError: plan and data do not belong together.
    """
    given = settings(locals())
    options = {"refit": checked("refit", refit), "verify": checked("verify", verify), "deal_holdout": checked("deal_holdout", deal_holdout)}
    old, force = opened(plan), exist == "replace"
    return Update(call("update", given, progress, plan=old, data=data, out=out, force=force, config=config, **options), old, out)


@named
def diff(
    plan: Plan | Path,
    other: Plan | Path,
) -> Delta:
    """What changed for training between two plans: `batchwright diff`. Attributes are pairs, then and now.

    Raises:
        PlanError: a damaged plan.
    """
    return Delta(call("diff", {}, False, plan=opened(plan), other=opened(other)))


@named
def report(
    plan: Plan | Path,
    out: Path | None = None,
    *,
    drift: Check | None = None,
    force: bool = False,
) -> Report:
    """A plan as one HTML page with pictures: `batchwright report`.

    Returns a `Report`, which a notebook shows; with `out` it is written to that file, too.

    Args:
        drift: what `check` found, to be shown as well.
        force: replace a file that is not a report.

    Raises:
        ConfigError: `out` is another file.
        PlanError: a damaged plan.
    """
    found = None if drift is None else drift.to_dict()
    page = call("report", {}, False, plan=opened(plan), drift=found, out=out, force=checked("force", force))
    return Report(page, out)


@named
def encode(
    data: Any,
    out: Path,
    *,
    where: str | None = None,
    invalid: Literal["error", "drop"] | None = None,
    encode: str | None = None,
    max_seq_length: int | None = None,
    encoder: Path | None = None,
    threads: int | None = None,
    memory: int | str | None = None,
    simd: Literal["auto", "avx512-vnni", "avx512", "avx2", "off"] | None = None,
    config: Config = None,
    force: bool = False,
    progress: Progress = None,
) -> Encoded:
    """Writes the embeddings of a column to a Parquet file: `batchwright encode`. One row for every row of the data, null where the row is
    left out.

    Args:
        where: Only the rows for which this SQL condition is true.
        invalid: Rows whose features are null, NaN, infinite or of the wrong length: stop, or drop them [default: error].
        encode: Column whose values encoder turns into vectors; the feature, alone or together with those of features.
        max_seq_length: Most tokens of a text, special ones included; the rest is cut off [default: from the model's files].
        encoder: Pre-trained network for encode: a Hugging Face folder (config.json, model.safetensors, tokenizer.json), or an
            .onnx file.
        threads: Threads [default: one per core]. The result does not depend on it.
        memory: Memory to stay within, such as 4GiB or 500MB [default: 4GiB]. The result does not depend on it.
        simd: Widest vector instructions to use, for testing: the result never depends on it [default: auto].
        force: replace an existing file.

    Raises:
        ConfigError, InputError: as of `plan`.
    """
    given = settings(locals())
    return Encoded(call("encode", given, progress, data=data, out=out, force=checked("force", force), config=config))
