"""Plans in the local order, through the package: what reference_locality.py deals is what loops are given, and every rank gets rows of
its own streams."""

import json
import pickle
import sys

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchwright as bw
from batchwright.steps import Deal, divide

sys.path.insert(0, str(harness.ROOT / "tests" / "oracle"))
import verify_plan  # noqa: E402


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Digits sorted by label in row groups of 40; 16 streams, windows of one unit, no epoch written."""
    folder = tmp_path_factory.mktemp("local")
    pq.write_table(pq.read_table(harness.DIGITS).sort_by("label"), folder / "sorted.parquet", row_group_size=40)
    flags = "--label label --batch-size 64 --candidates 32,64,128 --locality local --unit-rows 30 --window 1".split()
    return harness.make_plan(folder / "plan", *flags, data=folder / "sorted.parquet")


@pytest.fixture
def plan(path):
    return bw.Plan.open(path)


def table(path):
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


@pytest.fixture(scope="module")
def reference(path):
    """Epoch 3 by the reference, in batches of 32."""
    manifest, strata = json.loads((path / "plan.json").read_text()), table(path / "strata.arrow")
    merges = np.array(json.loads(strata.schema.metadata[b"dendrogram"]))
    stratum = verify_plan.stratum_of(table(path / "samples.arrow"))
    return verify_plan.local_epoch(table(path / "units.arrow"), stratum, manifest["strata"], 32, manifest, 3, merges, False)


def test_epochs_are_those_of_the_reference(plan, reference):
    for k in (1, 2, 4):
        epoch = plan.epoch(3, 32 * k)
        assert not epoch.written and len(epoch) == -(-reference.len // k)
        for i in (0, 1, len(epoch) // 2, len(epoch) - 1):
            assert (epoch.batch(i) == reference.batch(i, k)).all()
        assert (np.concatenate(list(epoch)) == epoch.rows(0, len(epoch))).all()
    again = pickle.loads(pickle.dumps(plan)).epoch(3, 64)
    assert (again.batch(5) == reference.batch(5, 2)).all()


@pytest.mark.parametrize("size", [32, 128])
def test_slices_of_ranks_are_rows_of_their_own_streams(plan, reference, size):
    unit_of = lambda rows: set((np.searchsorted(reference.first, rows, side="right") - 1).tolist())  # noqa: E731
    k = size // 32
    for world_size in (1, 2, 4, 8, 16):
        deal = Deal(plan, size, world_size=world_size)
        streams = 16 // world_size
        for rank in range(world_size):
            own = {u for s in range(streams * rank, streams * (rank + 1)) for u, _, _ in reference.seq[s]}
            for unit in range(0, reference.len, k):
                rows = deal.batch(3, unit, size)
                assert unit_of(rows[divide(len(rows), rank, world_size)]) <= own


def test_ranks_that_do_not_divide_the_streams_are_refused(plan):
    assert plan.check_world_size(4, batch_size=64) == 16
    with pytest.raises(bw.ConfigError, match="1, 2, 4, 8, 16"):
        plan.check_world_size(32, batch_size=64)
    with pytest.raises(bw.ConfigError, match="local order"):
        Deal(plan, 64, world_size=32)
