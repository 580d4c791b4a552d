"""The accuracy bars of the default estimator, on datasets whose classes are modes and on data with a single mode.
`cargo bench --bench modalities` measures it on everything there is (docs/modalities.md)."""
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import DATA

SEEDS = range(5)
# Dataset, least and most modalities (in at least 4 of 5 seeds), adjusted Rand index with the classes (seed 0).
BARS = [
    ("umap_mnist", 9, 12, 0.93),
    ("optdigits", 9, 11, 0.60),
    ("emnist_digits", 7, 10, 0.54),
    ("shapes/sipu_s4", 13, 15, 0.49),
]


def count(batchwright, path, *flags):
    done = batchwright("modalities", path, "--features", "embedding", "--json", *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def adjusted_rand(a, b):
    """Hubert & Arabie 1985."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    pairs = lambda n: (n * (n - 1) / 2).sum()
    rows, columns = pairs(table.sum(1)), pairs(table.sum(0))
    expected = rows * columns / pairs(np.array([len(a)]))
    return (pairs(table) - expected) / ((rows + columns) / 2 - expected)


@pytest.mark.parametrize("name, least, most, agreement", BARS, ids=[bar[0] for bar in BARS])
def test_known_classes_are_counted_and_found(batchwright, plan, name, least, most, agreement):
    path = DATA / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    counts = [count(batchwright, path, "--seed", seed)["modalities"] for seed in SEEDS]
    assert sum(least <= m <= most for m in counts) >= 4, counts
    made = plan(path, "--features", "embedding", "--label", "label", "--epochs", "0")
    with pa.memory_map(str(made / "samples.arrow")) as file:
        found = pa.ipc.open_file(file).read_all()["modality"].to_numpy()
    classes = np.unique(pq.read_table(path, columns=["label"])["label"].to_numpy(), return_inverse=True)[1]
    assert adjusted_rand(found, classes) >= agreement


def one_mode(kind, dims, seed):
    """3 000 rows with a single mode."""
    draw = np.random.default_rng(seed)
    normal = draw.standard_normal((3000, dims))
    return {
        "Gaussian": lambda: normal,
        "uniform": lambda: draw.random((3000, dims)),
        "heavy-tailed": lambda: normal / np.sqrt(draw.chisquare(3, (3000, 1)) / 3),
    }[kind]()


@pytest.mark.parametrize("dims", [2, 16, 64, 384])
@pytest.mark.parametrize("kind", ["Gaussian", "uniform", "heavy-tailed"])
def test_data_with_one_mode_is_one_modality(batchwright, tmp_path, kind, dims):
    points = one_mode(kind, dims, dims).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), dims)
    pq.write_table(pa.table({"embedding": vectors}), tmp_path / "one.parquet")
    answer = count(batchwright, tmp_path / "one.parquet")
    assert (answer["modalities"], answer["clear"]) == (1, False), answer
