"""The compiled core: a plan read, computed, looked up, pickled, interrupted; what pyarrow and reference.py say is the truth."""

import ast
import copy
import gc
import inspect
import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchwright as bw
from batchwright import _core

sys.path.insert(0, str(harness.ROOT / "tests" / "oracle"))
import reference  # noqa: E402
import reference_composition  # noqa: E402

FIXTURES = harness.ROOT / "fixtures"
DIGITS = harness.DIGITS


def run(*arguments, program=(sys.executable, "-m", "batchwright"), **options):
    env = {k: v for k, v in os.environ.items() if not k.startswith("BATCHWRIGHT_")}
    return subprocess.run([*program, *map(str, arguments)], env=env, capture_output=True, text=True, **options)


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """A plan of the given data and flags, made once a session by the module's own command."""
    made = {}

    def make(data, *flags):
        if (data, *flags) not in made:
            out = tmp_path_factory.mktemp("plans") / "plan"
            done = run("plan", FIXTURES / data, "-o", out, "-q", *flags)
            assert done.returncode == 0, done.stderr
            made[data, *flags] = out
        return made[data, *flags]

    return make


@pytest.fixture(scope="session")
def digits(make):
    return make("digits.parquet", "--label", "label", "--batch-size", "64", "--candidates", "32,64,128", "--epochs", "3")


def table(path, name):
    return pa.ipc.open_file(pa.memory_map(str(pathlib.Path(path) / name))).read_all()


def about(path):
    return json.loads((pathlib.Path(path) / "plan.json").read_text())


def vectors(data):
    column = pq.read_table(FIXTURES / data)["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


# ---------------------------------------------------------------- a plan


def test_properties_are_those_of_plan_json(digits):
    plan, m = bw.Plan.open(digits), about(digits)
    assert plan.manifest == m
    assert plan.path == str(digits) and plan.plan_id == m["plan"]
    for name in ("rows", "rows_planned", "dims", "modalities", "strata", "batch_size", "epochs", "seed", "information_threshold"):
        assert getattr(plan, name) == m[name], name
    assert plan.candidates == [32, 64, 128] and plan.modality_share == m["modality_share"]["value"]
    assert plan.score_groups.tolist() == m["score_groups"] and plan.inputs == [i["path"] for i in m["inputs"]]
    assert plan.row_dtype == np.uint32
    assert m["plan"][:12] in repr(plan)
    assert bw.Plan.open(digits, verify=True).plan_id == m["plan"]


def test_names_come_from_values_and_texts(make):
    packages = make("packages-2k.parquet", "--features", "embedding")
    with pa.memory_map(str(packages / "modalities.arrow")) as file:
        written = pa.ipc.open_file(file).read_all()["name"].to_pylist()
    names = bw.Plan.open(packages).names
    assert names == written and len(names) > 1
    assert any(name and "=" not in name.split(", ")[-1] for name in names), names
    silent = make("packages-2k.parquet", "--features", "embedding", "--names=false")
    assert set(bw.Plan.open(silent).names) == {""}


def test_written_epochs_equal_pyarrows_reading(digits):
    plan = bw.Plan.open(digits)
    for size in plan.candidates:
        for number in range(3):
            epoch, truth = plan.epoch(number, size), table(digits, f"batches/size-{size}/epoch-{number}.arrow")
            assert epoch.written and len(epoch) == len(truth) and (epoch.epoch, epoch.batch_size) == (number, size)
            for i, (rows, centrality) in enumerate(zip(truth["rows"], truth["centrality"])):
                batch = epoch.batch(i)
                assert batch.dtype == np.uint32 and not batch.flags.writeable
                assert batch.tolist() == rows.as_py()
                assert np.array_equal(epoch.centrality(i), np.array(centrality.as_py(), np.float32))
            assert epoch.rows().tolist() == truth["rows"].combine_chunks().flatten().to_pylist()
            updates = epoch.updates()
            for name in ("n_eff", "x", "score", "update", "coefficient", "ends_update"):
                assert np.array_equal(getattr(updates, name), truth[name].to_numpy()), name


@pytest.mark.parametrize("more", [(), ("--chunk", "8"), ("--chunk", "batch")], ids=str)
def test_computed_epochs_equal_written_ones(make, more):
    """Epochs are a function of strata and seed alone: another plan of the same rows wrote the epoch that this one computes."""
    flags = "--label", "label", "--batch-size", "64", "--candidates", "32,64,128", *more
    bare, full = (bw.Plan.open(make("digits.parquet", *flags, "--epochs", n)) for n in ("0", "3"))
    for size in full.candidates:
        computed, written = bare.epoch(1, size), full.epoch(1, size)
        assert written.written and not computed.written and len(computed) == len(written)
        for i in range(len(written)):
            assert np.array_equal(computed.batch(i), written.batch(i)) and computed.batch(i).dtype == written.batch(i).dtype
            assert not computed.batch(i).flags.writeable
            assert np.array_equal(computed.centrality(i), written.centrality(i))
            assert np.array_equal(computed.weights(i, 0.2), written.weights(i, 0.2))
            assert computed.n_eff(i) == written.n_eff(i)
            assert np.float32(computed.n_eff(i)) == written.updates().n_eff[i]
        assert np.array_equal(computed.rows(), written.rows())
        n = len(written)
        for start, stop in ((0, 1), (3, 9), (n - 2, n), (n, n), (5, 5), (0, n - 1)):
            for epoch in (computed, written):
                part = epoch.rows(start, stop)
                assert np.array_equal(part, written.rows()[start * size : stop * size])
                assert part.dtype == full.row_dtype and not part.flags.writeable
            # What was computed last is remembered, and what is asked about next may lie beside it.
            for i in {start, stop} - {n}:
                assert np.array_equal(computed.weights(i, 0.2), written.weights(i, 0.2))
        for name in ("n_eff", "x", "score", "update", "coefficient", "ends_update"):
            assert np.array_equal(getattr(computed.updates(), name), getattr(written.updates(), name)), name


def test_rows_of_a_chunk_stand_together(make):
    """As the reference deals them, any size, an epoch that was never written."""
    path = make("digits.parquet", "--batch-size", "64", "--candidates", "32,64", "--chunk", "8", "--epochs", "0")
    plan, strata = bw.Plan.open(path), table(path, "strata.arrow")
    assert plan.chunk == 8 and bw.Plan.open(make("digits.parquet")).chunk == 1
    offsets, rows = json.loads(strata.schema.metadata[b"offsets"]), strata["row"].to_numpy()
    members = [rows[a:b] for a, b in zip(offsets, offsets[1:])]
    tree = np.array(json.loads(strata.schema.metadata[b"dendrogram"]))
    deal = reference_composition.Deal(members, 32, plan.seed, 7, tree, chunk=8)
    for size in (32, 64, 96):
        epoch = plan.epoch(7, size)
        assert len(epoch) == deal.batches(size // 32)
        assert all(np.array_equal(deal.batch(i, size // 32), epoch[i]) for i in range(len(epoch)))
        assert all(epoch.n_eff(i) == len(epoch[i]) for i in range(len(epoch)))


def test_epochs_never_written(digits):
    plan = bw.Plan.open(digits)
    for size in (64, 96, 320):  # also sizes that are no candidates
        epoch = plan.epoch(1000, size)
        rows = np.concatenate([epoch.batch(i) for i in range(len(epoch))])
        assert sorted(rows.tolist()) == list(range(1797)) and np.array_equal(rows, epoch.rows())
        assert all(np.array_equal(a, epoch.batch(i)) for i, a in enumerate(epoch)), "it is a sequence"
        groups = plan.score_groups[plan.stratum(rows)]
        score = plan.score()
        for i in range(len(epoch)):
            histogram = np.bincount(groups[i * size : (i + 1) * size], minlength=score.groups)
            assert np.array_equal(histogram, plan.histogram(epoch[i]))
            assert score.n_eff(histogram)[0] == epoch.n_eff(i)
            assert np.float32(score.n_eff(histogram)[1]) == epoch.updates().x[i]
    assert not np.array_equal(plan.epoch(1000).rows(), plan.epoch(1001).rows())


def test_indices(digits):
    epoch = bw.Plan.open(digits).epoch(0)
    n = len(epoch)
    assert np.array_equal(epoch[-1], epoch.batch(n - 1)) and np.array_equal(epoch[np.int64(2)], epoch.batch(2))
    for bad in (n, -n - 1, 10**15):
        for method in (epoch.batch, epoch.__getitem__, epoch.n_eff, epoch.centrality, epoch.loss_weight):
            with pytest.raises(IndexError, match=f"epoch of {n} batches"):
                method(bad)
    with pytest.raises(TypeError):
        epoch["0"]
    for start, stop in ((0, n + 1), (3, 2), (n + 1, None)):
        with pytest.raises(IndexError, match=f"batches {start} to .* of an epoch of {n} batches"):
            epoch.rows(start, stop)
    assert np.array_equal(epoch.rows(2), epoch.rows()[2 * epoch.batch_size :])


def test_views_outlive_everything(digits, tmp_path):
    """A batch of a written epoch is a view of the file: no copy, and it stays readable when plan and files are gone."""
    shutil.copytree(digits, tmp_path / "plan")
    epoch = bw.Plan.open(tmp_path / "plan").epoch(0)
    first, again, all_rows = epoch.batch(0), epoch.batch(0), epoch.rows()
    assert first.ctypes.data == again.ctypes.data == all_rows.ctypes.data, "the same memory"
    assert first.base is epoch and not first.flags.owndata
    with pytest.raises(ValueError):
        first.flags.writeable = True
        first[0] = 1
    want = first.tolist()
    del epoch, again, all_rows
    gc.collect()
    shutil.rmtree(tmp_path / "plan")
    assert first.tolist() == want


def test_skewed_plans_have_loss_weights(make):
    for epochs in (0, 1):
        plan = bw.Plan.open(make("digits.parquet", "--allocation", "equal", "--epochs", epochs))
        epoch, strata = plan.epoch(0), plan.strata
        sizes = np.bincount(plan.stratum(np.arange(plan.rows)))
        drawn = np.bincount(plan.stratum(epoch.rows()), minlength=strata)
        for i in range(len(epoch)):
            got = epoch.loss_weight(i)
            assert np.allclose(got, (sizes / drawn)[plan.stratum(epoch[i])])
            assert np.array_equal(got, plan.loss_weight(epoch[i]))
    plain = bw.Plan.open(make("digits.parquet", "--epochs", "0"))
    assert plain.epoch(0).loss_weight(0) is None and plain.loss_weight([0]) is None


# ---------------------------------------------------------------- rows


def test_look_ups_equal_samples(make):
    path = make("digits.parquet", "--holdout", "0.1")
    plan, samples = bw.Plan.open(path), table(path, "samples.arrow")
    rows = np.random.default_rng(0).integers(0, plan.rows, 500)
    for name, missing in (("modality", -1), ("stratum", -1), ("distance", np.nan), ("centrality", np.nan)):
        values = samples[name].to_pylist()
        want = np.array([missing if v is None else v for v in values])[rows]
        for given in (rows, rows.astype(np.uint32), rows.astype(np.uint64), rows.astype(np.int16), rows.tolist(), rows[::1][::-1][::-1]):
            assert np.array_equal(getattr(plan, name)(given), want.astype(getattr(plan, name)(given).dtype), equal_nan=True), name
    held = plan.holdout()
    assert (plan.modality(held) == -1).all() and len(held) == round(0.1 * plan.rows)
    assert sorted([*held.tolist(), *plan.epoch(0).rows().tolist()]) == list(range(plan.rows))
    assert plan.modality([]).shape == (0,)


def test_impossible_rows(digits):
    plan = bw.Plan.open(digits)
    for rows, said in (([1797], "1797"), ([-1], "negative"), ([0.5], "float64"), ([[0]], "shape"), (["a"], "whole numbers"), (3, "shape")):
        for look_up in (plan.modality, plan.centrality, plan.locate, plan.histogram, plan.loss_weight, lambda r: plan.weights_for(r, 0)):
            with pytest.raises(bw.ConfigError, match=said):
                look_up(rows)


def test_new_rows_are_assigned_as_the_plan_did(digits, make):
    plan, samples, points = bw.Plan.open(digits), table(digits, "samples.arrow"), vectors("digits.parquet")
    for given in (points, points.astype(np.float64), np.asfortranarray(points), points.tolist()):
        got = plan.assign(given)
        for name in ("modality", "stratum", "distance"):
            assert np.array_equal(getattr(got, name), samples[name].to_numpy()), name
    got = plan.assign_dataset(DIGITS)
    assert np.array_equal(got.stratum, samples["stratum"].to_numpy())
    assert plan.assign(points[:0]).modality.shape == (0,)
    with pytest.raises(bw.ConfigError, match="63 numbers"):
        plan.assign(points[:, :63])
    with pytest.raises(bw.ConfigError, match="shape"):
        plan.assign(points[0])
    broken = points.copy()
    broken[7, 3] = np.nan
    with pytest.raises(bw.InputError, match="row 7"):
        plan.assign(broken)
    several = bw.Plan.open(make("mixed.parquet", "--features", "length,items", "--epochs", "0"))
    with pytest.raises(bw.ConfigError, match="dataset with the columns"):
        several.assign(points)


def test_weights(digits):
    plan = bw.Plan.open(digits)
    for u in (0.0, 0.3, 0.5, 1.0):
        want = reference.weight(plan.centrality(np.arange(plan.rows)).astype(float), reference.beta(u))
        got = plan.weights(u)
        assert got.dtype == np.float32 and np.allclose(got, want, rtol=1e-6) and plan.beta(u) == reference.beta(u)
        rows = plan.epoch(0).batch(3)
        assert np.array_equal(plan.weights_for(rows, u), got[rows]) and np.array_equal(plan.epoch(0).weights(3, u), got[rows])
    for u in (-0.1, 1.1, float("nan")):
        with pytest.raises(bw.ConfigError, match="progress"):
            plan.weights(u)


def test_weights_normalised_by_batch_and_off(make):
    plan = bw.Plan.open(make("digits.parquet", "--normalise", "batch", "--weight-strength", "2", "--epochs", "0"))
    w = plan.epoch(5).weights(2, 0.0)
    assert abs(w.mean() - 1) < 1e-6 and w.std() > 0.2
    off = bw.Plan.open(make("digits.parquet", "--weights", "off", "--epochs", "1"))
    assert (off.epoch(0).weights(0, 0.0) == 1).all() and (off.weights(0.0) == 1).all()
    assert off.epoch(0).centrality(0).shape == off.epoch(0).batch(0).shape


def test_locate_and_row_groups(make, tmp_path):
    """Two files of several row groups: every row is found where pyarrow reads it."""
    data = pq.read_table(DIGITS)
    for name, part, size in (("b/one", data.slice(0, 1000), 300), ("a", data.slice(1000), 797)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(part, tmp_path / f"{name}.parquet", row_group_size=size)
    done = run("plan", tmp_path, "-o", tmp_path / "out.plan", "-q", "--epochs", "0")
    assert done.returncode == 0, done.stderr
    plan = bw.Plan.open(tmp_path / "out.plan")
    assert plan.inputs == ["a.parquet", "b/one.parquet"]
    files = plan.check_dataset([tmp_path / "b", tmp_path / "a.parquet"], fingerprints=True)
    assert files == [str(tmp_path / f) for f in plan.inputs]
    groups = plan.row_groups()
    assert groups.file.tolist() == [0, 1, 1, 1, 1] and groups.rows.tolist() == [797, 300, 300, 300, 100]
    assert groups.first_row.tolist() == [0, 797, 1097, 1397, 1697] and groups.row_group.tolist() == [0, 0, 1, 2, 3]
    rows = np.random.default_rng(0).permutation(plan.rows)[:50]
    places = plan.locate(rows)
    everything = np.concatenate([vectors(f) for f in files])
    for row, file, group, offset in zip(rows, places.file, places.row_group, places.offset):
        cell = pq.ParquetFile(files[file]).read_row_group(int(group))["embedding"][int(offset)].as_py()
        assert cell == everything[row].tolist()


def test_ids(make):
    path = make("packages-2k.parquet", "--id", "package", "--epochs", "0", "--features", "embedding")
    names = pq.read_table(FIXTURES / "packages-2k.parquet")["package"].to_pylist()
    plan, rows = bw.Plan.open(path), [5, 1999, 5, 0]
    assert plan.ids(rows, FIXTURES / "packages-2k.parquet") == [names[r] for r in rows]
    with pytest.raises(bw.PlanError):
        plan.ids(rows, DIGITS)


def test_probe(make, digits):
    plan, strata = bw.Plan.open(digits), table(digits, "strata.arrow")
    offsets = json.loads(strata.schema.metadata[b"offsets"])
    members = np.split(strata["row"].to_numpy(), offsets[1:-1])
    for size in (1024, 100, 10**6):
        n = min(size, plan.rows_planned)
        want = reference.EpochPlan(members, n, reference.key(plan.seed, 6), 0).batch(0)
        assert np.array_equal(plan.probe(size), want)
    held = bw.Plan.open(make("digits.parquet", "--holdout", "0.1"))
    assert set(held.probe(100).tolist()) <= set(held.holdout().tolist()) and len(held.probe(100)) == 100
    assert sorted(held.probe()) == held.holdout().tolist(), "all of 180 rows"


# ---------------------------------------------------------------- what goes wrong


def test_exceptions():
    assert issubclass(bw.ConfigError, ValueError) and issubclass(bw.ConfigError, bw.BatchwrightError)
    assert issubclass(bw.InputError, bw.BatchwrightError) and issubclass(bw.PlanError, bw.BatchwrightError)
    with pytest.raises(bw.PlanError) as told:
        bw.Plan.open("no-such.plan")
    assert "does not exist" in str(told.value) and told.value.help in str(told.value) and told.value.help
    again = pickle.loads(pickle.dumps(told.value))
    assert type(again) is bw.PlanError and str(again) == str(told.value) and again.help == told.value.help


def test_wrong_dataset(digits, tmp_path):
    plan = bw.Plan.open(digits)
    assert plan.check_dataset(str(DIGITS), fingerprints=True) == [str(DIGITS)]
    with pytest.raises(bw.PlanError, match="made from other data"):
        plan.check_dataset(FIXTURES / "packages-2k.parquet")
    changed = pq.read_table(DIGITS)
    other = pa.array(vectors("digits.parquet").ravel() + 1)
    changed = changed.set_column(0, changed.schema.field(0), pa.FixedSizeListArray.from_arrays(other, type=changed.schema.field(0).type))
    pq.write_table(changed, tmp_path / "digits.parquet", row_group_size=600)
    with pytest.raises(bw.PlanError, match="other contents"):
        plan.check_dataset([tmp_path / "digits.parquet"], fingerprints=True)
    with pytest.raises(bw.InputError, match="no-such"):
        plan.check_dataset("no-such.parquet")
    with pytest.raises(TypeError):
        plan.check_dataset(3)


def test_newer_format(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "plan")
    text = (tmp_path / "plan/plan.json").read_text()
    (tmp_path / "plan/plan.json").write_text(text.replace('"format": "1.1"', '"format": "2.0"'))
    with pytest.raises(bw.PlanError, match="2.0"):
        bw.Plan.open(tmp_path / "plan")


def test_damaged_plans(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "plan")
    file = tmp_path / "plan/strata.arrow"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    bw.Plan.open(tmp_path / "plan")  # sizes and footers are as they should be
    with pytest.raises(bw.PlanError, match="BLAKE3"):
        bw.Plan.open(tmp_path / "plan", verify=True)
    file.write_bytes(data[:-9])
    with pytest.raises(bw.PlanError, match="bytes"):
        bw.Plan.open(tmp_path / "plan")


def test_world_size_that_does_not_divide(digits):
    plan = bw.Plan.open(digits)
    assert plan.check_world_size(4) == 16 and plan.check_world_size(2, 4, batch_size=128) == 16
    for given in ((3,), (0,), (16, 8), (2**31, 2**31)):
        with pytest.raises(bw.ConfigError, match="does not divide"):
            plan.check_world_size(*given)
    for size in (0, 33):
        with pytest.raises(bw.ConfigError, match="multiple of 32"):
            plan.epoch(0, size)


def test_pickling(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "plan")
    plan = bw.Plan.open(tmp_path / "plan")
    epoch, saved = plan.epoch(7), pickle.dumps((plan, plan.epoch(7), plan.epoch(0)))
    assert len(saved) < 1000, "path and id, no data"
    other, computed, written = pickle.loads(saved)
    assert other.plan_id == plan.plan_id and np.array_equal(computed.rows(), epoch.rows()) and written.written
    assert copy.deepcopy(plan).plan_id == plan.plan_id
    # Nothing is opened before it is needed, and another plan in its place is refused.
    alone = pickle.dumps(plan)
    shutil.rmtree(tmp_path / "plan")
    lazy = pickle.loads(alone)
    with pytest.raises(bw.PlanError, match="does not exist"):
        lazy.rows
    assert run("plan", DIGITS, "-o", tmp_path / "plan", "-q", "--seed", "5").returncode == 0
    with pytest.raises(bw.PlanError, match="has changed"):
        lazy.rows


# ---------------------------------------------------------------- threads, processes, signals


def test_threads_share_a_plan(digits):
    epoch = bw.Plan.open(digits).epoch(9)
    want, wrong = [epoch.batch(i).tolist() for i in range(len(epoch))], []

    def work(seed):
        for i in np.random.default_rng(seed).integers(0, len(epoch), 300):
            if epoch.batch(i).tolist() != want[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_after_use(digits):
    """A worker forked from a process that has used its threads can use its own."""
    plan = bw.Plan.open(digits)
    want = plan.epoch(9).updates().n_eff
    child = os.fork()
    if child == 0:
        same = np.array_equal(plan.epoch(9).updates().n_eff, want) and len(plan.assign(vectors("digits.parquet")).modality) == 1797
        os._exit(0 if same else 1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the forked process hangs")
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the names of threads are read from /proc")
def test_no_thread_outlives_a_call(digits, tmp_path):
    """Threads that are kept would be missing after a fork: whoever waits for one then waits for ever."""
    code = """
import pathlib, sys, time
import numpy as np
import batchwright as bw
from batchwright._core import main

plan, data, out = sys.argv[1:]
for name in ["plan", "modalities", "check", "update", "inspect", "diff", "report", "synth"]:
    arguments = {
        "plan": [data, "-o", f"{out}/plan", "--id", "label"],
        "modalities": [data],
        "check": [plan, data],
        "update": [plan, data, "-o", f"{out}/updated", "--refit"],
        "inspect": [plan],
        "diff": [plan, f"{out}/plan"],
        "report": [plan, "-o", f"{out}/report.html"],
        "synth": ["-o", f"{out}/made.parquet", "--rows", "1000", "--dims", "8"],
    }[name]
    assert main(["batchwright", name, *arguments, "-q"]) in (0, 1), name
opened = bw.Plan.open(f"{out}/plan", verify=True)
epoch = opened.epoch(9)
epoch.updates(), epoch.rows(), opened.weights(0.5), opened.ids([3, 1], data)
opened.check_dataset(data, fingerprints=True)
opened.assign(np.zeros((3000, 64), dtype=np.float32)), opened.assign_dataset(data)
for wait in range(100):
    kept = [p for p in pathlib.Path("/proc/self/task").glob("*/comm") if p.read_text().startswith("batchwright")]
    if not kept:
        sys.exit()
    time.sleep(0.1)
sys.exit(f"{len(kept)} threads are kept")
"""
    done = subprocess.run([sys.executable, "-c", code, digits, DIGITS, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def start(command, **settings):
    """A process that SIGINT interrupts, also where these tests run in the background and ignore it."""
    return subprocess.Popen(command, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **settings)


def interrupt(code, *arguments, cwd=None):
    """Runs Python code that prints `ready`; sends SIGINT a third of a second later; (seconds until it ended, its process)."""
    child = start([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd)
    assert child.stdout.readline() == "ready\n", child.communicate()
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    begin = time.monotonic()
    out, err = child.communicate(timeout=120)
    return time.monotonic() - begin, child.returncode, out, err


def test_interrupt_in_a_long_call(digits):
    code = """
import sys, time
import numpy as np, batchwright as bw
plan = bw.Plan.open(sys.argv[1])
points = np.random.default_rng(0).standard_normal((6_000_000, 64), np.float32)
begin = time.monotonic()
try:
    print("ready", flush=True)
    plan.assign(points)
    print("finished after", time.monotonic() - begin)
except KeyboardInterrupt:
    print("interrupted", plan.rows)  # and the plan goes on working
"""
    seconds, status, out, err = interrupt(code, digits)
    assert (status, out) == (0, "interrupted 1797\n"), (out, err)
    assert seconds < 30


def test_interrupt_while_another_thread_calls(digits):
    # Python tells the main thread alone, and waits for the other one at its end.
    code = """
import sys, threading
import numpy as np, batchwright as bw
plan = bw.Plan.open(sys.argv[1])
points = np.random.default_rng(0).standard_normal((6_000_000, 64), np.float32)
def work():
    while True:
        plan.assign(points)
thread = threading.Thread(target=work)
thread.start()
print("ready", flush=True)
thread.join()
"""
    seconds, status, out, err = interrupt(code, digits)
    assert status != 0 and "KeyboardInterrupt" in err, (status, out, err)
    assert seconds < 30


# ---------------------------------------------------------------- the command


def binary():
    given = os.environ.get("BATCHWRIGHT_BIN")
    places = [pathlib.Path(given)] if given else [harness.ROOT / "target" / kind / "batchwright" for kind in ("debug", "release")]
    for place in places:
        if place.is_file():
            return place
    pytest.skip("no stand-alone program to compare with: cargo build, or set BATCHWRIGHT_BIN")


@pytest.mark.parametrize("arguments", ["--help", "--version", "plan --help", "config show", "no-such-verb", "inspect no-such.plan", "plan", "inspect PLAN --json", "inspect PLAN"])
def test_the_command_is_the_binary(digits, arguments):
    arguments = [str(digits) if a == "PLAN" else a for a in arguments.split()]
    ours, theirs = run(*arguments), run(*arguments, program=(binary(),))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_the_command_writes_the_same_plan(tmp_path):
    for out, program in (("ours", (sys.executable, "-m", "batchwright")), ("theirs", (binary(),))):
        assert run("plan", DIGITS, "-o", tmp_path / out, "-q", program=program).returncode == 0
    files = sorted(p.relative_to(tmp_path / "ours") for p in (tmp_path / "ours").rglob("*") if p.is_file() and p.name != "run.json")
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes(), file


def test_the_console_script():
    script = pathlib.Path(sys.executable).with_name("batchwright")
    if not script.is_file():
        pytest.skip("the package is not installed here: only its folder is on the path")
    assert run("--version", program=(script,)).stdout == run("--version").stdout == f"batchwright {bw.__version__}\n"


def test_main_returns(capfd, digits):
    assert _core.main(["batchwright", "inspect", str(digits), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["plan"] == about(digits)
    assert _core.main(["batchwright", "inspect", "no-such.plan"]) == 3
    assert "does not exist" in capfd.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_command_leaves_nothing(tmp_path, sent):
    assert run("synth", "-o", tmp_path / "data.parquet", "--rows", "60000", "--dims", "64", "--modalities", "5").returncode == 0
    command = [sys.executable, "-m", "batchwright", "plan", tmp_path / "data.parquet", "-o", tmp_path / "plan", "-v"]
    child = start(command, stderr=subprocess.PIPE)
    child.stderr.readline()  # the first stage has begun
    child.send_signal(sent)
    child.communicate(timeout=120)
    assert child.returncode == 130
    assert [p.name for p in tmp_path.iterdir()] == ["data.parquet"]


# ---------------------------------------------------------------- decisions


def test_score_equals_reference():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.5, 0.9):
        counts = rng.integers(1, 1000, 12)
        ours, theirs = bw.Score(counts, share), reference.Score(counts, share)
        assert ours.groups == 12 and pickle.loads(pickle.dumps(ours)).groups == 12
        for _ in range(50):
            histogram = rng.binomial(counts, 0.1)
            histogram[0] += 1
            for u in (0.0, 0.25, 1.0):
                a = share * max(0.0, 1 - 2 * u)
                assert np.allclose(ours.n_eff(histogram, u), theirs.n_eff(histogram, a), rtol=1e-12)
    for bad in ([1] * 11, [0] * 12, [-1] * 12):
        with pytest.raises(bw.ConfigError, match="histogram"):
            ours.n_eff(bad)
    with pytest.raises(bw.ConfigError, match="modality_share"):
        bw.Score([1, 2], 0.95)
    with pytest.raises(bw.ConfigError, match="no rows"):
        bw.Score([0, 0])


def test_accumulator_equals_reference_bit_for_bit():
    rng = np.random.default_rng(1)
    for threshold, size in ((128, 32), (400.5, 100), (1000, 7)):
        ours, theirs = bw.Accumulator(threshold, size), reference.Accumulator(threshold, int(8 * np.ceil(threshold / size)))
        assert ours.longest == theirs.mx
        window = []
        for n_eff in rng.lognormal(np.log(size) - 1, 1.5, 2000):
            got = ours.feed(n_eff, size)
            assert got == theirs.feed(n_eff, size)
            window.append(got[0])
            assert ours.total == sum(window) and ours.pending == (0 if got[1] else len(window))
            assert np.array_equal(ours.coefficients(), np.array(window) / sum(window))
            if got[1]:
                assert ours.finish() is False
                window = []


def test_accumulator_at_the_end_of_an_epoch_and_resumed():
    a = bw.Accumulator(100, 32)
    assert a.feed(32, 32) == (32, False) and a.feed(1e9, 8) == (32, False)
    b = bw.Accumulator(5, 1)
    b.restore(json.loads(json.dumps(a.state())))
    for c in (b, pickle.loads(pickle.dumps(a)), copy.deepcopy(a)):
        assert (c.threshold, c.batch_size, c.longest, c.pending, c.total) == (100, 32, 32, 2, 64)
        assert c.feed(36, 32) == (36, True) and np.allclose(c.coefficients(), [0.32, 0.32, 0.36])
    assert a.finish() and not a.finish() and a.pending == 0 and a.coefficients().tolist() == [0.5, 0.5]
    a.batch_size = 64
    assert a.longest == 16 and bw.Accumulator(100, 32, longest=3).longest == 3
    for bad in ({}, {"x": 1}, {**a.state(), "batch_size": "a"}):
        with pytest.raises(bw.ConfigError, match="state"):
            b.restore(bad)
    for arguments in ((0, 32), (float("nan"), 32), (100, 0), (100, 32, 0)):
        with pytest.raises(bw.ConfigError):
            bw.Accumulator(*arguments)
    for fed in ((0, 3), (float("nan"), 3), (1, 0)):
        with pytest.raises(bw.ConfigError):
            a.feed(*fed)


def test_planned_updates_are_the_accumulators(digits):
    plan = bw.Plan.open(digits)
    for size in plan.candidates:
        epoch, accumulator = plan.epoch(0, size), plan.accumulator(size)
        assert accumulator.threshold == plan.information_threshold
        ends = [accumulator.feed(epoch.n_eff(i), len(epoch[i]))[1] for i in range(len(epoch))]
        ends[-1] |= accumulator.finish()
        assert np.array_equal(ends, epoch.updates().ends_update)


LOSSES = [2.3 * 0.97**i + 0.05 * (i * 7 % 5) for i in range(200)]


@pytest.mark.parametrize("policy", ["rate", "extrapolation", "ratchet"])
@pytest.mark.parametrize("candidates", [2, 3, 6])
def test_loader_choice_equals_reference(policy, candidates):
    """Decisions equal to the last one; losses and rewards to the last bits of a logarithm."""
    sizes = [32 << k for k in range(candidates)]
    theirs = reference.Ratchet(candidates) if policy == "ratchet" else reference.LoaderPolicy(candidates, 5, reward=policy)
    ours = bw.LoaderChoice(sizes, 1000, 200, policy=policy, seed=5, segment_rows=100)
    assert ours.segments == 2000 and ours.begin(2.5) == 32
    before = 2.5
    for i, loss in enumerate(LOSSES):
        k, cost = theirs.choose(), 1.0 + i % 3
        assert (ours.candidate, ours.batch_size) == (k, sizes[k]), i
        if i % 50 == 49:
            loss = float("nan") if i % 100 == 49 else float("inf")
        after = loss if np.isfinite(loss) else 50 * before
        said = theirs.update(k, before, after, cost)
        ours.update(loss, cost)
        entry = ours.log[-1]
        assert (entry["segment"], entry["candidate"], entry["before"], entry["observed"], entry["cost"]) == (i, k, before, after, cost)
        assert np.isclose(entry["surprise"], np.log(entry["expected"]) - np.log(after), atol=1e-12)
        if policy != "ratchet":
            assert np.isclose(entry["reward"], said["rate"], rtol=1e-12, atol=1e-14) and np.isclose(entry["expected"], said["expected"], rtol=1e-12)
        before = after


def test_ratchet_equals_reference():
    ours, theirs = bw.Ratchet(5), reference.Ratchet(5)
    for i, (before, after) in enumerate(zip(LOSSES, LOSSES[1:])):
        assert ours.choose() == theirs.choose(), i
        ours.update(before, after, 32.0)
        theirs.update(ours.choose(), before, after, 32.0)
        if i == 60:
            fresh = bw.Ratchet(5)
            fresh.restore(json.loads(json.dumps(ours.state())))
            ours = pickle.loads(pickle.dumps(fresh))
    assert ours.choose() > 0, "or nothing was tested"
    with pytest.raises(bw.ConfigError):
        bw.Ratchet(4).restore(ours.state())
    with pytest.raises(bw.ConfigError):
        bw.Ratchet(0)


def test_loader_choice_counts_rows_and_resumes(digits):
    plan = bw.Plan.open(digits)
    choice = plan.loader_choice(100, segment_rows=640)
    assert choice.batch_sizes == plan.candidates and choice.segments == 100 * 1797 // 640
    choice.begin(2.3)
    assert [choice.advance(32) for _ in range(20)] == [False] * 19 + [True]
    assert choice.update(2.0, 1.0) == 64, "the warm-up goes on to the next size"
    assert [choice.advance(32, 32), choice.advance(64, 64)] == [False, False]
    resumed = plan.loader_choice(100, segment_rows=640)
    resumed.restore(json.loads(json.dumps(choice.state())))
    for c in (choice, resumed, pickle.loads(pickle.dumps(choice))):
        assert [c.advance(64) for _ in range(9)] == [False] * 8 + [True]
        c.update(1.9, 1.0)
        assert (c.log[-1]["rows"], c.log[-1]["other_rows"]) == (640, 32) and c.batch_size == 128
    with pytest.raises(bw.ConfigError, match="other settings"):
        plan.loader_choice(100, segment_rows=641).restore(choice.state())


def test_loader_choice_refuses(digits):
    plan = bw.Plan.open(digits)
    with pytest.raises(bw.ConfigError, match="too few to choose among 3") as told:
        plan.loader_choice(3)
    assert "segment_rows" in told.value.help
    with pytest.raises(bw.ConfigError, match="policies are"):
        plan.loader_choice(1000, policy="best")
    for epochs in (0, float("nan"), float("inf"), -1):
        with pytest.raises(bw.ConfigError, match="epochs"):
            plan.loader_choice(epochs)
    choice = plan.loader_choice(1000)
    with pytest.raises(bw.ConfigError, match="begin"):
        choice.update(1.0, 1.0)
    with pytest.raises(bw.ConfigError, match="untrained"):
        choice.begin(float("nan"))
    choice.begin(1.0)
    for cost in (0, -1, float("nan")):
        with pytest.raises(bw.ConfigError, match="cost"):
            choice.update(1.0, cost)


# ---------------------------------------------------------------- the stubs


def test_stubs_tell_the_truth():
    """Every name, parameter and docstring of _core.pyi is there at run time, and nothing else is."""
    stub = ast.parse((pathlib.Path(_core.__file__).parent / "_core.pyi").read_text())
    classes = {n.name: n for n in stub.body if isinstance(n, ast.ClassDef)}
    public = {n for n in dir(_core) if not n.startswith("_")}
    assert public == set(classes) | {n.name for n in stub.body if isinstance(n, ast.FunctionDef)}
    for name, node in classes.items():
        if name.endswith("Error"):
            continue
        there = getattr(_core, name)
        assert inspect.cleandoc(there.__doc__) == ast.get_docstring(node), name
        methods = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
        members = {n for n in vars(there) if not n.startswith("_")}
        assert members == {n for n in methods if not n.startswith("_")}, name
        for method, function in methods.items():
            if method.startswith("__") or any(isinstance(d, ast.Attribute) for d in function.decorator_list):
                continue
            doc = ast.get_docstring(function)
            if doc:
                assert inspect.cleandoc(getattr(there, method).__doc__) == doc, f"{name}.{method}"
            if callable(getattr(there, method)):
                parameters = [p for p in inspect.signature(getattr(there, method)).parameters if p != "self"]
                args = function.args
                assert parameters == [a.arg for a in [*args.args, *args.kwonlyargs, *filter(None, [args.kwarg])] if a.arg != "self"], f"{name}.{method}"
