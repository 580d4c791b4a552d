"""Splits, folds and groups of a plan in Python."""
import pickle

import batchwright as bw
import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    return bw.Plan.open(harness.make_plan(tmp_path_factory.mktemp("folds") / "plan", "--label", "label", "--folds", "4", "--batch-size", "64"))


def test_splits_by_name(tmp_path):
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", "--split", "train=0.8,val=0.1,test=0.1", "--epochs", "0"))
    assert plan.splits == {"train": 1437, "val": 180, "test": 180} and list(plan.splits) == ["train", "val", "test"]
    parts = [plan.split(name) for name in plan.splits]
    assert all(x.dtype == np.int64 and (np.diff(x) > 0).all() for x in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))
    assert sorted(plan.epoch(0).rows().tolist()) == parts[0].tolist()
    assert sorted(plan.holdout().tolist()) == sorted(np.concatenate(parts[1:]).tolist())
    assert set(plan.probe(100).tolist()) <= set(parts[1].tolist()), "of val, never of test"
    with pytest.raises(bw.ConfigError, match="train, val, test"):
        plan.split("dev")
    with pytest.raises(bw.ConfigError, match="--folds"):
        plan.folds()


def test_a_split_of_another_name_is_never_probed(tmp_path):
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", "--split", "train=0.8,test=0.2", "--epochs", "0"))
    assert not set(plan.probe().tolist()) & set(plan.split("test").tolist())


def test_holdout_alone_is_two_splits(tmp_path):
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", "--holdout", "0.1", "--epochs", "0"))
    assert plan.splits == {"train": 1617, "holdout": 180} and plan.split("holdout").tolist() == plan.holdout().tolist()
    assert len(plan.split("train")) == 1617 and set(plan.probe(100).tolist()) <= set(plan.holdout().tolist())
    assert bw.Plan.open(harness.make_plan(tmp_path / "none", "--epochs", "0")).splits == {}


def test_folds_are_a_sequence(folds):
    all_ = folds.folds()
    assert len(all_) == 4 and len(list(all_)) == 4
    for train, test in all_:
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(1797)) and train.dtype == np.int64
    assert all_[-1][1].tolist() == folds.split("fold-3").tolist()
    for i in (4, -5):
        with pytest.raises(IndexError):
            all_[i]
    assert folds.holdout() is None and folds.rows_planned == 1797


def test_batches_of_a_fold_are_exact(folds):
    seeds = set()
    for f, (train, test) in enumerate(folds.folds()):
        plan = folds.fold(f)
        assert plan.rows_planned == len(train) and plan.epochs == 0 and plan.rows == 1797
        for number in (0, 3):
            epoch = plan.epoch(number)
            assert sorted(epoch.rows().tolist()) == train.tolist()
            stratum = plan.stratum(np.arange(plan.rows))
            share = np.bincount(stratum[train], minlength=plan.strata) / len(train)
            for rows in epoch:
                assert np.abs(np.bincount(stratum[rows], minlength=plan.strata) - len(rows) * share).max() < 1
        assert not set(plan.probe(200).tolist()) & set(test.tolist())
        seeds.add(plan.seed)
        again = pickle.loads(pickle.dumps(plan))
        assert again.epoch(0).batch(0).tolist() == plan.epoch(0).batch(0).tolist() and "without fold" in repr(again)
        with pytest.raises(bw.ConfigError, match="already"):
            plan.fold(0)
    assert len(seeds) == 4 and folds.seed not in seeds
    with pytest.raises(bw.ConfigError, match="4 of 4 folds"):
        folds.fold(4)


def test_a_fold_is_read_as_a_stream(folds):
    plan = folds.fold(1)
    seen = np.concatenate([batch["row"] for batch in plan.stream(harness.DIGITS, columns=["label"], epochs=1)])
    assert sorted(seen.tolist()) == folds.folds()[1][0].tolist()


def test_groups_by_kind(tmp_path):
    r = np.random.default_rng(0)
    rows = pq.read_table(harness.DIGITS)
    data = tmp_path / "a.parquet"
    pq.write_table(rows.append_column("user", pa.array(r.integers(0, 900, len(rows)))).append_column("text", pa.array(r.integers(0, 1500, len(rows)))), data)
    make = lambda name, *flags: bw.Plan.open(harness.make_plan(tmp_path / name, *flags, "--epochs", "0", "--features", "embedding", data=data))
    both = make("both", "--split", "train=0.8,test=0.2", "--group", "user", "--no-duplicates", "text", "--batch-size", "32")
    user = pq.read_table(data)["user"].to_numpy()
    alone = np.bincount(user)[user] == 1
    first = np.array([np.flatnonzero(user == u)[0] for u in user])
    everyone = np.arange(len(rows))
    assert both.group(everyone, of="splits").tolist() == np.where(alone, -1, first).tolist()
    assert (both.group(both.split("test"), of="no_duplicates") == -1).all(), "rows that are not dealt meet no duplicates"
    with pytest.raises(bw.ConfigError, match="two kinds"):
        both.group(everyone)
    with pytest.raises(bw.ConfigError, match="no kind"):
        both.group(everyone, of="near")
    one = make("one", "--folds", "3", "--group", "user")
    assert one.group(everyone).tolist() == one.group(everyone, of="splits").tolist()
    fold = {u: f for f in range(3) for u in user[one.split(f"fold-{f}")].tolist()}
    assert all(fold[u] == f for f in range(3) for u in user[one.split(f"fold-{f}")].tolist()), "no user is in two folds"


def test_time_folds_train_on_what_came_before(tmp_path):
    rows = pq.read_table(harness.DIGITS)
    data, day = tmp_path / "a.parquet", np.random.default_rng(1).integers(0, 100, len(rows))
    pq.write_table(rows.append_column("day", pa.array(day)), data)
    flags = ("--folds", "3", "--split-time", "day", "--features", "embedding", "--epochs", "0")
    plan = bw.Plan.open(harness.make_plan(tmp_path / "plan", *flags, data=data))
    assert list(plan.splits) == ["block-0", "block-1", "block-2", "block-3"] and len(plan.folds()) == 3
    for f, (train, test) in enumerate(plan.folds()):
        assert day[train].max() < day[test].min()
        assert sorted(plan.fold(f).epoch(0).rows().tolist()) == train.tolist()


def test_xgboost_takes_folds(folds):
    xgboost = pytest.importorskip("xgboost")
    rows = pq.read_table(harness.DIGITS)
    x = np.array(rows["embedding"].to_pylist())
    done = xgboost.cv({"objective": "multi:softmax", "num_class": 10}, xgboost.DMatrix(x, rows["label"].to_numpy()), 3, folds=folds.folds())
    assert len(done) == 3
