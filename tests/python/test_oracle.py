"""The independent checker (tests/oracle/verify_plan.py: numpy and pyarrow only) on plans of fixtures and of real data."""
import subprocess
import sys

import pytest
from conftest import DATA, FIXTURES, ROOT

CASES = {
    # name: (folder, file, flags of plan, flags of the checker, compare with the rows?)
    "worked-example": (FIXTURES, "worked-example.parquet", ["--label", "label"], [], True),
    "known-modalities": (FIXTURES, "worked-example.parquet", ["--modality-column", "label"], [], False),
    "fixed-count": (FIXTURES, "digits.parquet", ["--modalities", "10", "--fine-strata", "0"], [], True),
    "digits": (FIXTURES, "digits.parquet", ["--label", "label"], [], True),
    "digits-dropped-rest": (FIXTURES, "digits.parquet", ["--label", "label", "--drop-last", "--seed", "9"], [], True),
    "digits-candidates": (FIXTURES, "digits.parquet", ["--batch-size", "96", "--candidates", "48,96,192"], [], True),
    "digits-equal-shares": (FIXTURES, "digits.parquet", ["--stratify-by", "label", "--allocation", "equal"], [], False),
    "packages-f16": (FIXTURES, "packages-2k.parquet", ["--features", "embedding", "--label", "section"], [], True),
    "mixed": (FIXTURES, "mixed.parquet", ["--features", "length,items,colour,stocked", "--label", "label"], [], False),
    "some-rows": (FIXTURES, "digits.parquet", ["--label", "label", "--where", "label < 8"], [], True),
    "worked-example-chunks": (FIXTURES, "worked-example.parquet", ["--label", "label", "--batch-size", "48", "--chunk", "8"], [], True),
    "digits-chunks": (FIXTURES, "digits.parquet", ["--batch-size", "96", "--candidates", "48,96,192", "--chunk", "12", "--drop-last"], [], True),
    "digits-chunks-of-skewed-shares": (FIXTURES, "digits.parquet", ["--stratify-by", "label", "--allocation", "equal", "--batch-size", "64", "--chunk", "batch"], [], False),
    "mixed-no-duplicates": (FIXTURES, "mixed.parquet", ["--features", "length", "--batch-size", "16", "--no-duplicates", "items"], [], True),
    "mixed-two-columns-of-keys": (FIXTURES, "mixed.parquet", ["--features", "length", "--batch-size", "16", "--no-duplicates", "items,colour"], [], True),
    "packages-parted-chunks": (FIXTURES, "packages-2k.parquet", ["--features", "embedding", "--batch-size", "32", "--chunk", "8", "--no-duplicates", "section"], [], True),
    "digits-rows-per-label": (FIXTURES, "digits.parquet", ["--label", "label", "--batch-size", "32", "--rows-per-label", "8"], [], False),
    "packages-rows-per-label": (FIXTURES, "packages-2k.parquet", ["--features", "embedding", "--stratify-by", "section", "--batch-size", "48", "--rows-per-label", "4"], [], False),
    "mixed-bins": (FIXTURES, "mixed.parquet", ["--features", "length", "--stratify-by", "items:q5"], [], True),
    "mixed-bins-of-modalities": (FIXTURES, "mixed.parquet", ["--features", "length", "--stratify-by", "modality,items:q3"], [], True),
    "digits-size-schedule": (FIXTURES, "digits.parquet", ["--train-epochs", "3", "--size-schedule", "0:32,0.2:64,0.7:128"], [], True),
    "shared/umap_mnist_chunks": (DATA, "umap_mnist.parquet", ["--label", "label", "--batch-size", "256", "--chunk", "64"], [], True),
    "shared/packages": (DATA, "packages.parquet", ["--features", "embedding", "--label", "section"], [], True),
    "shared/umap_mnist": (DATA, "umap_mnist.parquet", ["--label", "label"], [], True),
    "shared/umap_mnist_imbalanced": (DATA, "umap_mnist_imbalanced.parquet", ["--label", "label"], [], True),
    "shared/digits": (DATA, "digits.parquet", ["--label", "label"], [], True),
    "shared/optdigits": (DATA, "optdigits.parquet", ["--label", "label"], [], True),
}


def verify(plan, *more):
    script = ROOT / "tests" / "oracle" / "verify_plan.py"
    return subprocess.run([sys.executable, script, plan, *map(str, more)], capture_output=True, text=True)


@pytest.mark.parametrize("case", CASES)
def test_plan_keeps_its_promises(plan, case):
    folder, file, flags, checks, with_rows = CASES[case]
    data = folder / file
    if not data.exists():
        pytest.skip(f"{file} is not in {folder.name}/; set BATCHWRIGHT_TEST_DATA")
    # Of large plans the dealing is compared with the reference on fewer batches: the reference is plain Python.
    checks = [*checks, "--max-epochs", 1, "--max-batches", 60] if folder is DATA else checks
    done = verify(plan(data, *flags), *([data] if with_rows else []), *checks)
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if not line.startswith("ok")) + done.stderr
    assert ", 0 failed" in done.stdout


@pytest.mark.parametrize("flags", [["--holdout", "0.1"], ["--stratify-by", "label", "--world-size", "4"], ["--drop-last", "--seed", "9"]], ids=str)
def test_plans_in_the_local_order_keep_theirs(batchwright, tmp_path, flags):
    """Rows sorted by label in small row groups: the worst that files can be."""
    import pyarrow.parquet as pq

    data, out = tmp_path / "sorted.parquet", tmp_path / "plan"
    pq.write_table(pq.read_table(FIXTURES / "digits.parquet").sort_by("label"), data, row_group_size=40)
    done = batchwright("plan", data, "-o", out, "--locality", "local", "--unit-rows", 30, "--window", 1, "--epochs", 2, *flags)
    assert done.returncode == 0, done.stderr
    done = verify(out)
    assert done.returncode == 0 and ", 0 failed" in done.stdout, done.stdout + done.stderr
    assert "ranks read units of their own" in done.stdout


def test_the_checker_finds_a_changed_byte(plan, tmp_path):
    import shutil

    copy = tmp_path / "plan"
    shutil.copytree(plan(FIXTURES / "digits.parquet", "--label", "label"), copy)
    file = copy / "modalities.arrow"
    bytes_ = bytearray(file.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    file.write_bytes(bytes_)
    assert verify(copy).returncode == 1
