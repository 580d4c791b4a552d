"""All frameworks on two processes: a launch of each, then every list that a rank was given is compared with the plan; and the restarts on
one process of what two began, and back."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

for _name in ("torch", "torchdata", "accelerate", "lightning", "transformers"):
    pytest.importorskip(_name)

import psutil  # noqa: E402

import harness  # noqa: E402
import jobs  # noqa: E402
from two_processes import WORKERS  # noqa: E402

HERE = pathlib.Path(__file__).parent
KINDS = tuple(WORKERS)


# The slowest scenario takes half a minute.
STALLED = 300


def stop(launched):
    """Ends a launch with all its processes; ranks and workers say where they stand first."""
    processes = psutil.Process(launched.pid).children(recursive=True)
    for process in processes:
        process.send_signal(signal.SIGUSR1)
    time.sleep(2)
    for process in (launched, *processes):
        process.kill()


def launch(plan_path, out, *scenarios):
    """Runs scenarios on two processes: (exit code, what they printed)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    log = out / "log"  # a file, not a pipe: nobody has to read it for a process to go on, nor to end for us to read it
    with log.open("w") as file:
        launched = subprocess.Popen(
            [sys.executable, *run, str(HERE / "two_processes.py"), str(plan_path), str(out), *scenarios],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=file,
        )
        try:
            launched.wait(timeout=STALLED)
        except subprocess.TimeoutExpired:
            stop(launched)
            pytest.fail(f"no end after {STALLED} s: {log.read_text()}")
    return launched.returncode, log.read_text()


def launching(*scenarios):
    """A fixture: its folder, and the results by scenario, one entry a rank. Every framework has a launch of its own, as its users
    run it: threads, signal handlers and garbage that one leaves behind are not the next one's."""

    @pytest.fixture(scope="session")
    def launched(plan_path, tmp_path_factory):
        out = tmp_path_factory.mktemp("two")
        code, printed = launch(plan_path, out, *scenarios)
        assert code == 0, printed[-4000:]
        return out, {name: [harness.load(out / f"{name}-{rank}.json") for rank in range(2)] for name in scenarios}

    return launched


by_torch = launching("gradients", "choice", "misplaced")
by_accelerate = launching("accelerate", "accelerate_skip", "accelerate_gradients")
by_trainer = launching("trainer")
by_lightning = launching("lightning", "lightning_rows", "lightning_gradients")


def check_matrix(plan, ranks):
    """fresh: epochs 0 and 1; mid: what follows STEPS steps of epoch 1; end: the epoch after the saved one."""
    for epoch in range(2):
        harness.check_epoch(plan, epoch, [one["fresh"][epoch] for one in ranks])
    for rank, one in enumerate(ranks):
        assert one["mid"] == harness.slices(plan, 1, rank, len(ranks))[jobs.STEPS :]


@pytest.mark.parametrize("kind", KINDS)
def test_accelerate(plan, by_accelerate, kind, tmp_path):
    ranks = [one[kind] for one in by_accelerate[1]["accelerate"]]
    check_matrix(plan, ranks)
    harness.check_epoch(plan, 2, [one["end"] for one in ranks])
    # What two processes began one goes on with.
    rest = jobs.accelerate(plan, WORKERS[kind], tmp_path, ranks[0]["states"]["mid"])
    assert rest == harness.slices(plan, 1, 0, 1)[jobs.STEPS :]


def test_accelerate_skip_first_batches(plan, by_accelerate):
    for rank, lists in enumerate(by_accelerate[1]["accelerate_skip"]):
        assert lists == harness.slices(plan, 1, rank, 2)[jobs.STEPS :]


def test_accelerate_refuses_a_sampler_that_knows_its_rank(plan):
    import batchwright as bw
    from batchwright.accelerate import prepare
    from batchwright.torch import PlanBatchSampler
    from torch.utils.data import DataLoader

    for settings in ({"rank": 0, "world_size": 2}, {"view": "micro", "rank": 0, "world_size": 2}):
        loader = DataLoader(jobs.Rows(plan), batch_sampler=PlanBatchSampler(plan, **settings))
        with pytest.raises(bw.ConfigError, match="view='micro', world_size=1"):
            prepare(jobs.accelerator(), loader)


@pytest.mark.parametrize("kind", KINDS)
def test_trainer(plan, by_trainer, kind):
    ranks = [one[kind] for one in by_trainer[1]["trainer"]]
    check_matrix(plan, ranks)
    for rank, one in enumerate(ranks):
        assert one["end"] == harness.slices(plan, 1, rank, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_trainer_goes_on_with_one_process(plan, by_trainer, kind):
    folder = by_trainer[0] / "trainer" / kind
    lists = jobs.trainer(plan, WORKERS[kind], folder, resume_from=folder / f"checkpoint-{29 + jobs.STEPS}")
    assert lists == harness.slices(plan, 1, 0, 1)[jobs.STEPS :]


def test_trainer_micro_steps_and_weights(plan, tmp_path):
    """gradient_accumulation_steps cuts a batch of the plan; one process."""
    out = jobs.trainer(plan, {}, tmp_path, micro_steps=2, weigh=True)
    for epoch in range(2):
        harness.check_epoch(plan, epoch, [out["fresh"][epoch]], micro_steps=2)


@pytest.mark.parametrize("micro_steps", [1, 2])
def test_trainer_steps_by_weights(plan, tmp_path, micro_steps):
    """One step of SGD is that of mean(w loss) over the plan's batch."""
    import torch

    before, after = jobs.trainer_first_step(plan, tmp_path, micro_steps)
    data, rows = jobs.Rows(plan), plan.epoch(0).batch(0)
    at = torch.as_tensor(rows.astype(np.int64))
    leaves = [p.clone().requires_grad_() for p in before]
    losses = torch.nn.functional.cross_entropy(data.x[at] @ leaves[0].T + leaves[1], data.y[at], reduction="none")
    gradients = torch.autograd.grad((torch.as_tensor(plan.weights_for(rows, 0.0)) * losses).mean(), leaves)
    for a, b, g in zip(before, after, gradients, strict=True):
        assert torch.allclose(a - b, 0.5 * g, atol=1e-6)


def test_trainer_refuses_what_does_not_fit(plan, tmp_path):
    import batchwright as bw
    from torch.utils.data import Subset

    with pytest.raises(bw.ConfigError, match="per_device_train_batch_size=64"):
        jobs.trainer(plan, {}, tmp_path, rows=32)
    with pytest.raises(bw.ConfigError, match="the dataset has 100 rows, but the plan was made from 1797"):
        jobs.trainer(plan, {}, tmp_path, data=Subset(jobs.Rows(plan), range(100)))


@pytest.mark.parametrize("kind", KINDS)
def test_lightning(plan, by_lightning, kind):
    ranks = [one[kind] for one in by_lightning[1]["lightning"]]
    check_matrix(plan, ranks)
    harness.check_epoch(plan, 2, [one["end"] for one in ranks])


def test_lightning_with_its_own_sampler_replacement(plan, by_lightning):
    ranks = by_lightning[1]["lightning_rows"]
    check_matrix(plan, ranks)
    harness.check_epoch(plan, 2, [one["end"] for one in ranks])


@pytest.mark.parametrize("kind", KINDS)
def test_lightning_goes_on_with_one_process(plan, by_lightning, kind):
    folder = by_lightning[0] / "lightning" / kind
    lists = jobs.lightning(plan, WORKERS[kind], folder, resume_from=str(folder / "mid.ckpt"))
    assert lists == harness.slices(plan, 1, 0, 1)[jobs.STEPS :]


def test_lightning_chooses(plan):
    """Sizes change under Lightning, and no epoch is cut short; a loader with a length is refused."""
    import batchwright as bw

    seen, log = jobs.lightning_choice(plan)
    for lists in seen.values():
        assert sorted(row for one in lists for row in one) == list(range(plan.rows))
    assert len(seen) == 12 and {entry["batch_size"] for entry in log} == set(plan.candidates)
    with pytest.raises(bw.ConfigError, match="Unsized"):
        jobs.lightning_choice(plan, sized=True)


def check_gradients(plan, ranks):
    """The gradient is sum(s g) / sum(s), on every rank and for every update, the short one at the end included; batches are grouped as
    the plan says."""
    for one in ranks:
        assert one["worst"] < 1e-6, one["worst"]
        assert one["sizes"] == ranks[0]["sizes"]
    updates = plan.epoch(0).updates()
    ends = np.flatnonzero(updates.ends_update)
    first = [len(sizes) for sizes in ranks[0]["sizes"][: len(ends)]]
    assert first == np.diff([-1, *ends]).tolist()
    assert ranks[0]["sizes"][len(ends) - 1][-1] == 5, "the rest batch is in the last update"


def test_gradients_in_two_processes(plan, by_torch):
    ranks = by_torch[1]["gradients"]
    check_gradients(plan, ranks)
    for one in ranks:
        assert one["waiting"] > 0, "the stream ends within an update"
        # DDP reduces in complete updates only, never for one that waits; the last one was reduced by finish().
        assert one["reductions"] == len(one["sizes"]) - 1


def test_gradients_in_one_process(plan):
    check_gradients(plan, [jobs.gradients(plan)])


def test_gradients_with_accelerate(plan, by_accelerate):
    check_gradients(plan, by_accelerate[1]["accelerate_gradients"])


def test_gradients_with_lightning(plan, by_lightning):
    check_gradients(plan, by_lightning[1]["lightning_gradients"])


def test_loader_choice(plan, by_torch):
    """Two ranks take the same decisions, whatever they decide every row of an epoch comes once; and the log is of this run."""
    ranks = by_torch[1]["choice"]
    assert ranks[0]["sizes"] == ranks[1]["sizes"]
    assert ranks[0]["log"] == ranks[1]["log"] and len(ranks[0]["log"]) >= 35
    for both in zip(*(one["epochs"] for one in ranks), strict=True):
        assert sorted(both[0] + both[1]) == list(range(plan.rows))
    sys.path.insert(0, str(harness.ROOT / "tests" / "oracle"))
    import reference

    policy = reference.LoaderPolicy(len(plan.candidates), plan.seed)
    for entry in ranks[0]["log"]:
        assert entry["candidate"] == policy.choose(), "decisions are those of reference.py"
        policy.update(entry["candidate"], entry["before"], entry["observed"], entry["cost"])
    used = {entry["batch_size"] for entry in ranks[0]["log"]}
    assert used == set(plan.candidates), "each was tried"
    assert all(entry["other_rows"] > 0 for entry in ranks[0]["log"][1:3]), "batches of the old size were on their way"


def test_ranks_that_stand_apart_are_told(by_torch):
    for message in by_torch[1]["misplaced"]:
        assert "different batches" in message
