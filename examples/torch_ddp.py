"""Batches of a local plan on several ranks, interrupted and resumed on another number of them.

    torchrun --nproc-per-node 2 examples/torch_ddp.py --folder run --stop-after 20
    torchrun --nproc-per-node 1 examples/torch_ddp.py --folder run                  # goes on at step 20
    torchrun --nproc-per-node 2 examples/torch_ddp.py --folder run [DATA.parquet]   # nothing is left: says so

Each rank decodes its own part of the data and holds its own part of every batch, on as many ranks as divide the streams of the plan
(`batchwright inspect plan`). The state of a stream is a number of steps of the plan, so it fits all of them. At its end the run proves
that each row came once in every epoch, whatever ranks there were."""

import argparse
import os
import pathlib
import subprocess
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import batchwright as bw

HERE = pathlib.Path(__file__).resolve().parent


def open_plan(data, out, batch_size):
    """Rank 0 makes it, if it is not there."""
    if dist.get_rank() == 0 and not out.exists():
        command = [sys.executable, "-m", "batchwright", "plan", data, "-o", out, "--features", "embedding", "--label", "label"]
        subprocess.run([*command, "--batch-size", str(batch_size), "--locality", "local", "-q"], check=True)
    dist.barrier()
    return bw.Plan.open(out)


def save(path, **what):
    """Whole or not at all: a run may be killed here too."""
    torch.save(what, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path, default=HERE.parent / "fixtures" / "digits.parquet")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("torch_ddp"), help="of the plan and the checkpoint")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="rows of a step over all ranks")
    parser.add_argument("--stop-after", type=int, help="steps of this launch")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    options.folder.mkdir(exist_ok=True)
    plan = open_plan(options.data, options.folder / "plan", options.batch_size)

    torch.manual_seed(0)
    model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = plan.stream(options.data, columns=["embedding", "label"], rank=rank, world_size=world, epochs=options.epochs)
    seen, step, checkpoint = torch.zeros(plan.rows, dtype=torch.int64), 0, options.folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        batches.load_state_dict(saved["stream"])  # before the first batch
        step, seen = saved["step"], saved["seen"] if rank == 0 else seen
        if rank == 0:
            print(f"goes on at step {step} on {world} rank(s)")

    done = 0
    for batch in batches:
        rows = torch.tensor(len(batch["label"]))
        dist.all_reduce(rows)  # of all ranks: the last batch of an epoch is shorter, and not equal on all
        losses = cross_entropy(model(torch.from_numpy(batch["embedding"])), torch.from_numpy(batch["label"]).long(), reduction="sum")
        optimizer.zero_grad()
        (losses * world / rows).backward()  # DDP takes the mean over ranks
        optimizer.step()
        seen += torch.from_numpy(np.bincount(batch["row"], minlength=plan.rows))
        step, done = step + 1, done + 1
        if done == options.stop_after:
            break

    dist.reduce(seen, 0)
    if rank == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save(checkpoint, stream=batches.state_dict(), step=step, seen=seen, **state)
        times = np.unique(seen.numpy(), return_counts=True)
        print(f"{done} steps on {world} rank(s), {step} in all: " + ", ".join(f"{n} rows {k} times" for k, n in zip(*times, strict=True)))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
