"""Every block of the pages on frameworks runs, in order; and the examples do, and print what they promise."""

import os
import re
import subprocess
import sys

import harness
import pytest

PAGES = {
    "reading": ("torch",),
    "torch": ("torch", "torchdata", "matplotlib"),
    "accelerate": ("torch", "accelerate"),
    "lightning": ("torch", "torchdata", "lightning"),
    "transformers": ("torch", "transformers"),
    "sentence-transformers": ("torch", "datasets", "sentence_transformers"),
    "grain": ("jax", "optax", "grain"),
}


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of(page, plan_path, tmp_path, monkeypatch):
    for needed in PAGES[page]:
        pytest.importorskip(needed)
    (tmp_path / "digits.plan").symlink_to(plan_path)
    (tmp_path / "fixtures").symlink_to(harness.ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    text = (harness.ROOT / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"<!-- example -->\n```python\n(.*?)```", text, re.S)
    assert len(blocks) == text.count("```python") > 0, "a block that is not run"
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, f"docs/{page}.md", "exec"), names)
    if page == "torch":
        assert (tmp_path / "choice.png").stat().st_size > 10_000


EXAMPLES = {
    "torch_digits.py": (("torch",), ["--seeds", "2", "--epochs", "8"], ("shuffled", "planned batches", "planned, updates by information", "all of it")),
    "jax_optdigits.py": (("jax", "optax", "grain"), ["--seeds", "2", "--epochs", "2"], ("shuffled", "planned")),
    "accelerate_two_processes.py": (("torch", "accelerate"), ["--seeds", "2", "--epochs", "2"], ("shuffled", "planned")),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example, tmp_path):
    """Small runs; a table with a mean and a spread for each way to train, and losses that fell from ln 10."""
    needs, flags, ways = EXAMPLES[example]
    for needed in needs:
        pytest.importorskip(needed)
    program = [sys.executable, str(harness.ROOT / "examples" / example)]
    if "two_processes" in example:
        program[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([*program, *flags], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "two_processes" not in example or "2 processes" in done.stdout
    for way in ways:
        line = re.search(rf"^ *(?:\+ )?{way}  +(.*)$", done.stdout, re.M)
        assert line, done.stdout
        cells = re.findall(r"(\d+\.\d+) \+- (\d+\.\d+)", line[1])
        assert len(cells) >= 2 and float(cells[-1][0]) < 2.0, line[0]


STREAMS = {
    "torch_stream.py": (("torch",), [], r"epoch 4: loss 0\.\d+"),
    "jax_grain.py": (("jax", "optax", "grain"), [], "the state gives the same batches again"),
    "huggingface.py": (("datasets",), [], r"plan +epoch 2: 28 batches, a label misses its share by [0-3]\.\d rows of 64"),
    "torch_ddp.py": (("torch",), ["--folder", "run", "--stop-after", "20"], r"20 steps on 2 rank\(s\), 20 in all"),
}


@pytest.mark.parametrize("example", STREAMS)
def test_example_of_streams(example, tmp_path):
    needs, flags, said = STREAMS[example]
    for needed in needs:
        pytest.importorskip(needed)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def run(ranks, *flags):
        ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks else []
        program = [sys.executable, *ranks, str(harness.ROOT / "examples" / example), *flags]
        done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    told = run(2 if "ddp" in example else 0, *flags)
    assert re.search(said, told), told
    if "ddp" in example:
        told = run(1, "--folder", "run")
        assert "goes on at step 20 on 1 rank(s)" in told and told.rstrip().endswith("1797 rows 2 times"), told


def test_the_page_on_splits(tmp_path, monkeypatch, capsys):
    """Its command makes the plan that its blocks use."""
    for needed in ("torch", "sklearn"):
        pytest.importorskip(needed)
    (tmp_path / "fixtures").symlink_to(harness.ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    text = (harness.ROOT / "docs" / "splits.md").read_text()
    (line,) = re.findall(r"<!-- command -->\n```sh\nbatchwright (.*?)\n```", text)
    subprocess.run([*harness.command(), *line.split(), "-q"], check=True)
    blocks = re.findall(r"<!-- example -->\n```python\n(.*?)```", text, re.S)
    assert len(blocks) == text.count("```python") > 0, "a block that is not run"
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/splits.md", "exec"), names)
    assert len(names["scores"]) == len(names["accuracy"]) == 5 and min(*names["scores"], *names["accuracy"]) > 0.8
    assert "fold-4" in capsys.readouterr().out
