"""Splits and folds as their user meets them: plans of the fixtures, updates, tables for joins, and what is refused."""
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from conftest import ROOT


def table(plan, name):
    with pa.OSFile(str(plan / name)) as f:
        return pa.ipc.open_file(f).read_all()


def told(plan):
    return json.loads((plan / "plan.json").read_text())


def split_of(plan):
    return table(plan, "splits.arrow")["split"].fill_null(65535).to_numpy().astype(int)


def group_of(plan):
    return table(plan, "splits.arrow")["group"].fill_null(2**32 - 1).to_numpy().astype(np.int64)


def planned(plan):
    return table(plan, "samples.arrow")["modality"].is_valid().to_numpy()


def verify(plan, *files):
    oracle = ROOT / "tests" / "oracle" / "verify_plan.py"
    done = subprocess.run([sys.executable, oracle, plan, *map(str, files), "--column", "v", "--max-epochs", "1"], capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if line.startswith("BROKEN")) + done.stderr


def make(batchwright, data, out, *flags, code=0):
    done = batchwright("plan", data, "-o", out, "--resolution", "500", *map(str, flags))
    assert done.returncode == code, done.stderr
    return done


def data(path, rows=1200, seed=0, **columns):
    """Blobs with a label of four values of very different size, a user of few rows, and a day."""
    r = np.random.default_rng(seed)
    kind = r.choice(6, rows, p=[0.4, 0.3, 0.2, 0.06, 0.03, 0.01])
    x = (np.random.default_rng(99).normal(size=(6, 8))[kind] * 6 + r.normal(size=(rows, 8))).astype(np.float32)
    t = {
        "v": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 8),
        "label": pa.array([f"class {k // 2}" for k in kind]),
        "user": pa.array(r.integers(0, rows // 4, rows) + 10_000 * seed),
        "day": pa.array(r.integers(0, 300, rows).astype("datetime64[D]")),
        **columns,
    }
    pq.write_table(pa.table(t), path, row_group_size=100)
    return pa.table(t)


def test_shares_are_exact_and_every_stratum_within_two_rows(batchwright, tmp_path):
    rows = data(tmp_path / "a.parquet")
    plan = tmp_path / "plan"
    said = make(batchwright, tmp_path / "a.parquet", plan, "--split", "train=0.8,val=0.1,test=0.1", "--label", "label", "--epochs", 1).stdout
    assert "val 120 rows, 10.0 %" in said, said
    split = split_of(plan)
    assert np.bincount(split).tolist() == [960, 120, 120]
    labels = rows["label"].to_numpy()
    for name in np.unique(labels):
        here = split[labels == name]
        assert np.abs(np.bincount(here, minlength=3) - len(here) * np.array([0.8, 0.1, 0.1])).max() < 1, "labels within one row"
    assert (planned(plan) == (split == 0)).all(), "batches are dealt from the first"
    held = table(plan, "holdout.arrow")
    assert held["row"].to_pylist() == np.flatnonzero(split).tolist() and held["split"].to_pylist() == split[split > 0].tolist()
    assert [(s["name"], s["wanted"], s["rows"]) for s in told(plan)["splits"]["splits"]] == [("train", 960, 960), ("val", 120, 120), ("test", 120, 120)]
    verify(plan, tmp_path / "a.parquet")
    assert "train 960 rows" in batchwright("inspect", plan).stdout
    assert batchwright("check", plan, tmp_path / "a.parquet").returncode == 0


def test_holdout_is_the_same_code(batchwright, tmp_path):
    data(tmp_path / "a.parquet")
    make(batchwright, tmp_path / "a.parquet", tmp_path / "holdout", "--holdout", "0.15", "--epochs", 0)
    make(batchwright, tmp_path / "a.parquet", tmp_path / "split", "--split", "train=0.85,holdout=0.15", "--epochs", 0)
    held = table(tmp_path / "holdout", "holdout.arrow")
    assert held["row"].equals(table(tmp_path / "split", "holdout.arrow")["row"])
    assert "split" not in held.column_names and "splits" not in told(tmp_path / "holdout"), "older readers open it"
    assert not (tmp_path / "holdout" / "splits.arrow").exists() and "splits" not in told(tmp_path / "holdout")["config"]


def test_small_strata_have_the_chance_of_all_others(batchwright, tmp_path):
    """Held out are 1 % of rows in strata of about 40 and fewer."""
    rows = 1200
    data(tmp_path / "a.parquet", rows)
    hits, small = np.zeros(rows), None
    seeds = 40
    for seed in range(seeds):
        make(batchwright, tmp_path / "a.parquet", tmp_path / f"{seed}", "--holdout", "0.01", "--seed", seed, "--epochs", 0)
        held = table(tmp_path / f"{seed}", "holdout.arrow")["row"].to_numpy()
        assert len(held) == 12
        hits[held] += 1
        stratum = table(tmp_path / f"{seed}", "samples.arrow")["stratum"].fill_null(0).to_numpy()
        size = np.bincount(stratum)[stratum]
        small = size < np.median(size) if small is None else small
    got = hits[small].mean() / seeds
    assert abs(got - 0.01) < 4 * np.sqrt(0.01 * 0.99 / (small.sum() * seeds)), got


@pytest.mark.parametrize("flags", [("--split", "train=0.7,val=0.2,test=0.1"), ("--folds", "4")], ids=str)
def test_groups_are_never_cut(batchwright, tmp_path, flags):
    rows = data(tmp_path / "a.parquet")
    plan = tmp_path / "plan"
    make(batchwright, tmp_path / "a.parquet", plan, *flags, "--group", "user", "--epochs", 0)
    split, user, group = split_of(plan), rows["user"].to_numpy(), group_of(plan)
    for name in np.unique(user):
        mine = np.flatnonzero(user == name)
        assert len(set(split[mine].tolist())) == 1
        assert (group[mine] == (mine[0] if len(mine) > 1 else 2**32 - 1)).all()
    j = told(plan)["splits"]
    assert j["groups"]["largest"] == np.bincount(np.unique(user, return_inverse=True)[1]).max()
    assert all(abs(s["rows"] - s["wanted"]) <= 1 for s in j["splits"]), j
    verify(plan, tmp_path / "a.parquet")


def test_folds_leave_every_row_planned(batchwright, tmp_path):
    data(tmp_path / "a.parquet", 1003)
    plan = tmp_path / "plan"
    make(batchwright, tmp_path / "a.parquet", plan, "--folds", 5, "--label", "label")
    assert sorted(np.bincount(split_of(plan)).tolist()) == [200, 200, 201, 201, 201] and planned(plan).all()
    assert not (plan / "holdout.arrow").exists()
    verify(plan, tmp_path / "a.parquet")
    make(batchwright, tmp_path / "a.parquet", tmp_path / "plain", "--label", "label")
    assert (plan / "batches").exists()
    for part in ("samples.arrow", "strata.arrow"):
        assert table(plan, part).equals(table(tmp_path / "plain", part)), "folds change nothing but splits.arrow"


def test_a_fold_for_every_value(batchwright, tmp_path):
    rows = data(tmp_path / "a.parquet")
    plan = tmp_path / "plan"
    make(batchwright, tmp_path / "a.parquet", plan, "--folds", "groups", "--group", "label", "--epochs", 0)
    names = sorted(set(rows["label"].to_pylist()))
    first = sorted(names, key=rows["label"].to_pylist().index)
    assert sorted(np.unique(split_of(plan)).tolist()) == list(range(len(names)))
    assert {(a, b) for a, b in zip(rows["label"].to_pylist(), split_of(plan).tolist())} == {(n, i) for i, n in enumerate(names)}, first


def test_given_splits_are_taken_as_they_are_and_leaks_counted(batchwright, tmp_path):
    r = np.random.default_rng(5)
    part = pa.array([None if x < 0.05 else "train" if x < 0.7 else "test" if x < 0.9 else "dev" for x in r.random(1200)])
    rows = data(tmp_path / "a.parquet", part=part)
    plan = tmp_path / "plan"
    done = make(batchwright, tmp_path / "a.parquet", plan, "--split-column", "part", "--group", "user", "--epochs", 0)
    j = told(plan)["splits"]
    assert [s["name"] for s in j["splits"]] == ["train", "dev", "test"] and j["aside"] == part.null_count
    split, user = split_of(plan), rows["user"].to_numpy()
    names = np.array([s["name"] for s in j["splits"]] + [None])
    assert names[np.where(split == 65535, 3, split)].tolist() == part.to_pylist()
    for s in (1, 2):
        leaked = sum(np.isin(user[r], user[split < s]) for r in np.flatnonzero(split == s))
        assert j["splits"][s]["leaks"] == [leaked, 0] and leaked > 0
    assert "--leaks purge" in done.stderr or "--leaks purge" in done.stdout
    clean = tmp_path / "clean"
    make(batchwright, tmp_path / "a.parquet", clean, "--split-column", "part", "--group", "user", "--leaks", "purge", "--epochs", 0)
    after = split_of(clean)
    assert ((after == split) | (after == 65535)).all() and (after[split == 2] == 2).all(), "the last split is whole"
    used = after != 65535
    assert all(len(set(after[used & (user == u)].tolist())) <= 1 for u in np.unique(user))
    verify(clean, tmp_path / "a.parquet")
    order = tmp_path / "order"
    make(batchwright, tmp_path / "a.parquet", order, "--split-column", "part", "--split-order", "test,train,dev", "--epochs", 0)
    assert [s["name"] for s in told(order)["splits"]["splits"]] == ["test", "train", "dev"]


def test_files_name_splits(batchwright, tmp_path):
    folder = tmp_path / "data"
    (folder / "test").mkdir(parents=True)
    data(folder / "train-0.parquet", 300)
    data(folder / "train-1.parquet", 300, 1)
    data(folder / "test" / "x.parquet", 200, 2)
    plan = tmp_path / "plan"
    make(batchwright, folder, plan, "--split-files", "train=train-*,test=test", "--epochs", 0)
    assert [(s["name"], s["rows"]) for s in told(plan)["splits"]["splits"]] == [("train", 600), ("test", 200)]
    for wrong, said in (("train=train-0*,test=test", "train-1.parquet"), ("train=*,test=test/*,all=**", "matches those of"), ("train=train-*,test=test,val=val*", "`val*`")):
        assert said in make(batchwright, folder, tmp_path / "no", "--split-files", wrong, code=3).stderr, wrong


def test_time_is_cut_in_order(batchwright, tmp_path):
    rows = data(tmp_path / "a.parquet")
    day = rows["day"].to_numpy().astype(int)
    plan = tmp_path / "plan"
    make(batchwright, tmp_path / "a.parquet", plan, "--split", "train=0.8,val=0.1,test=0.1", "--split-time", "day", "--gap", "7d", "--epochs", 0)
    split = split_of(plan)
    for a, b in ((0, 1), (1, 2)):
        assert day[split == a].max() + 7 <= day[split == b].min()
    assert 0 < told(plan)["splits"]["aside"] == (split == 65535).sum()
    verify(plan, tmp_path / "a.parquet")
    folds = tmp_path / "folds"
    make(batchwright, tmp_path / "a.parquet", folds, "--folds", 4, "--split-time", "day")
    blocks = split_of(folds)
    assert told(folds)["splits"]["by"] == "time-folds" and blocks.max() == 4 and planned(folds).all()
    assert all(day[blocks == b].max() < day[blocks == b + 1].min() for b in range(4))


@pytest.mark.parametrize("change", ["appended", "reordered", "changed", "prepended"])
@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("flags", [("--split", "train=0.8,val=0.1,test=0.1"), ("--split", "train=0.8,val=0.1,test=0.1", "--group", "user")], ids=["shares", "groups"])
def test_rows_keep_their_splits_in_every_update(batchwright, tmp_path, change, refit, flags):
    folder, plan, new = tmp_path / "data", tmp_path / "plan", tmp_path / "new"
    folder.mkdir()
    rows = data(folder / "b.parquet")
    make(batchwright, folder, plan, *flags)
    key = lambda t: [bytes(np.asarray(v, np.float32)) for v in t["v"].to_pylist()]
    was = dict(zip(key(rows), split_of(plan).tolist()))
    now = rows
    if change in ("appended", "prepended"):
        more = data(folder / ("c.parquet" if change == "appended" else "a.parquet"), 400, 1)
        now = pa.concat_tables([rows, more] if change == "appended" else [more, rows])
    elif change == "reordered":
        now = rows.take(np.random.default_rng(1).permutation(len(rows)))
        pq.write_table(now, folder / "b.parquet", row_group_size=100)
    else:  # the users of some rows: their contents stay
        user = rows["user"].to_numpy().copy()
        user[::50] = 77
        now = rows.set_column(rows.column_names.index("user"), "user", pa.array(user))
        pq.write_table(now, folder / "b.parquet", row_group_size=100)
    done = batchwright("update", plan, folder, "-o", new, "--json", "--far", "0.9", *["--refit"] * refit)
    assert done.returncode == 0, done.stderr
    if json.loads(done.stdout)["how"] == "unchanged":
        assert change == "changed" and "--group" not in flags, "no column that the plan reads has changed"
        return
    split = dict(zip(key(now), split_of(new).tolist()))
    assert all(split[k] == s for k, s in was.items() if s > 0), "held-out rows keep their split"
    assert all(split[k] == 0 for k, s in was.items() if s == 0), "rows that were trained on stay in the first"
    total = len(now)
    counts = np.bincount([s for s in split.values() if s < 65535], minlength=3)
    if change != "changed":
        # Nearly all new rows are in groups of several: no rows of their own make up for those.
        most = 0.01 * total if "--group" in flags else 1.5
        assert np.abs(counts - total * np.array([0.8, 0.1, 0.1])).max() <= most
    verify(new, *sorted(folder.glob("*.parquet")))
    if "--group" in flags and change in ("appended", "prepended"):
        split, user = split_of(new), now["user"].to_numpy()
        assert all(len(set(split[user == u].tolist())) == 1 for u in np.unique(user))


def test_new_rows_join_the_split_of_their_group(batchwright, tmp_path):
    folder, plan, new = tmp_path / "data", tmp_path / "plan", tmp_path / "new"
    folder.mkdir()
    other = lambda n, at: pa.array([f"m{i + at}" for i in range(n)])
    rows = data(folder / "a.parquet", mail=other(1200, 0))
    make(batchwright, folder, plan, "--split", "train=0.5,test=0.5", "--group", "user,mail", "--epochs", 0)
    split, user = split_of(plan), rows["user"].to_numpy()
    train, test = np.flatnonzero(split == 0)[0], np.flatnonzero(split == 1)[0]
    more = data(folder / "b.parquet", 40, 3, mail=other(40, 5000)).to_pydict()
    more["user"][0], more["user"][1] = int(user[train]), int(user[test])
    # One that would join two splits, and one that hangs on it.
    more["user"][2], more["mail"][2] = int(user[train]), f"m{test}"
    more["user"][3] = more["user"][4] = 555_555
    more["mail"][3] = f"m{test}"
    v = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(more.pop("v"), np.float32).ravel()), 8)
    pq.write_table(pa.table({"v": v, **more}), folder / "b.parquet")
    done = batchwright("update", plan, folder, "-o", new, "--json", "--far", "0.9")
    assert done.returncode == 0 and json.loads(done.stdout)["how"] == "appended", done.stderr
    now = split_of(new)
    assert (now[:1200] == split).all()
    assert now[1200:1205].tolist() == [0, 1, 65535, 65535, 65535] or now[1200:1205].tolist() == [65535, 1, 65535, 65535, 65535] or now[1200:1205].tolist() == [0, 1, 65535, 1, 1], now[1200:1205]
    assert told(new)["splits"]["aside"] == (now == 65535).sum() > 0
    verify(new, *sorted(folder.glob("*.parquet")))


def test_folds_stay_by_number(batchwright, tmp_path):
    folder, plan, new = tmp_path / "data", tmp_path / "plan", tmp_path / "new"
    folder.mkdir()
    data(folder / "b.parquet")
    make(batchwright, folder, plan, "--folds", 4, "--epochs", 0)
    data(folder / "a.parquet", 400, 1)
    done = batchwright("update", plan, folder, "-o", new, "--far", "0.9")
    assert done.returncode == 0, done.stderr
    assert (split_of(new)[400:] == split_of(plan)).all() and np.ptp(np.bincount(split_of(new))) <= 1
    data(folder / "b.parquet", 1200, 7)
    done = batchwright("update", new, folder, "-o", tmp_path / "third", "--refit", "--far", "0.9")
    assert "dealt into folds anew" in done.stderr + done.stdout
    assert (split_of(tmp_path / "third")[:400] == split_of(new)[:400]).all()


def test_splits_as_a_table(batchwright, tmp_path):
    rows = data(tmp_path / "a.parquet", 500, name=pa.array([f"row {i}" for i in range(500)]))
    make(batchwright, tmp_path / "a.parquet", tmp_path / "plan", "--split", "train=0.8,test=0.2", "--group", "user", "--id", "name", "--epochs", 0)
    out = tmp_path / "splits.parquet"
    done = batchwright("splits", tmp_path / "plan", tmp_path / "a.parquet", "-o", out)
    assert done.returncode == 0 and "test " in done.stdout, done.stderr
    got = pq.read_table(out)
    assert got.column_names == ["name", "row", "split", "group"]
    assert got["name"].equals(rows["name"]) and got["row"].to_pylist() == list(range(500))
    assert got["split"].to_pylist() == [["train", "test"][s] for s in split_of(tmp_path / "plan")]
    assert got["group"].to_pylist() == table(tmp_path / "plan", "splits.arrow")["group"].to_pylist()
    make(batchwright, tmp_path / "a.parquet", tmp_path / "none", "--epochs", 0)
    none = batchwright("splits", tmp_path / "none", tmp_path / "a.parquet", "-o", tmp_path / "x.parquet")
    assert none.returncode == 2 and "--split" in none.stderr


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--split", "train=0.8,test=0.1"), 2, "rest"),
        (("--split", "train=900,test=900"), 2, "1200"),
        (("--split", "train=0.8,test=0.2", "--holdout", "0.1"), 2, "contradicts"),
        (("--split", "train=0.8,test=0.2", "--group", "usr"), 2, "user"),
        (("--split", "train=0.8,test=0.2", "--group", "v"), 2, "v"),
        (("--split", "train=0.8,test=0.2", "--split-time", "label"), 3, "neither a number nor a date"),
        (("--split", "train=0.8,test=0.2", "--split-time", "user", "--gap", "7d"), 2, "dates"),
        (("--split", "train=0.8,test=0.2", "--split-by", "name"), 2, "1000"),
        (("--folds", "groups", "--group", "holes"), 3, "no value in"),
        (("--folds", "5", "--locality", "local"), 2, "local"),
        (("--split-column", "one"), 3, "only `train`"),
        (("--split-column", "name"), 3, "1000 values"),
        (("--split", "a=1199,b=1,c=0"), 3, "`c`"),
        (("--leaks", "purge"), 2, "nothing is split"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(batchwright, tmp_path, flags, code, said):
    holes = pa.array([None if i % 7 == 0 else i % 3 for i in range(1200)])
    data(tmp_path / "a.parquet", holes=holes, one=pa.array(["train"] * 1200), name=pa.array([f"row {i}" for i in range(1200)]))
    done = batchwright("plan", tmp_path / "a.parquet", "-o", tmp_path / "plan", "--resolution", "500", *flags)
    assert done.returncode == code and said in done.stderr, done.stderr
    assert not (tmp_path / "plan").exists()
