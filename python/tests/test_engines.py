"""Plans made by worker processes, job directories and clusters are those of one process, whatever happens to the workers."""

import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

HERE = pathlib.Path(__file__).parent
MODULE = [sys.executable, "-m", "batchwright"]
SMALL = ["--task-bytes", "64KiB"]


def write(path: pathlib.Path, rows: range) -> None:
    n = len(rows)
    number = np.arange(rows.start, rows.stop)
    rng = np.random.default_rng(rows.start)
    vectors = rng.normal(size=(n, 6)).astype(np.float32) + 7 * (number % 5)[:, None] * (np.arange(6) % 5)
    columns = {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), 6),
        "class": pa.array(number * 7 % 11),
        "word": pa.array([None if i % 9 == 0 else f"w{i % 4}" for i in number]),
        # Two rows that the sample misses cannot be used.
        "rare": pa.array([None if i in (33_333, 60_001) else float(i % 10) for i in number]),
    }
    pq.write_table(pa.table(columns), path, row_group_size=18_000)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("engines") / "data"
    folder.mkdir()
    write(folder / "a.parquet", range(30_000))
    write(folder / "b.parquet", range(30_000, 70_000))
    return folder


def digest(plan: pathlib.Path) -> str:
    """Of all files but run.json."""
    whole = hashlib.sha256()
    for file in sorted(plan.rglob("*")):
        if file.is_file() and file.name != "run.json":
            whole.update(f"{file.relative_to(plan)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


FLAGS = ["--features", "embedding", "--resolution", "600", "--epochs", "1", "--label", "class"]


def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    root = str(pathlib.Path(__import__("batchwright").__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # A test of its own environment variables, not of those of this run.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BATCHWRIGHT_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "ENGINE_TEST_DIR": str(tmp_path)}


def run(tmp_path, command, timeout=300):
    return subprocess.run(
        [str(x) for x in command], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=timeout
    )


def plan(tmp_path, data, name, *flags, engine=None):
    out = tmp_path / name
    command = [*MODULE] if engine is None else [sys.executable, HERE / "engine_runs.py", engine]
    flags = [*flags, *(["--engine", "test", *SMALL] if engine else [])]
    ran = run(tmp_path, [*command, "plan", data, "-o", out, *FLAGS, *flags])
    assert ran.returncode == 0, ran.stderr
    return digest(out), ran.stderr


@pytest.fixture(scope="module")
def local(data, tmp_path_factory) -> str:
    tmp_path = tmp_path_factory.mktemp("local")
    found = {plan(tmp_path, data, f"threads-{n}", "--threads", n)[0] for n in (1, 2, 7)}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_processes(data, local, tmp_path, count):
    assert plan(tmp_path, data, "plan", "--engine", f"processes:{count}", *SMALL)[0] == local


def test_a_killed_process_costs_time_alone(data, local, tmp_path):
    found, said = plan(tmp_path, data, "plan", engine="killed")
    assert found == local and (tmp_path / "killed").exists()
    assert "lost with its worker" in said, said


def test_an_executor_that_is_given_cannot_be_made_again(data, tmp_path):
    ran = run(tmp_path, [sys.executable, HERE / "engine_runs.py", "instance", "plan", data, "-o", "plan", *FLAGS, "--engine", "test", *SMALL])
    assert ran.returncode == 2 and "function that makes the executor" in ran.stderr, ran.stderr
    assert not (tmp_path / "plan").exists()


def test_folder_with_workers_that_come_and_go(data, local, tmp_path):
    folder = tmp_path / "tasks"
    env = {**environment(tmp_path), "ENGINE_TEST_FOLDER": str(folder)}
    out = tmp_path / "plan"
    driver = [sys.executable, HERE / "engine_runs.py", "folder", "plan", data, "-o", out, *FLAGS, "--engine", "test", *SMALL]
    driver = subprocess.Popen([str(x) for x in driver], env=env, stderr=subprocess.PIPE, text=True)
    workers: list[subprocess.Popen] = []
    try:
        # What a worker leaves that was lost in the middle of task 2: its lease.
        deadline = time.monotonic() + 120
        while not (lost := sorted(folder.glob("JOB-*/task-00002"))):
            assert time.monotonic() < deadline and driver.poll() is None, driver.stderr.read()
            time.sleep(0.01)
        (lost[0].parent / "lease-00002").touch()
        command = [*MODULE, "work", str(folder), "--threads", "1", "--idle", "30"]
        workers += [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(2)]
        time.sleep(0.5)
        workers[0].kill()
        assert driver.wait(timeout=120) == 0, driver.stderr.read()
        assert "lost with its worker" in driver.stderr.read()
    finally:
        driver.kill()
        for worker in workers:
            worker.kill()
            worker.wait()
    assert digest(out) == local
    assert not list(folder.iterdir()), "nothing is left of the job"


def test_the_stand_alone_program_works_along(data, local, tmp_path):
    program = os.environ.get("BATCHWRIGHT_BIN") or shutil.which("batchwright")
    if not program:
        pytest.skip("no stand-alone program: BATCHWRIGHT_BIN names none")
    worker = subprocess.Popen([program, "work", str(tmp_path / "tasks"), "--idle", "30"], stdout=subprocess.PIPE)
    try:
        # The same code was built with other features: of the same release they work together.
        ran = run(tmp_path, [program, "plan", data, "-o", "plan", *FLAGS, "--engine", f"folder:{tmp_path / 'tasks'}", *SMALL])
    finally:
        worker.kill()
        worker.wait()
    assert ran.returncode == 0, ran.stderr
    assert digest(tmp_path / "plan") == local
    ran = run(tmp_path, [program, "plan", data, "-o", "other", "--engine", "processes:2"])
    assert ran.returncode == 2 and "comes with the Python package" in ran.stderr, ran.stderr


def test_update_and_check(data, tmp_path):
    own = tmp_path / "data"
    shutil.copytree(data, own)
    plan(tmp_path, own, "old")
    write(own / "c.parquet", range(70_000, 80_000))
    engine = ["--engine", "processes:2", *SMALL]
    found = []
    for name, flags in [("here", []), ("elsewhere", engine)]:
        ran = run(tmp_path, [*MODULE, "update", "old", own, "-o", name, *flags])
        assert ran.returncode == 0, ran.stderr
        checked = run(tmp_path, [*MODULE, "check", "old", own, *flags])
        found.append((digest(tmp_path / name), checked.returncode, checked.stdout.split("read")[0]))
    assert found[0] == found[1]


def test_what_fails_in_a_worker_fails_as_it_does_here(data, tmp_path):
    flags = ["plan", data, "-o", "plan", *FLAGS[2:], "--features", "embedding,rare", "--quiet"]
    here = run(tmp_path, [*MODULE, *flags])
    there = run(tmp_path, [*MODULE, *flags, "--engine", "processes:2", *SMALL])
    assert "row 3333" in here.stderr and here.returncode == 3
    assert (here.stderr, here.returncode) == (there.stderr, there.returncode)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_ctrl_c_is_answered_at_once(data, tmp_path):
    psutil = pytest.importorskip("psutil")
    command = [sys.executable, HERE / "engine_runs.py", "endless", "plan", data, "-o", "plan", *FLAGS, "--engine", "test", *SMALL]
    driver = subprocess.Popen([str(x) for x in command], env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline and driver.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(driver.pid).children(recursive=True)
        assert workers
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=20) == 130
    finally:
        driver.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive and not (tmp_path / "plan").exists()


def test_another_release_is_refused(data, tmp_path):
    ran = run(tmp_path, [sys.executable, HERE / "engine_runs.py", "foreign", "plan", data, "-o", "plan", *FLAGS, "--engine", "test", *SMALL])
    assert ran.returncode == 2 and "install the same release" in ran.stderr, ran.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("processes:0", "a number of processes"),
        ("processes", "a number of processes"),
        ("cluster", "unknown engine `cluster`"),
        ("folder:", "unknown engine `folder:`"),
    ],
)
def test_names_that_mean_nothing(data, tmp_path, name, says):
    ran = run(tmp_path, [*MODULE, "plan", data, "-o", "plan", "--engine", name])
    assert ran.returncode == 2 and says in ran.stderr, ran.stderr


def test_an_engine_without_run(data, tmp_path):
    ran = run(tmp_path, [sys.executable, HERE / "engine_runs.py", "nothing", "plan", data, "-o", "plan", "--engine", "test"])
    assert ran.returncode == 2 and "no method run" in ran.stderr, ran.stderr


def test_a_script_without_a_main_guard_is_told_so(data, tmp_path):
    script = tmp_path / "script.py"
    arguments = ["batchwright", "plan", str(data), "-o", str(tmp_path / "plan"), *FLAGS, "--engine", "processes:1", *SMALL]
    script.write_text(f"from batchwright import _core\nraise SystemExit(_core.main({arguments!r}))\n")
    ran = run(tmp_path, [sys.executable, script])
    assert ran.returncode == 2 and '__name__ == "__main__"' in ran.stderr, ran.stderr


FUNCTIONS = """
import sys

import batchwright as bw

if __name__ == "__main__":
    data, settings = sys.argv[1], dict(features="embedding", resolution=600, epochs=1, label="class", task_bytes="64KiB")
    bw.plan(data, "named", engine="processes:2", **settings)
    bw.plan(data, "made", engine=bw.engines.processes(2), **settings)
    assert bw.modalities(data, features="embedding", resolution=600, engine="processes:1").modalities > 1
    for wrong, says in ((object(), "no method run"), ("processes:none", "number of processes"), ("cluster", "unknown engine")):
        try:
            bw.plan(data, "wrong", engine=wrong, **settings)
        except bw.ConfigError as error:
            assert says in str(error), error
        else:
            raise AssertionError(wrong)
"""


def test_functions_take_engines(data, local, tmp_path):
    (tmp_path / "script.py").write_text(FUNCTIONS)
    ran = run(tmp_path, [sys.executable, tmp_path / "script.py", data])
    assert ran.returncode == 0, ran.stderr
    assert digest(tmp_path / "named") == digest(tmp_path / "made") == local


def installed(name: str) -> None:
    if subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode:
        pytest.skip(f"{name} is not installed")


@pytest.mark.slow
def test_ray_on_two_raylets_of_which_one_is_lost(data, local, tmp_path):
    installed("ray")
    assert plan(tmp_path, data, "plan", engine="ray")[0] == local


@pytest.mark.slow
def test_spark_with_two_workers(data, local, tmp_path):
    installed("pyspark")
    if not shutil.which("java"):
        pytest.skip("java is not installed")
    assert plan(tmp_path, data, "plan", engine="spark")[0] == local


def test_dask(data, local, tmp_path):
    installed("distributed")
    assert plan(tmp_path, data, "plan", engine="dask")[0] == local
