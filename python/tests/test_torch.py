"""Samplers in torch's own loader and in torchdata's: which rows come, after what restart, on how many ranks and workers."""

import copy
import json
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("torch")

import torch  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

import batchwright as bw  # noqa: E402
import harness  # noqa: E402
from batchwright.steps import Deal  # noqa: E402
from batchwright.torch import (  # noqa: E402
    ParquetRows,
    PlanBatchSampler,
    PlanSampler,
    collate,
    follow,
    prefetch_horizon,
    with_rows,
)

WORKERS = {"none": {}, "two": {"num_workers": 2}, "persistent": {"num_workers": 2, "persistent_workers": True}}
workers = pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS.keys())
flat = pytest.mark.parametrize("flat", [False, True], ids=["batches", "rows"])


class Numbers(torch.utils.data.Dataset):
    """Item i is i."""

    def __len__(self):
        return 1797

    def __getitem__(self, row):
        return row


def make(kind, plan, rank, world_size, workers, flat=False, **settings):
    if flat:
        sampler = PlanSampler(plan, world_size, rank, **settings)
        loader = kind(Numbers(), sampler=sampler, batch_size=sampler.batch_size, **workers)
    else:
        sampler = PlanBatchSampler(plan, rank=rank, world_size=world_size, **settings)
        loader = kind(Numbers(), batch_sampler=sampler, **workers)
    return sampler, loader


def drain(loader, most=None):
    out = []
    for batch in loader:
        out.append(batch.tolist())
        if len(out) == most:
            break
    return out


@workers
@flat
def test_fresh(plan, workers, flat):
    """Two epochs on two ranks, and a third that was not written."""
    loaders = [make(DataLoader, plan, rank, 2, workers, flat) for rank in range(2)]
    for epoch in range(3):
        seen = []
        for sampler, loader in loaders:
            sampler.set_epoch(epoch)
            assert len(loader) == 29
            seen.append(drain(loader))
            assert len(seen[-1]) == 29
        harness.check_epoch(plan, epoch, seen)


def test_bound_means_something(plan):
    assert harness.shuffled_deviation(plan, 32) > 3 and harness.shuffled_deviation(plan, 64) > 4


@workers
@flat
@pytest.mark.parametrize("steps", [5, 29], ids=["mid-epoch", "epoch-end"])
@pytest.mark.parametrize("world_size", [2, 1, 4], ids=lambda w: f"to-{w}-ranks")
def test_resume_plain(plan, workers, flat, steps, world_size):
    """The state is taken from the steps that were trained on, however far workers have read ahead."""
    before, saved = [], []
    for rank in range(2):
        sampler, loader = make(DataLoader, plan, rank, 2, workers, flat)
        sampler.set_epoch(1)
        lists = []
        for step, batch in follow(loader):
            lists.append(batch.tolist())
            if len(lists) == steps:
                saved.append(step.state())
                break
        before.append(lists)
    assert saved[0] == saved[1]
    state = json.loads(json.dumps(saved[0]))
    after = []
    for rank in range(world_size):
        sampler, loader = make(DataLoader, plan, rank, world_size, workers, flat)
        sampler.resume(state)
        lists, numbers = [], []
        assert sampler.epoch == (1 if steps < 29 else 2)
        for step, batch in follow(loader):
            lists.append(batch.tolist())
            numbers.append(step.step)
            assert step.rows.tolist() == lists[-1]
        assert numbers == list(range(steps if steps < 29 else 0, 29))
        after.append(lists)
    if steps == 29:
        harness.check_epoch(plan, 1, before)
        harness.check_epoch(plan, 2, after)
    else:
        check_restart(plan, 1, before, after)


def check_restart(plan, epoch, before, after):
    """The lists before and after a restart, perhaps on other ranks, make the epoch."""
    cut = len(before[0])
    for ranks, part in ((before, slice(None, cut)), (after, slice(cut, None))):
        for rank, lists in enumerate(ranks):
            assert lists == harness.slices(plan, epoch, rank, len(ranks))[part]
    rows = [row for ranks in (before, after) for lists in ranks for one in lists for row in one]
    assert sorted(rows) == list(range(plan.rows))


@workers
@flat
@pytest.mark.parametrize("steps", [5, 29], ids=["mid-epoch", "epoch-end"])
@pytest.mark.parametrize("world_size", [2, 1], ids=lambda w: f"to-{w}-ranks")
@pytest.mark.parametrize("iter_first", [False, True], ids=["", "iter-before-load"])
def test_resume_stateful(plan, workers, flat, steps, world_size, iter_first):
    before, states = [], []
    for rank in range(2):
        sampler, loader = make(StatefulDataLoader, plan, rank, 2, workers, flat)
        sampler.set_epoch(1)
        it = iter(loader)
        before.append([next(it).tolist() for _ in range(steps)])
        if steps == 29:
            assert next(it, None) is None
        states.append(copy.deepcopy(loader.state_dict()))
    after = []
    for rank in range(world_size):
        sampler, loader = make(StatefulDataLoader, plan, rank, world_size, workers, flat)
        if iter_first:
            next(iter(loader))
        loader.load_state_dict(states[rank])
        if steps == 29:
            sampler.set_epoch(2)
        after.append(drain(loader))
    if steps == 29:
        harness.check_epoch(plan, 1, before)
        harness.check_epoch(plan, 2, after)
    else:
        check_restart(plan, 1, before, after)


@workers
def test_second_resume_in_one_epoch(plan, workers):
    """A run that is interrupted twice in an epoch."""
    seen, state = [], None
    for steps in (3, 4, None):
        sampler, loader = make(StatefulDataLoader, plan, 0, 1, workers)
        sampler.set_epoch(2)
        if state is not None:
            loader.load_state_dict(state)
        it = iter(loader)
        if steps is None:
            seen += [batch.tolist() for batch in it]
        else:
            seen += [next(it).tolist() for _ in range(steps)]
            state = copy.deepcopy(loader.state_dict())
    harness.check_epoch(plan, 2, [seen])


def test_after_a_finished_epoch_comes_the_next(plan):
    """A state at the end of an epoch restores into the next, also if nobody calls set_epoch."""
    sampler, loader = make(StatefulDataLoader, plan, 0, 1, {})
    drain(loader)
    state = loader.state_dict()
    sampler, loader = make(StatefulDataLoader, plan, 0, 1, {})
    loader.load_state_dict(state)
    harness.check_epoch(plan, 1, [drain(loader)])
    assert sampler.epoch == 1


@pytest.mark.parametrize("view", ["rank", "micro", "global"])
def test_micro_steps(plan, view):
    """Each step is cut further; all cuts are stratified and even a rest batch of 5 rows feeds 2 ranks x 2 micro-steps."""
    if view == "rank":
        seen = [list(PlanBatchSampler(plan, rank=rank, world_size=2, micro_steps=2)) for rank in range(2)]
        harness.check_epoch(plan, 0, seen, micro_steps=2)
    elif view == "micro":
        sampler = PlanBatchSampler(plan, view="micro", rank=0, world_size=2, micro_steps=2)
        lists = list(sampler)
        assert len(lists) == len(sampler) and len(lists) % 2 == 0
        # What Accelerate does: whole lists to its processes in turn.
        harness.check_epoch(plan, 0, [lists[0::2], lists[1::2]], micro_steps=2)
    else:
        lists = list(PlanBatchSampler(plan, view="global", micro_steps=4))
        harness.check_epoch(plan, 0, [lists], micro_steps=4)


def test_restart_within_a_step(plan):
    """With micro-steps a state may lie within a batch: fine on the same ranks, refused on others."""
    it = iter(PlanBatchSampler(plan, rank=1, world_size=2, micro_steps=2))
    before = [next(it) for _ in range(5)]
    sampler = PlanBatchSampler(plan, rank=1, world_size=2, micro_steps=2)
    sampler.resume(it.state_dict())
    assert before + list(sampler) == harness.slices(plan, 0, 1, 2, 2)
    with pytest.raises(bw.ConfigError, match="within a batch"):
        PlanBatchSampler(plan, world_size=1).resume(it.state_dict())


def test_rest_batch_too_small(plan):
    """5 rows cannot feed 8 ranks: left out, said, counted; every rank has the same number of lists."""
    with pytest.warns(UserWarning, match="only 5 rows for 8 ranks"):
        sampler = PlanBatchSampler(plan, rank=7, world_size=8)
    assert sampler.rows_left_out == 5
    assert len(sampler) == len(list(sampler)) == 28
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dropping = PlanBatchSampler(plan, drop_last=True)
    assert (dropping.rows_left_out, len(dropping), len(list(dropping))) == (5, 28, 28)


@workers
def test_candidates(plan, workers):
    """Sizes change in mid-epoch: every row still comes once, on both ranks the same sizes, and every list is known."""
    choices = np.random.default_rng(3).choice(plan.candidates, 200)
    both = []
    for rank in range(2):
        sampler, loader = make(DataLoader, plan, rank, 2, workers, candidates=True)
        lists, sizes = [], []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            for i, (step, batch) in enumerate(follow(loader)):
                lists.append(batch.tolist())
                sizes.append(step.n)
                assert step.rows.tolist() == lists[-1]
                sampler.choose(int(choices[i]))
            assert step.ends_epoch
        both.append((lists, sizes))
    assert both[0][1] == both[1][1] and len(set(both[0][1])) > 3
    rows = sorted(row for lists, _ in both for one in lists for row in one)
    assert rows == sorted(2 * list(range(plan.rows)))


class Counted:
    """An epoch that notes which batches it is asked for."""

    def __init__(self, epoch):
        self.epoch, self.asked = epoch, []

    def __len__(self):
        return len(self.epoch)

    def rows(self, start, stop):
        self.asked.append((start, stop))
        return self.epoch.rows(start, stop)


@pytest.mark.parametrize("number", [0, 1000], ids=["written", "computed"])
def test_batches_are_dealt_ahead(plan, monkeypatch, number):
    """Who asks in order gets runs that grow, who asks anyhow single batches, who comes after another finds what that was given; all of
    them the plan's batches, and no run is larger than READ_AHEAD."""
    monkeypatch.setattr("batchwright.steps.READ_AHEAD", 8 * 64)
    epoch, n = plan.epoch(number), 29
    anyhow = np.random.default_rng(2).permutation(n).tolist()
    behind = [i for lead in range(n + 8) for i in (lead, lead - 8) if 0 <= i < n]
    runs = [(0, 1), (1, 3), (3, 7), (7, 15), (15, 23), (23, 29)]
    for order, expected in ((range(n), runs), (behind, runs), (range(n - 1, -1, -1), None), (anyhow, None)):
        deal = Deal(plan)
        counted = deal._epochs[number, 64] = Counted(epoch)
        for i in order:
            assert np.array_equal(deal.batch(number, 2 * i, 64), epoch.batch(i))
        if expected:
            assert counted.asked == expected
        else:
            assert len(counted.asked) > n // 2 and max(stop - start for start, stop in counted.asked) <= 4
    assert pickle.loads(pickle.dumps(deal))._dealt == ()


def test_prefetch_horizon(plan):
    """A choice takes effect after what the workers have been sent."""
    sampler, loader = make(DataLoader, plan, 0, 1, {"num_workers": 2, "prefetch_factor": 3}, candidates=True)
    horizon = prefetch_horizon(loader)
    assert horizon == 6
    sizes = []
    for step, _ in follow(loader):
        if not sizes:
            sampler.choose(128)
        sizes.append(step.batch_size)
    # One list was used and another sent in its place before the choice; then up to an even unit.
    first = sizes.index(128)
    assert horizon < first <= horizon + 2 and set(sizes[:first]) <= {32, 64}


def test_resume_keeps_the_chosen_size(plan):
    sampler = PlanBatchSampler(plan, candidates=True)
    it = iter(sampler)
    before = [next(it) for _ in range(2)]
    sampler.choose(128)
    before += [next(it) for _ in range(3)]
    other = PlanBatchSampler(plan, candidates=True)
    other.resume(json.loads(json.dumps(it.state_dict())))
    after = list(other)
    assert [len(x) for x in before] == [64, 64, 128, 128, 128] and len(after[0]) == 128
    assert sorted(sum(before + after, [])) == list(range(plan.rows))
    assert after == list(it)


def test_length_is_exact_while_sizes_change(plan):
    sampler = PlanBatchSampler(plan, candidates=True)
    it, given = iter(sampler), 0
    for size in (32, 128, 64, 128, 32):
        for _ in range(3):
            next(it)
            given += 1
        sampler.choose(size)
        expected = len(sampler)
    assert given + len(list(it)) == expected


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory):
    """Sizes that change in the middle of both epochs."""
    flags = "--train-epochs", "2", "--size-schedule", "0:32,0.2:64,0.7:128", "--epochs", "1"
    return bw.Plan.open(harness.make_plan(tmp_path_factory.mktemp("scheduled") / "plan", *flags))


@workers
@pytest.mark.parametrize("view", ["rank", "micro"])
def test_size_schedule(scheduled, workers, view):
    """Every row once an epoch, the sizes of the plan, exact lengths; and a state in the middle goes on with another number of ranks."""
    told = scheduled.manifest["schedule"]
    both, states, step_of = [], [], 0
    for rank in range(2):
        sampler = PlanBatchSampler(scheduled, rank=rank, world_size=2, view=view)
        loader, lists = DataLoader(Numbers(), batch_sampler=sampler, **workers), []
        for epoch in range(3):
            sampler.set_epoch(epoch)
            length, epochs_lists = len(sampler), []
            if view == "rank":
                for step, batch in follow(loader):
                    assert step.rows.tolist() == batch.tolist() and scheduled.locate_step(step_of) == (epoch, step.unit, step.batch_size)
                    epochs_lists.append(batch.tolist())
                    states.append(step.state())
                    step_of += 1
                assert step.ends_epoch
            else:
                epochs_lists = drain(loader)
            assert len(epochs_lists) == length and (epoch > 1 or length == told["steps"][epoch] * (1 if view == "rank" else 2))
            lists.append(epochs_lists)
        both.append(lists)
        step_of = 0
    for epoch in range(3):
        ranks = [rows for lists in both for one in lists[epoch] for rows in one]
        assert sorted(ranks) == sorted(list(range(1797)) * (1 if view == "rank" else 2)), epoch
    short = 1 if view == "rank" else 2  # lists of the last, short batch
    assert [{len(one) * 2 for one in both[0][epoch][:-short]} for epoch in range(2)] == [{32, 64}, {64, 128}]
    if view == "rank":
        at = told["steps"][0] + 3
        sampler = PlanBatchSampler(scheduled)
        sampler.resume(states[at])
        done = [row for lists in both for one in lists[1][:4] for row in one]
        assert sampler.epoch == 1 and sorted(done + sum(sampler, [])) == list(range(1797))


def test_who_cannot_follow_a_schedule(scheduled):
    with pytest.raises(bw.ConfigError, match="no run may choose"):
        PlanBatchSampler(scheduled, candidates=True)
    with pytest.raises(bw.ConfigError, match="for the run to choose"):
        PlanBatchSampler(scheduled).choose(64)
    with pytest.raises(bw.ConfigError, match="single rows cannot follow"):
        PlanSampler(scheduled, 1, 0)
    assert [len(x) for x in PlanBatchSampler(scheduled, batch_size=64)][:2] == [64, 64], "one size for all of the run"
    with pytest.raises(bw.ConfigError, match="--size-schedule"):
        bw.Plan.open(harness.make_plan(scheduled.path + "-plain")).locate_step(0)


@pytest.mark.parametrize(
    "flags", [("--drop-last",), ("--holdout", "0.1"), ("--allocation", "equal"), ("--stratify-by", "label")], ids=lambda f: f[0]
)
def test_other_plans(tmp_path, flags):
    """Plans whose epochs are not all rows once: lengths are exact, every list is known, restarts are exact."""
    flags = (*flags, "--label", "label", "--batch-size", "64", "--candidates", "32,64", "--epochs", "1")
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", *flags))
    for size in plan.candidates:
        for rank in range(2):
            sampler, loader = make(DataLoader, plan, rank, 2, {}, batch_size=size)
            lists = [batch.tolist() for step, batch in follow(loader) if batch.tolist() == step.rows.tolist()]
            assert lists == harness.slices(plan, 0, rank, 2, size=size) and len(lists) == len(sampler)
            sampler.resume(sampler.step(3).state())
            assert drain(loader) == lists[4:]
    skewed = "--allocation" in flags
    assert (sampler.step(4).loss_weight is not None) == skewed
    sampler = PlanBatchSampler(plan, candidates=True)
    rows, it = [], iter(sampler)
    for one in it:
        rows += one
        sampler.choose([32, 64][len(rows) % 3 % 2])
    assert sorted(rows) == sorted(plan.epoch(0, 32).rows().tolist())
    assert skewed or len(set(rows)) == len(rows)


class TestMisuse:
    def test_world_size_that_does_not_divide(self, plan):
        with pytest.raises(bw.ConfigError, match="3"):
            PlanBatchSampler(plan, rank=0, world_size=3)
        with pytest.raises(bw.ConfigError):
            PlanSampler(plan, 5, 0)

    def test_rank_out_of_range(self, plan):
        with pytest.raises(bw.ConfigError, match="rank 2 of 2"):
            PlanBatchSampler(plan, rank=2, world_size=2)

    def test_another_plan(self, plan, tmp_path):
        it = iter(PlanBatchSampler(plan))
        next(it)
        other = bw.Plan.open(harness.make_plan(tmp_path / "other", "--batch-size", "64", "--seed", "1"))
        with pytest.raises(bw.PlanError, match="belongs to plan"):
            iter(PlanBatchSampler(other)).load_state_dict(it.state_dict())
        loader = StatefulDataLoader(Numbers(), batch_sampler=PlanBatchSampler(plan))
        next(iter(loader))
        wrong = StatefulDataLoader(Numbers(), batch_sampler=PlanBatchSampler(other))
        wrong.load_state_dict(loader.state_dict())
        with pytest.raises(bw.PlanError):
            next(iter(wrong))

    def test_another_global_batch(self, plan):
        state = iter(PlanBatchSampler(plan)).state_dict()
        with pytest.raises(bw.ConfigError, match="batch_size=64"):
            PlanBatchSampler(plan, batch_size=32).resume(state)

    def test_not_a_state(self, plan):
        for state in ({}, None, {"epoch": 1}):
            with pytest.raises(bw.ConfigError, match="not the state"):
                PlanBatchSampler(plan).resume(state)
        newer = {**iter(PlanBatchSampler(plan)).state_dict(), "version": 99}
        with pytest.raises(bw.ConfigError, match="newer"):
            PlanBatchSampler(plan).resume(newer)

    def test_epoch_repeated(self, plan):
        sampler = PlanBatchSampler(plan)
        list(sampler)
        with pytest.warns(UserWarning, match="set_epoch"):
            list(sampler)

    def test_resume_and_another_epoch(self, plan):
        it = iter(PlanBatchSampler(plan, epoch=1))
        next(it)
        sampler = PlanBatchSampler(plan)
        sampler.resume(it.state_dict())
        sampler.set_epoch(0)
        with pytest.raises(bw.ConfigError, match="resumes in epoch 1"):
            next(iter(sampler))

    def test_lightning_injects(self, plan):
        injected = torch.utils.data.DistributedSampler(Numbers(), 2, 0)
        with pytest.raises(bw.ConfigError, match="use_distributed_sampler=False"):
            PlanBatchSampler(injected, batch_size=32, drop_last=False)

    def test_other_arguments(self, plan):
        with pytest.raises(bw.ConfigError, match="view"):
            PlanBatchSampler(plan, view="all")
        with pytest.raises(bw.ConfigError, match="candidates"):
            PlanBatchSampler(plan).choose(32)
        with pytest.raises(bw.ConfigError, match="candidates"):
            PlanBatchSampler(plan, candidates=True).choose(48)
        with pytest.raises(bw.ConfigError, match="epochs count"):
            PlanBatchSampler(plan).set_epoch(-1)
        with pytest.raises(bw.ConfigError, match="no sampler of a plan"):
            next(follow(DataLoader(Numbers())))
        sampler = PlanSampler(plan)
        with pytest.raises(bw.ConfigError, match="batch_size=sampler.batch_size"):
            next(follow(DataLoader(Numbers(), sampler=sampler, batch_size=50)))


class TestParquetRows:
    def test_values(self, plan):
        import pyarrow.parquet as pq

        table = pq.read_table(harness.DIGITS)
        ds = ParquetRows(plan, harness.DIGITS, extra=("row", "centrality", "modality"))
        rows = [5, 1796, 0, 5, 900]
        got = ds.__getitems__(rows)
        assert len(got) == 5 and len(ds) == 1797
        for item, row in zip(got, rows, strict=True):
            assert item["embedding"].tolist() == table["embedding"][row].as_py() and item["label"] == table["label"][row].as_py()
            assert item["row"] == row and item["modality"] == plan.modality([row])[0]
            assert item["centrality"] == plan.centrality([row])[0]
        assert ds[-1]["row"] == 1796
        for bad in (1797, -1798):
            with pytest.raises(IndexError):
                ds[bad]

    @pytest.mark.parametrize("context", ["fork", "spawn"])
    def test_workers(self, plan, context):
        """Opened in the parent first: neither handles nor cache may cross."""
        ds = ParquetRows(plan, harness.DIGITS)
        ds[3]
        sampler = PlanBatchSampler(plan)
        loader = DataLoader(ds, batch_sampler=sampler, num_workers=2, collate_fn=collate, multiprocessing_context=context)
        seen = []
        for step, batch in follow(loader):
            assert batch["embedding"].shape == (step.n, 64) and batch["row"].tolist() == step.rows.tolist()
            seen.append(batch["row"].tolist())
        harness.check_epoch(plan, 0, [seen])
        assert ds[3]["row"] == 3

    def test_collate_is_torchs(self, plan):
        rows = ParquetRows(plan, harness.DIGITS).__getitems__([4, 2])
        ours, torchs = collate(rows), torch.utils.data.default_collate(rows)
        assert ours.keys() == torchs.keys()
        for name in ours:
            assert torch.equal(ours[name], torchs[name]) and ours[name].dtype == torchs[name].dtype

    def test_many_files_types_and_a_small_cache(self, tmp_path):
        """Row groups of several files, strings, nulls, ragged lists; a cache of one row group changes nothing."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rng = np.random.default_rng(0)
        n = 700
        vectors = rng.standard_normal((n, 4)).astype(np.float32)
        texts = [None if i % 50 == 0 else f"text {i}" for i in range(n)]
        ragged = [list(range(i % 3)) for i in range(n)]
        numbers = [None if i % 7 == 0 else float(i) for i in range(n)]
        table = pa.table({"v": list(vectors), "text": texts, "ragged": ragged, "number": numbers, "flag": [i % 2 == 0 for i in range(n)]})
        data = tmp_path / "data"
        data.mkdir()
        for i in range(3):
            pq.write_table(table.slice(i * 250, 250), data / f"part-{i}.parquet", row_group_size=60)
        plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", "--features", "v", "--batch-size", "64", data=data))
        small = ParquetRows(plan, data, cache_bytes=1)
        rows = rng.permutation(n)[:64].tolist()
        for item, row in zip(small.__getitems__(rows), rows, strict=True):
            assert item["v"].tolist() == vectors[row].tolist() and item["text"] == texts[row] and item["ragged"].tolist() == ragged[row]
            assert (np.isnan(item["number"]) and numbers[row] is None) or item["number"] == numbers[row]
            assert bool(item["flag"]) == (row % 2 == 0)
        assert len(small._cache) == 1
        assert pickle.loads(pickle.dumps(small))[7]["row"] == 7

    def test_refusals(self, plan, tmp_path):
        with pytest.raises(bw.ConfigError, match="no column 'pixels'"):
            ParquetRows(plan, harness.DIGITS, columns=["pixels"])
        with pytest.raises(bw.ConfigError, match="extra column"):
            ParquetRows(plan, harness.DIGITS, extra=("weight",))
        with pytest.raises(bw.BatchwrightError):
            ParquetRows(plan, harness.ROOT / "fixtures" / "mixed.parquet")
        with pytest.raises(bw.BatchwrightError):
            ParquetRows(plan, tmp_path / "nowhere.parquet")


def test_with_rows(plan):
    ds = with_rows(TensorDataset(torch.arange(1797) * 2))
    for step, (item, row) in follow(DataLoader(ds, batch_sampler=PlanBatchSampler(plan))):
        assert row.tolist() == step.rows.tolist() and item[0].tolist() == (step.rows.astype(int) * 2).tolist()


def test_weights_beside_the_batch(plan):
    """Of each rank, whatever the micro-step: what the plan says of these rows."""
    sampler = PlanBatchSampler(plan, rank=1, world_size=2, micro_steps=2)
    for step, batch in follow(DataLoader(Numbers(), batch_sampler=sampler)):
        assert np.array_equal(step.weights(0.25), plan.weights_for(batch.numpy(), 0.25))
        assert step.loss_weight is None


def test_scales_make_the_mean_of_the_batch(plan):
    """Mean over ranks of the sum over micro-steps of scale x mean = mean over the batch, also in the rest batch of 5."""
    values = np.random.default_rng(1).standard_normal(plan.rows)
    samplers = [PlanBatchSampler(plan, rank=rank, world_size=2, micro_steps=2) for rank in range(2)]
    loaders = [follow(DataLoader(Numbers(), batch_sampler=s)) for s in samplers]
    sums = {}
    for both in zip(*loaders, strict=True):
        for step, _ in both:
            sums.setdefault(step.step, []).append(step.scale * values[step.rows].mean())
    for i, parts in sums.items():
        assert np.isclose(sum(parts) / 2, values[plan.epoch(0).batch(i)].mean(), atol=1e-12)
    assert len(sums) == 29
