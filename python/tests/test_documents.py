"""What README.md and docs/python.md show is run from their text; and the wheel, installed alone, runs it too."""

import os
import pathlib
import re
import subprocess
import venv

import harness
import pytest


def blocks(document, mark):
    text = (harness.ROOT / document).read_text()
    found = re.findall(rf"<!-- {mark} -->\n```python\n(.*?)```", text, re.S)
    assert found, f"{document} has no block marked <!-- {mark} -->"
    return "\n".join(found)


@pytest.fixture
def root(plan_path, tmp_path, monkeypatch):
    """A folder that looks as the documents say: digits.plan and the fixtures."""
    (tmp_path / "digits.plan").symlink_to(plan_path)
    (tmp_path / "fixtures").symlink_to(harness.ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readmes_block(root):
    seen = []
    # The block ends inside its loop over the batches, so one more line there sees each of them.
    exec(blocks("README.md", "in python") + "    seen.append((rows, weights))\n", {"seen": seen})
    assert sorted(row for rows, _ in seen for row in rows.tolist()) == list(range(1797))
    weights = [w for _, ws in seen for w in ws.tolist()]
    assert abs(sum(weights) / len(weights) - 1) < 1e-3 and len(set(weights)) > 100


def test_the_readmes_stream(root):
    seen, plan = [], blocks("README.md", "in python").split("epoch =")[0]
    exec(plan + blocks("README.md", "with rows") + "    seen.append(batch)\n", {"seen": seen})
    assert sorted(row for batch in seen for row in batch["row"].tolist()) == list(range(1797))
    assert all(batch["embedding"].shape == (len(batch["row"]), 64) for batch in seen)


def test_the_blocks_of_the_page(root, capsys):
    names = {}
    exec(blocks("docs/python.md", "python: [a-z]+"), names)
    assert "\n1797 " in "\n" + capsys.readouterr().out
    assert names["same"].rows == 1797 and names["page"].html and not names["answer"]
    assert names["files"] == ["fixtures/digits.parquet"] and len(names["probe"]) == 1024 and names["updates"].ends_update.any()


@pytest.mark.slow
def test_the_wheel_alone(root, tmp_path):
    """`pip install` of the wheel in a clean environment: NumPy comes along, the README's block and the command run."""
    wheel = os.environ.get("BATCHWRIGHT_WHEEL")
    if not wheel:
        pytest.skip("BATCHWRIGHT_WHEEL names no wheel (scripts/test builds one)")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", pathlib.Path(wheel)], check=True)
    have = subprocess.run([python, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True, check=True).stdout
    assert {line.split("==")[0] for line in have.split()} <= {"batchwright", "numpy", "pip", "setuptools", "wheel"}
    subprocess.run([python, "-c", blocks("README.md", "in python")], check=True, cwd=root)
    said = [subprocess.run([*command, "inspect", "digits.plan"], check=True, cwd=root, capture_output=True, text=True).stdout
            for command in ([python, "-m", "batchwright"], [python.with_name("batchwright")])]
    assert said[0] == said[1] and "digits.plan" in said[0], said
