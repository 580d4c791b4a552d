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
