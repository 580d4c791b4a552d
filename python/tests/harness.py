"""What the tests of all frameworks share: plans of the digits, and the check that a run saw what the plan says."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = ROOT / "fixtures" / "digits.parquet"


def command() -> list[str]:
    """The command line: a built binary, else the module's own."""
    return [os.environ["BATCHWRIGHT_BIN"]] if os.environ.get("BATCHWRIGHT_BIN") else [sys.executable, "-m", "batchwright"]


def make_plan(out: pathlib.Path, *flags: str, data: pathlib.Path = DIGITS) -> pathlib.Path:
    subprocess.run([*command(), "plan", str(data), "-o", str(out), "-q", *flags], check=True)
    return out


def digits_plan(out: pathlib.Path) -> pathlib.Path:
    """28 batches of 64 rows and one of 5; epochs 0 and 1 written, later ones computed."""
    return make_plan(out, "--label", "label", "--batch-size", "64", "--candidates", "32,64,128", "--epochs", "2")


def slices(plan, epoch: int, rank: int, world_size: int, micro_steps: int = 1, size: int | None = None) -> list[list[int]]:
    """What a rank must see of an epoch, written down independently of the package: floor(n i / W) cuts."""
    out = []
    for batch in plan.epoch(epoch, size or plan.batch_size):
        n = len(batch)
        if n < world_size * micro_steps:
            continue
        mine = batch[n * rank // world_size : n * (rank + 1) // world_size]
        m = len(mine)
        out += [mine[m * a // micro_steps : m * (a + 1) // micro_steps].tolist() for a in range(micro_steps)]
    return out


def check_epoch(plan, epoch: int, seen: list[list[list[int]]], micro_steps: int = 1) -> None:
    """`seen[rank]` = lists of rows that a rank was given in this epoch: exactly the plan's, each row once, every slice stratified."""
    world_size = len(seen)
    for rank, lists in enumerate(seen):
        assert lists == slices(plan, epoch, rank, world_size, micro_steps), f"epoch {epoch}, rank {rank} of {world_size}"
    rows = np.concatenate([np.concatenate(lists) for lists in seen])
    planned = np.flatnonzero(plan.stratum(np.arange(plan.rows)) >= 0)
    left_out = plan.rows_planned - len(rows)
    assert len(np.unique(rows)) == len(rows) and np.isin(rows, planned).all()
    assert left_out == 0 or left_out < world_size * micro_steps
    check_stratified(plan, seen, micro_steps)


def check_stratified(plan, seen, micro_steps: int = 1) -> None:
    """Every full slice holds its share of every stratum: a batch of the smallest candidate size within 1 row, a union of k such within
    k, and a cut of a half or a quarter adds at most 0.94. Slices of shuffled rows are further off (`shuffled_deviation`)."""
    stratum = plan.stratum(np.arange(plan.rows))
    share = np.bincount(stratum[stratum >= 0], minlength=plan.strata) / plan.rows_planned
    parts = len(seen) * micro_steps
    if parts > 4:
        return
    full = plan.batch_size // parts
    bound = plan.batch_size // plan.candidates[0] / parts + (0.94 if parts > 1 else 0)
    deviation = lambda rows: np.abs(np.bincount(stratum[rows], minlength=plan.strata) - len(rows) * share).max()  # noqa: E731
    worst = max(deviation(np.array(rows)) for lists in seen for rows in lists if len(rows) == full)
    assert worst < bound, worst


def shuffled_deviation(plan, size: int) -> float:
    """What `check_stratified` measures for random slices: the test that the bound means something."""
    stratum = plan.stratum(np.arange(plan.rows))
    share = np.bincount(stratum, minlength=plan.strata) / plan.rows_planned
    rows = np.random.default_rng(0).permutation(plan.rows)
    cuts = [rows[i : i + size] for i in range(0, plan.rows - size, size)]
    return max(np.abs(np.bincount(stratum[c], minlength=plan.strata) - size * share).max() for c in cuts)


def save(path: pathlib.Path, value) -> None:
    path.write_text(json.dumps(value))


def load(path: pathlib.Path):
    return json.loads(path.read_text())
