"""Sentence Transformers: a run on two ranks that is killed and resumed sees every row once; what does not fit is refused; masked losses
are those of a loop over what is allowed."""

import math
import pickle

import numpy as np
import pytest

for _name in ("torch", "datasets", "sentence_transformers"):
    pytest.importorskip(_name)

import torch  # noqa: E402

import batchwright as bw  # noqa: E402
import harness  # noqa: E402
import jobs  # noqa: E402
from batchwright.sentence_transformers import MaskedMultipleNegativesRankingLoss, plan_batches, with_groups  # noqa: E402
from test_two_processes import launch, launching  # noqa: E402

on_two = launching("sentences_bare", "masked")


@pytest.fixture(scope="session")
def killed_and_resumed(plan_path, tmp_path_factory):
    """(epoch, rows) of every step: before the kill, and after, by rank."""
    out = tmp_path_factory.mktemp("killed")
    code, printed = launch(plan_path, out, "sentences_killed")
    assert code and "Signal 9" in printed, printed[-4000:]
    code, printed = launch(plan_path, out, "sentences_resumed")
    assert code == 0, printed[-4000:]
    return [[harness.load(out / name) for name in (f"before-{rank}.json", f"sentences_resumed-{rank}.json")] for rank in range(2)]


def test_killed_in_mid_epoch_and_resumed(plan, killed_and_resumed):
    ranks = []
    for before, after in killed_and_resumed:
        assert len(before) == jobs.KILLED and len(after) == 2 * 29 - jobs.SAVED
        ranks.append(before[: jobs.SAVED] + after)
    for epoch in range(2):
        harness.check_epoch(plan, epoch, [[rows for of, rows in one if of == epoch] for one in ranks])
        assert sorted(row for one in ranks for of, rows in one if of == epoch for row in rows) == list(range(plan.rows))


def test_one_process_with_triplets_and_an_evaluation(plan, tmp_path):
    """Another dataset is evaluated on in its own order, and more often than it is trained on."""
    seen = []
    data = jobs.sentences(plan, ("anchor", "positive", "negative"))
    other = data.select(range(100))
    trainer = jobs.sentence_trainer(
        plan, tmp_path / "out", dataset=data, seen=seen, num_train_epochs=1, eval_strategy="epoch", eval_dataset=other, per_device_eval_batch_size=32
    )
    loader = trainer.get_eval_dataloader()
    assert torch.cat([batch["label"] for batch in loader]).tolist() == list(range(100))
    trainer.train()
    harness.check_epoch(plan, 0, [[rows for _, rows in seen]])


def test_several_datasets(plan, tmp_path):
    from datasets import DatasetDict

    few = bw.Plan.open(harness.make_plan(tmp_path / "other", "--batch-size", "64", "--seed", "7"))
    assert few.rows == plan.rows
    with pytest.raises(bw.ConfigError, match="two plans have 1797 rows"):
        plan_batches({"all": plan, "few": few})
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(harness.DIGITS).slice(0, 640), tmp_path / "few.parquet")
    few = bw.Plan.open(harness.make_plan(tmp_path / "few2", "--batch-size", "64", data=tmp_path / "few.parquet"))
    seen, both = [], {"all": plan, "few": few}
    data = DatasetDict({name: jobs.sentences(each) for name, each in both.items()})
    data["few"] = data["few"].map(lambda row: {"label": row["label"] + 10_000})
    trainer = jobs.sentence_trainer(plan, tmp_path / "out", dataset=data, batches=plan_batches(both), seen=seen)
    trainer.train()
    for epoch in range(2):
        lists = [rows for of, rows in seen if of == epoch]
        harness.check_epoch(plan, epoch, [[rows for rows in lists if rows[0] < 10_000]])
        harness.check_epoch(few, epoch, [[[row - 10_000 for row in rows] for rows in lists if rows[0] >= 10_000]])
    trainer = jobs.sentence_trainer(plan, tmp_path / "out", dataset=data)
    with pytest.raises(bw.ConfigError, match=r"plan_batches\({name: plan}\)"):
        trainer.train()


def test_what_does_not_fit(plan, tmp_path):
    data = jobs.sentences(plan)
    with pytest.raises(bw.ConfigError, match="the dataset has 100 rows, but the plan was made from 1797"):
        jobs.sentence_trainer(plan, tmp_path / "a", dataset=data.select(range(100))).train()
    with pytest.raises(bw.ConfigError, match=r"100 rows.*callbacks=\[batches.callback\]"):
        jobs.sentence_trainer(plan, tmp_path / "b", dataset=data.select(range(100)), callbacks=[]).train()
    with pytest.raises(bw.ConfigError, match="per_device_train_batch_size=64"):
        jobs.sentence_trainer(plan, tmp_path / "c", rows=32).train()
    with pytest.raises(bw.ConfigError, match="not a str"):
        plan_batches("digits.plan")
    batches = plan_batches(plan)
    with pytest.warns(UserWarning, match="seed=7 leaves the batches as they are"):
        batches(data, 64, False, seed=7)
    copy = pickle.loads(pickle.dumps(batches))
    assert list(copy(data, 64, True)) == harness.slices(plan, 0, 0, 1)[:28], "the Trainer pickles its arguments"


def test_two_ranks_want_the_callback_and_one_dataset(on_two):
    for callback, several in on_two[1]["sentences_bare"]:
        assert "callbacks=[batches.callback]" in callback and "2 processes" in callback
        assert "several datasets" in several and "one process" in several


# -------------------------------------------------------------------------------------------------------------------------- masks


def cosine(a, b):
    return (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T


def by_loops(embeddings, groups, scale=20.0):
    """-log of the share of a query's own document among all that it may be compared with, one by one."""
    query, *documents = embeddings
    total = 0.0
    for i in range(len(query)):
        allowed = [j for j in range(len(query)) if j == i or groups[i] < 0 or groups[i] != groups[j]]
        scores = [scale * float(cosine(query[i : i + 1], d[j : j + 1])) for d in documents for j in allowed]
        total += math.log(sum(map(math.exp, scores))) - scale * float(cosine(query[i : i + 1], documents[0][i : i + 1]))
    return total / len(query)


@pytest.mark.parametrize("columns", [2, 3])
def test_masked_loss_is_that_of_loops(columns):
    embeddings, groups = jobs.masked_batch()
    loss = MaskedMultipleNegativesRankingLoss(torch.nn.Identity())
    got = loss.compute_loss_from_embeddings(embeddings[:columns], groups).item()
    assert got == pytest.approx(by_loops(embeddings[:columns], groups), rel=1e-9)
    alone = torch.full_like(groups, -1)
    plain = by_loops(embeddings[:columns], alone)
    assert loss.compute_loss_from_embeddings(embeddings[:columns], alone).item() == pytest.approx(plain, rel=1e-9)
    assert got < plain - 1e-3, "a mask takes negatives away"


def test_masks_in_every_direction():
    """Documents against queries, queries against queries: the loss is that of a batch in which the duplicates are not."""
    directions = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    (query, document, _), _ = jobs.masked_batch()
    loss = MaskedMultipleNegativesRankingLoss(torch.nn.Identity(), directions=directions)
    two = [torch.cat([x[:3], x[:1]]) for x in (query, document)]
    got = loss.compute_loss_from_embeddings(two, torch.tensor([5, -1, -1, 5]))
    without = loss.compute_loss_from_embeddings([query[:3], document[:3]], torch.tensor([-1, -1, -1]))
    # Rows 0 and 3 are the same; rows 1 and 2 see both of them.
    first = [loss.compute_loss_from_embeddings([x[[0, 1, 2]] for x in (query, document)], torch.tensor([5, -1, -1]))]
    assert torch.isfinite(got) and torch.isfinite(without) and first[0] == without


def test_gathered_masks(on_two):
    """The mean over ranks is the loss of the whole batch, also through what is gathered."""
    embeddings, groups = jobs.masked_batch()
    whole = [x.clone().requires_grad_() for x in embeddings]
    loss = MaskedMultipleNegativesRankingLoss(torch.nn.Identity()).compute_loss_from_embeddings(whole, groups)
    ranks = on_two[1]["masked"]
    assert np.mean([one["loss"] for one in ranks]) == pytest.approx(loss.item(), rel=1e-9)
    for one in ranks:
        assert min(one["gradient"]) > 0 and "dataloader_drop_last" in one["uneven"]


def test_groups_are_labels(tmp_path, plan):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(harness.DIGITS).slice(0, 600)
    user = np.arange(600) % 50
    pq.write_table(table.append_column("user", pa.array(user)), tmp_path / "users.parquet")
    of = bw.Plan.open(harness.make_plan(tmp_path / "users", "--batch-size", "8", "--candidates", "8", "--no-duplicates", "user", data=tmp_path / "users.parquet"))
    data = jobs.sentences(of)
    with pytest.raises(bw.ConfigError, match="a column 'label'"):
        with_groups(data, of)
    grouped = with_groups(data.remove_columns("label"), of)
    assert grouped["label"][:] == of.group(np.arange(600)).tolist() == (np.arange(600) % 50).tolist()
    with pytest.raises(bw.ConfigError, match="1797"):
        with_groups(data, plan)
    seen = []
    jobs.sentence_trainer(of, tmp_path / "out", dataset=grouped, loss=MaskedMultipleNegativesRankingLoss, seen=seen, num_train_epochs=1).train()
    assert all(len(set(groups)) == len(groups) for _, groups in seen), "no two rows of a user in a batch"
    trainer = jobs.sentence_trainer(of, tmp_path / "out2", dataset=data.remove_columns("label"), loss=MaskedMultipleNegativesRankingLoss)
    with pytest.raises(bw.ConfigError, match="with_groups"):
        trainer.train()
