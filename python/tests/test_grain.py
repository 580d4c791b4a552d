"""Plans in Grain: which elements come, on workers, ranks and after a restart on other ranks."""

import json

import numpy as np
import pytest

grain = pytest.importorskip("grain")

from absl import flags  # noqa: E402

import batchwright as bw  # noqa: E402
import harness  # noqa: E402
from batchwright.grain import PlanIterator, PlanMapDataset  # noqa: E402


class Source:
    """Row i is {"x": i}; batched reads as Grain wants them."""

    def __init__(self, n=1797):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        return {"x": row}


def lists(batches):
    return [np.asarray(batch["x"]).tolist() for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_epochs(plan, workers, world_size):
    """Two epochs through Grain's own pipeline; the rest batch of 5 rows comes, worker or not."""
    seen = []
    for rank in range(world_size):
        ds = PlanMapDataset(plan, Source(), rank=rank, world_size=world_size)
        it = ds.batch(ds.batch_size).repeat(2).to_iter_dataset()
        if workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            it = it.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
        seen.append(lists(it))
    for epoch in range(2):
        harness.check_epoch(plan, epoch, [one[29 * epoch : 29 * (epoch + 1)] for one in seen])


def test_grains_state(plan):
    """Grain's iterators save and restore in mid-epoch."""
    ds = PlanMapDataset(plan, Source())
    make = lambda: iter(ds.batch(ds.batch_size).repeat(2).to_iter_dataset())  # noqa: E731
    it = make()
    before = lists(next(it) for _ in range(40))
    state = it.get_state()
    it = make()
    it.set_state(state)
    both = before + lists(it)
    harness.check_epoch(plan, 0, [both[:29]])
    harness.check_epoch(plan, 1, [both[29:]])


@pytest.mark.parametrize("workers, steps", [(0, 5), (0, 29), (0, 34), (2, 34)])
def test_elastic_restart(plan, workers, steps):
    """Two processes, then one, then four."""
    done, seen = 0, []
    state = None
    for world_size, count in ((2, steps), (1, 3), (4, None)):
        each = []
        for rank in range(world_size):
            it = PlanIterator(PlanMapDataset(plan, Source(), rank=rank, world_size=world_size), epochs=3, workers=workers if rank == 0 else 0)
            if state:
                it.set_state(json.loads(json.dumps(state)))
            each.append(lists(it) if count is None else lists(next(it) for _ in range(count)))
            after = it.get_state()
            it.close()
        state = after
        expected = [sum((harness.slices(plan, e, rank, world_size) for e in range(3)), []) for rank in range(world_size)]
        for rank, one in enumerate(each):
            assert one == expected[rank][done : done + len(one)]
        seen += [row for one in each for part in one for row in part]
        done += len(each[0])
    assert done == 87 and sorted(seen) == sorted(3 * list(range(plan.rows)))


def test_grains_own_elastic_iterator(plan):
    """Strides of the whole stream, which it takes, are stratified too; 1 process goes on as 2."""
    from grain.experimental import ElasticIterator

    def make(index, count):
        ds = PlanMapDataset(plan, Source(), drop_last=True).repeat(2)
        return iter(ElasticIterator(ds, plan.batch_size, grain.sharding.ShardOptions(shard_index=index, shard_count=count)))

    first = make(0, 1)
    before = lists(next(first) for _ in range(30))
    state = first.get_state()
    after = []
    for index in range(2):
        it = make(index, 2)
        it.set_state(state)
        after.append(lists(it))
    assert before == [b.tolist() for b in plan.epoch(0)][:28] + [b.tolist() for b in plan.epoch(1)][:2]
    for i, both in enumerate(zip(*after, strict=True)):
        assert sorted(both[0] + both[1]) == sorted(plan.epoch(1).batch(2 + i).tolist())
    assert len(after[0]) == 26


def test_extra_columns(plan):
    ds = PlanMapDataset(plan, Source(), extra=("row", "centrality"))
    for i in (0, 64, 1796, 1797):
        item = ds[i]
        assert item["row"] == item["x"] and item["centrality"] == plan.centrality([item["x"]])[0]
    assert ds._getitems([3, 70])[1]["row"] == ds.row(70)


def test_misuse(plan, tmp_path):
    with pytest.raises(bw.ConfigError, match="1797"):
        PlanMapDataset(plan, Source(1000))
    with pytest.raises(bw.ConfigError, match="rank"):
        PlanMapDataset(plan, Source(), rank=2, world_size=2)
    with pytest.raises(bw.ConfigError):
        PlanMapDataset(plan, Source(), world_size=3)
    with pytest.raises(bw.ConfigError, match="dictionaries"):
        PlanMapDataset(plan, list(range(1797)), extra=("row",))[0]
    it = PlanIterator(PlanMapDataset(plan, Source()), 1)
    next(it)
    other = bw.Plan.open(harness.make_plan(tmp_path / "other", "--batch-size", "64", "--seed", "1"))
    with pytest.raises(bw.PlanError, match="belongs to plan"):
        PlanIterator(PlanMapDataset(other, Source()), 1).set_state(it.get_state())
    with pytest.raises(bw.ConfigError, match="batch_size=64"):
        PlanIterator(PlanMapDataset(plan, Source(), batch_size=32), 1).set_state(it.get_state())


def test_a_size_schedule_is_refused(tmp_path):
    flags = "--train-epochs", "2", "--size-schedule", "0:32,0.5:64", "--epochs", "0"
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", *flags))
    with pytest.raises(bw.ConfigError, match="a MapDataset cannot follow"):
        PlanMapDataset(plan, Source())
    assert PlanMapDataset(plan, Source(), batch_size=64).batch_size == 64
