"""The committed fixtures hold what their script makes, and the nasty ones are answered as `nasty.json` says."""
import json
import subprocess
import sys

import pytest
from conftest import DATA, FIXTURES

NASTY = json.loads((FIXTURES / "nasty" / "nasty.json").read_text())


def test_fixtures_are_fresh():
    done = subprocess.run([sys.executable, FIXTURES / "make.py", "--check", "--data", DATA], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_fixtures_are_small():
    def size(of):
        return sum(f.stat().st_size for f in of.rglob("*") if f.is_file())

    # The plans, one for each version of the format, are counted apart.
    plans = [size(plan) for plan in (FIXTURES / "plans").iterdir()]
    assert size(FIXTURES) - sum(plans) < 1_720_000 and max(plans) < 300_000


@pytest.mark.parametrize("name", NASTY)
def test_nasty_input(batchwright, tmp_path, name):
    file, want, out = FIXTURES / "nasty" / f"{name}.parquet", NASTY[name], tmp_path / "plan"
    done = batchwright("plan", file, "--label", "label", "-o", out)
    codes = want["exit"] if isinstance(want["exit"], list) else [want["exit"]]
    assert done.returncode in codes, done.stderr
    assert "panicked" not in done.stderr
    for words in want["mentions"]:
        assert words in done.stderr
    if done.returncode == 0:
        assert (out / "plan.json").exists()
    else:
        assert "help:" in done.stderr or len(done.stderr.splitlines()) > 1, "an error says what to do"
        assert list(tmp_path.iterdir()) == [], "a failed run leaves nothing behind"


@pytest.mark.parametrize("name", [n for n in NASTY if "with_drop" in NASTY[n]])
def test_nasty_rows_can_be_dropped(batchwright, tmp_path, name):
    file, out = FIXTURES / "nasty" / f"{name}.parquet", tmp_path / "plan"
    done = batchwright("plan", file, "--label", "label", "--invalid", "drop", "-o", out)
    assert done.returncode == NASTY[name]["with_drop"], done.stderr
    if done.returncode == 0:
        about = json.loads((out / "plan.json").read_text())
        assert about["rows"] == 100 and 98 <= about["rows_planned"] < 100


def test_files_in_folders_are_numbered_by_path(plan):
    about = json.loads((plan(FIXTURES / "hive", "--label", "label") / "plan.json").read_text())
    assert about["rows"] == 600
    names = [source["path"].replace("%3D", "=") for source in about["inputs"]]
    ends = ["split=test/part-0", "split=train/part-0", "split=train/part-1", "split=train/part-10"]
    # "part-1.parquet" sorts before "part-10.parquet": '.' comes before '0'.
    assert [any(n.endswith(e + ".parquet") for n in [name]) for name, e in zip(names, ends)] == [True] * 4
    assert [source["rows"] for source in about["inputs"]] == [200, 150, 50, 200]
