"""The verbs as functions: what a user of a notebook does with files and with tables in memory."""

import copy
import gc
import hashlib
import inspect
import json
import os
import pathlib
import pickle
import subprocess
import sys

import harness
import numpy as np
import pytest

import batchwright as bw
from batchwright import _core, results

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = ROOT / "fixtures" / "digits.parquet"
QUICK = {"features": "embedding", "modality_column": "label", "epochs": 1}
"""No counting: modalities are the labels."""
ASIDE = {"plan.json", "run.json", "sources.arrow"}
"""Files that say where the rows came from."""


def digits():
    import pyarrow.parquet

    return pyarrow.parquet.read_table(DIGITS)


def hashes(plan):
    folder = pathlib.Path(plan.path)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in ASIDE]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def of_files():
    return bw.plan(DIGITS, **QUICK)


# ------------------------------------------------------------------------------------------------------------------- from the flags


def test_the_functions_are_made_from_the_flags():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import functions
    finally:
        sys.path.pop(0)
    assert functions.TARGET.read_text() == functions.source(), "run python scripts/functions.py"


def test_every_flag_is_a_keyword():
    """But for what is an argument of every function, and what only a terminal needs."""
    program = {"dry_run", "json", "out", "force", "config", "progress", "verbose", "quiet", "help", "output_format", "exit_zero", "drift"}
    for verb in ("plan", "modalities", "check", "update", "encode"):
        lines = subprocess.run([*harness.command(), verb, "--help"], capture_output=True, text=True, check=True).stdout.splitlines()
        words = [word.strip(",.:").split("=")[0].split("[")[0] for line in lines for word in line.split()[:2] if line.strip().startswith("-")]
        flags = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
        keywords = {name.rstrip("_") for name in inspect.signature(getattr(bw, verb)).parameters}
        assert len(flags) > 5
        assert flags - program - keywords == set(), verb


def test_an_unknown_keyword_names_the_nearest():
    with pytest.raises(TypeError, match="'featurs'; did you mean features"):
        bw.plan(DIGITS, featurs="embedding")
    with pytest.raises(bw.ConfigError, match="batch_size.sise"):
        bw.plan(DIGITS, config={"batch_size": {"sise": 8}})


def test_errors_speak_in_keywords():
    with pytest.raises(bw.ConfigError) as e:
        bw.plan(DIGITS, estimator="kmeans", modality_column="label")
    assert "--" not in str(e.value) and "modality_column" in str(e.value)
    with pytest.raises(bw.ConfigError, match="argument batch_size"):
        bw.plan(DIGITS, batch_size="many")
    with pytest.raises(bw.ConfigError, match="coverage is nan"):
        bw.plan(DIGITS, coverage=float("nan"))
    with pytest.raises(bw.BatchwrightError, match="embeding"):
        bw.plan(DIGITS, features="embeding")


def test_settings_come_from_keywords_and_config_alone(tmp_path, monkeypatch, of_files):
    monkeypatch.setenv("BATCHWRIGHT_BATCH_SIZE", "64")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batchwright.toml").write_text("seed = 5\n")
    assert bw.plan(DIGITS, **QUICK).plan_id == of_files.plan_id
    named = bw.plan(DIGITS, config="batchwright.toml", **QUICK)
    assert named.seed == 5
    assert bw.plan(DIGITS, config={"seed": np.int64(5)}, **QUICK).plan_id == named.plan_id
    assert bw.plan(DIGITS, config={"seed": 5}, seed=0, **QUICK).plan_id == of_files.plan_id


def test_the_command_gives_the_same_plan(tmp_path, of_files):
    flags = ["--features", "embedding", "--modality-column", "label", "--epochs", "1"]
    subprocess.run([*harness.command(), "plan", DIGITS, "-o", tmp_path / "plan", *flags], check=True, capture_output=True)
    plan = bw.Plan(tmp_path / "plan")
    assert plan == of_files and hash(plan) == hash(of_files)
    assert hashes(plan) == hashes(of_files)


# --------------------------------------------------------------------------------------------------------------- tables in memory


def tables():
    yield "arrow", digits
    yield "one chunk a row", lambda: chunked(1)
    yield "chunks of 7", lambda: chunked(7)
    yield "a stream", lambda: digits().to_reader(max_chunksize=100)
    yield "pandas", pandas
    yield "polars", polars
    yield "hugging face", hugging_face
    yield "arrays", lambda: {name: stacked(digits()[name]) for name in digits().column_names}


def chunked(rows):
    import pyarrow

    return pyarrow.Table.from_batches(digits().to_batches(max_chunksize=rows))


def stacked(column):
    cells = column.to_pylist()
    return np.array(cells, np.float32) if isinstance(cells[0], list) else np.array(cells)


def pandas():
    pytest.importorskip("pandas")
    # Another index than the row numbers: it is no column.
    frame = digits().to_pandas()
    return frame.set_index(frame.index[::-1])


def polars():
    return pytest.importorskip("polars").from_arrow(digits())


def hugging_face():
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset(digits())


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in tables()])
def test_rows_in_memory_give_the_plan_of_their_files(make, of_files):
    plan = bw.plan(make(), **QUICK)
    assert plan.plan_id == of_files.plan_id
    assert hashes(plan) == hashes(of_files)


def test_a_plan_of_files_is_checked_and_updated_with_a_table_and_the_other_way_round(tmp_path, of_files):
    table = digits()
    assert bw.check(of_files, table).holds
    of_table = bw.plan(table, tmp_path / "plan", **QUICK)
    assert bw.check(of_table, DIGITS)
    rows = np.r_[np.arange(len(table)), np.arange(200)]
    more = bw.update(of_files, table.take(rows), tmp_path / "more")
    assert more.plan.rows == len(table) + 200 == len(more.plan.table("samples")) and more.check.compared
    assert bw.update(of_table, DIGITS, tmp_path / "same").plan == of_table


def test_an_array_is_a_column_of_vectors():
    x = np.random.default_rng(0).normal(size=(900, 8)).astype(np.float32)
    x[:450] += 20
    plan = bw.plan(x, modalities=2)
    assert plan.dims == 8 and plan.modalities == 2
    both = plan.modality(np.arange(900))
    assert len(set(both[:450])) == len(set(both[450:])) == 1 and both[0] != both[-1]
    torch = pytest.importorskip("torch")
    assert bw.plan(torch.from_numpy(x), modalities=2) == plan
    assert bw.plan(x.astype(np.float16).astype(np.float32), modalities=2) == bw.plan(torch.from_numpy(x.astype(np.float16)).float(), modalities=2)


def test_what_is_no_table_says_what_to_give():
    datasets = pytest.importorskip("datasets")
    split = datasets.DatasetDict({"train": datasets.Dataset(digits())})
    with pytest.raises(bw.InputError, match=r"data\['train'\]"):
        bw.plan(split, **QUICK)
    with pytest.raises(bw.InputError, match="IterableDataset"):
        bw.plan(split["train"].to_iterable_dataset(), **QUICK)
    polars_ = pytest.importorskip("polars")
    with pytest.raises(bw.InputError, match="collect"):
        bw.plan(polars_.from_arrow(digits()).lazy(), **QUICK)
    with pytest.raises(bw.InputError, match=r"shape \(3,\)"):
        bw.plan(np.zeros(3))
    with pytest.raises(bw.InputError, match="shape .*complex"):
        bw.plan({"x": np.zeros((3, 2), complex)})
    with pytest.raises(bw.InputError, match="y.* has 4 rows, but x has 3"):
        bw.plan({"x": np.zeros((3, 2)), "y": np.zeros(4)})
    with pytest.raises(bw.InputError, match="no columns"):
        bw.plan({})
    with pytest.raises(bw.InputError, match="expected paths"):
        bw.plan(3)
    with pytest.raises(bw.InputError, match="nowhere.parquet"):
        bw.plan("nowhere.parquet")
    with pytest.raises(bw.InputError):
        bw.plan(digits().slice(0, 0), **QUICK)


def test_a_selection_of_a_hugging_face_dataset_is_what_is_planned():
    datasets = pytest.importorskip("datasets")
    some = datasets.Dataset(digits()).select(range(100, 400))
    plan = bw.plan(some, **QUICK)
    assert plan.rows == 300
    labels = np.array(some["label"])
    assert np.array_equal(np.unique(labels[plan.modality(np.arange(300)) == 0]).shape, (1,))


# ------------------------------------------------------------------------------------------------------------------- where plans lie


def test_a_plan_without_a_place_goes_with_its_object(tmp_path):
    plan = bw.plan(DIGITS, **QUICK)
    path = pathlib.Path(plan.path)
    kept = plan.save(tmp_path / "kept")
    assert kept == plan and hashes(kept) == hashes(plan)
    kept_again = bw.Plan.open(tmp_path / "kept", verify=True)
    assert kept_again.plan_id == plan.plan_id
    with pytest.raises(bw.ConfigError, match="kept"):
        plan.save(tmp_path / "kept")
    epoch = plan.epoch(0)
    del plan
    gc.collect()
    assert path.exists() and len(epoch[0])
    del epoch
    gc.collect()
    assert not path.exists()


def test_what_to_do_about_a_plan_that_is_there(tmp_path):
    out = tmp_path / "plan"
    first = bw.plan(DIGITS, out, **QUICK)
    with pytest.raises(bw.ConfigError, match="plan"):
        bw.plan(DIGITS, out, **QUICK)
    began = (out / "run.json").stat().st_mtime_ns
    assert bw.plan(DIGITS, out, exist="reuse", **QUICK) == first
    assert (out / "run.json").stat().st_mtime_ns == began
    with pytest.raises(bw.PlanError, match="seed = 0, not 1"):
        bw.plan(DIGITS, out, exist="reuse", seed=1, **QUICK)
    with pytest.raises(bw.PlanError):
        bw.plan(digits().slice(0, 1000), out, exist="reuse", **QUICK)
    assert bw.plan(DIGITS, out, exist="replace", seed=1, **QUICK) != first
    with pytest.raises(bw.ConfigError, match="exist"):
        bw.plan(DIGITS, out, exist="perhaps", **QUICK)


def test_nothing_is_left_of_a_table(tmp_path):
    bw.plan(digits(), tmp_path / "plan", **QUICK)
    with pytest.raises(bw.ConfigError):
        bw.plan(digits(), tmp_path / "plan-2", tau=-1.0, **QUICK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan"]


# --------------------------------------------------------------------------------------------------------------- while a call lasts


def test_progress_is_told_and_what_it_raises_ends_the_call(tmp_path):
    seen = []
    bw.plan(DIGITS, tmp_path / "plan", features="embedding", progress=seen.append)
    assert seen and all(isinstance(stage, results.Stage) and 0 <= stage.done for stage in seen)

    class Enough(Exception):
        pass

    def stop(stage):
        raise Enough(stage.name)

    with pytest.raises(Enough):
        bw.plan(DIGITS, tmp_path / "other", features="embedding", progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan"]
    with pytest.raises(bw.ConfigError, match="progress"):
        bw.plan(DIGITS, progress="yes", **QUICK)


def test_nothing_is_written_to_the_terminal(capfd):
    bw.plan(DIGITS, **QUICK)
    bw.modalities(DIGITS, features="embedding", modalities=3)
    with pytest.raises(bw.InputError):
        bw.plan("nowhere.parquet")
    assert capfd.readouterr() == ("", "")


def test_warnings_are_of_pythons_and_name_the_users_line(tmp_path):
    import warnings

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        # A feature that rises with the rows.
        bw.plan({"x": np.random.default_rng(0).normal(size=500), "c": np.arange(500)}, modalities=2)
    ours = [w for w in seen if issubclass(w.category, bw.BatchwrightWarning)]
    assert ours and ours[0].filename == __file__


# ------------------------------------------------------------------------------------------------------------------------- results


def test_results_have_the_keys_of_the_commands_json(tmp_path, of_files):
    run = lambda *args: json.loads(subprocess.run([*harness.command(), *map(str, args), "--json"], capture_output=True, check=False).stdout)  # noqa: E731
    count = bw.modalities(DIGITS, features="embedding", modalities=3)
    assert count.to_dict().keys() == run("modalities", DIGITS, "--features", "embedding", "--modalities", 3).keys()
    assert count.modalities == 3 and sum(count.sizes) == count.sample_rows
    need = bw.estimate(DIGITS, **QUICK)
    assert need.to_dict().keys() == run("plan", DIGITS, "--dry-run", "--features", "embedding", "--modality-column", "label").keys()
    assert need and need.rows == of_files.rows
    path = of_files.path
    assert bw.check(of_files, DIGITS).to_dict().keys() == run("check", path, DIGITS).keys()
    other = bw.plan(DIGITS, seed=1, **QUICK)
    delta = bw.diff(of_files, other)
    assert delta and not bw.diff(of_files, path) and delta.to_dict().keys() == run("diff", path, other.path).keys()
    compared = bw.modalities(digits().slice(0, 400), features="embedding", estimator="all")
    assert {"consensus", "kmeans"} <= {one["estimator"] for one in compared.estimators}


def test_a_check_says_whether_and_why(of_files):
    held = bw.check(of_files, DIGITS)
    assert held and held.holds and held.exit_code == 0 and held.answer == "holds"
    assert held.raise_if_drifted() is held
    table = digits()
    few = table.filter(np.isin(table["label"].to_numpy(), [1, 2]))
    import pyarrow

    drifted = bw.check(of_files, pyarrow.concat_tables([table, few, few, few]))
    assert not drifted and drifted.exit_code == 1
    with pytest.raises(bw.DriftError) as e:
        drifted.raise_if_drifted()
    assert e.value.check is drifted and len(str(e.value).splitlines()) > 1
    assert isinstance(e.value, bw.BatchwrightError)


def test_results_are_values(of_files):
    held = bw.check(of_files, DIGITS)
    for value in (held, bw.estimate(DIGITS, **QUICK), bw.diff(of_files, of_files)):
        assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)
        assert "\n" not in repr(value) and repr(value).startswith(type(value).__name__)
        page = value._repr_html_()
        assert "<script" not in page and " id=" not in page and len(page) < 20_000
    with pytest.raises(AttributeError, match="it has answer"):
        held.anser
    with pytest.raises(AttributeError, match="cannot be changed"):
        held.answer = "holds"
    assert "findings" in dir(held)
    page = of_files._repr_html_()
    assert "modalities" in page and "<script" not in page and len(page) < 20_000


def test_a_report_is_a_page_and_a_frame(tmp_path, of_files):
    page = of_files.report()
    assert page.html.startswith("<!doctype html>") and page._repr_html_().startswith("<iframe srcdoc=")
    written = bw.report(of_files, tmp_path / "report.html", drift=bw.check(of_files, DIGITS))
    assert (tmp_path / "report.html").read_text() == written.html != page.html
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(bw.ConfigError, match="notes.txt"):
        of_files.report(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_tables_of_a_plan(of_files):
    import pyarrow

    samples = of_files.table("samples")
    assert len(samples) == of_files.rows and "modality" in samples.column_names
    for _ in range(2):
        assert pyarrow.table(samples).num_rows == of_files.rows
    assert np.array_equal(samples.to_numpy("modality"), of_files.modality(np.arange(of_files.rows)))
    assert np.allclose(samples.to_numpy("distance"), of_files.distance(np.arange(of_files.rows)))
    polars_ = pytest.importorskip("polars")
    assert polars_.DataFrame(of_files.table("modalities")).height == of_files.modalities
    with pytest.raises(bw.ConfigError, match='"modality" is not a table'):
        of_files.table("modality")
    with pytest.raises(bw.ConfigError, match="units"):
        of_files.table("units")
    with pytest.raises(bw.ConfigError, match="stratum"):
        samples.to_numpy("strata")


def test_modules_are_imported_when_they_are_asked_for():
    program = "import sys, batchwright as bw; assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules; print(sorted(dir(bw)) == sorted(bw.__all__)); bw.training"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "True\n"
    with pytest.raises(AttributeError, match="no attribute 'torhc'"):
        bw.torhc


def test_the_compiled_keywords_are_those_of_the_command():
    names = [k["name"] for k in json.loads(_core.keywords("plan"))]
    assert len(names) == len(set(names)) > 30 and {"features", "where", "batch_size", "threads"} <= set(names)
    assert not {"out", "force", "config"} & set(names)
