"""One of four ranks is killed in the middle of an epoch; all begin again from the last state that every rank has, on two ranks: every row
comes once an epoch."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import harness
import pytest

PROGRAM = pathlib.Path(__file__).with_name("stream_ranks.py")


def start(plan, folder, world_size, run, *state):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = open(folder / f"log-{run}", "w")  # noqa: SIM115 - the processes write to it
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, plan, harness.DIGITS, folder, str(rank), str(world_size), run, *state],
            env=env,
            stdout=log,
            stderr=log,
        )
        for rank in range(world_size)
    ]


def steps(folder, run, rank):
    path = folder / f"rows-{run}-{rank}"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_a_killed_rank_costs_no_row(tmp_path):
    pytest.importorskip("torch")
    flags = "--label label --batch-size 32 --locality local --unit-rows 64 --window 1".split()
    plan = harness.make_plan(tmp_path / "plan", *flags)
    ranks = start(plan, tmp_path, 4, "first")
    until = time.monotonic() + 300
    while len(steps(tmp_path, "first", 2)) < 70 and time.monotonic() < until:
        assert ranks[2].poll() is None, (tmp_path / "log-first").read_text()[-3000:]
        time.sleep(0.02)
    ranks[2].send_signal(signal.SIGKILL)
    for rank in ranks:
        time.sleep(0.1)
        rank.kill()
        rank.wait()
    done = [steps(tmp_path, "first", rank) for rank in range(4)]
    common = min(map(len, done))
    assert 70 <= common < 2 * 57, "it was killed in the middle of the second epoch"
    state = done[0][common - 1][3]
    (tmp_path / "state.json").write_text(json.dumps({**state, "world_size": 4}))
    ranks = start(plan, tmp_path, 2, "second", str(tmp_path / "state.json"))
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0], (tmp_path / "log-second").read_text()[-3000:]
    seen = [collections.Counter(), collections.Counter()]
    for of_rank in [each[:common] for each in done] + [steps(tmp_path, "second", rank) for rank in range(2)]:
        for epoch, _, rows, _ in of_rank:
            seen[epoch].update(rows)
    for counts in seen:
        assert len(counts) == 1797 and set(counts.values()) == {1}
