"""A plan under Accelerate on two processes, with updates by information; planned against shuffled. The rest batch of an epoch is cut
between the processes, and the update that it ends is weighted right.

    torchrun --nproc-per-node 2 examples/accelerate_two_processes.py [DATA.parquet] [--seeds 3] [--epochs 3]

`accelerate launch` does as well where there are GPUs; for CPUs alone it starts one process. A planned batch is worth more than a random
one, so the same rule makes more updates of it: their number is part of the comparison.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import batchwright as bw
from batchwright.accelerate import accumulator, prepare
from batchwright.torch import ParquetRows, PlanBatchSampler, collate, follow

HERE = pathlib.Path(__file__).resolve().parent



def train(accelerator, plan, data, seed, epochs, planned):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    model = accelerator.prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    updates = accumulator(accelerator, plan, model)
    world = accelerator.num_processes
    if planned:
        sampler = PlanBatchSampler(plan, view="micro", world_size=world)
        loader = prepare(accelerator, DataLoader(data, batch_sampler=sampler, collate_fn=collate))
    else:
        subset = torch.utils.data.Subset(data, plan.epoch(0).rows().tolist())
        # Subset hands lists of rows to data.__getitems__, so collate gets whole columns here too.
        loader = accelerator.prepare(DataLoader(subset, batch_size=plan.batch_size // world, shuffle=True, collate_fn=collate))
    held_out = collate(data.__getitems__(plan.holdout()))
    out, count = [], 0
    for epoch in range(epochs):
        loader.set_epoch(seed * epochs + epoch)
        batches = follow(loader) if planned else ((None, batch) for batch in loader)
        for step, batch in batches:
            known = {"step": step} if planned else {"rows": batch["row"].numpy()}
            with updates.batch(**known, progress=epoch / epochs) as part:
                part.backward(cross_entropy(model(batch["embedding"]), batch["label"].long()))
            if part.ends_update:
                optimizer.step()
                optimizer.zero_grad()
                count += 1
        if updates.finish():  # shuffled batches do not say which is the last
            optimizer.step()
            optimizer.zero_grad()
            count += 1
        with torch.no_grad():
            out.append(float(cross_entropy(model(held_out["embedding"]), held_out["label"].long())))
    return out + [count]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path, default=HERE.parent / "fixtures" / "digits.parquet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as folder:
        if accelerator.is_main_process:
            command = [sys.executable, "-m", "batchwright", "plan", options.data, "-o", f"{folder}/plan", "--label", "label"]
            world = ["--world-size", str(accelerator.num_processes)]
            subprocess.run([*command, "--holdout", "0.2", "--batch-size", "64", *world, "-q"], check=True)
        folder = broadcast_object_list([folder])[0]
        plan = bw.Plan.open(f"{folder}/plan")
        data = ParquetRows(plan, options.data)
        accelerator.print(f"{plan.rows_planned} rows, {plan.modalities} modalities, {accelerator.num_processes} processes")
        accelerator.print(f"held-out loss after each epoch, mean +- standard deviation over {options.seeds} seeds\n")
        for name, planned in (("shuffled", False), ("planned", True)):
            results = torch.tensor([train(accelerator, plan, data, seed, options.epochs, planned) for seed in range(options.seeds)])
            *cells, _ = (f"{m:.3f} +- {s:.3f}" for m, s in zip(results.mean(0), results.std(0), strict=True))
            accelerator.print(f"{name:10}" + "".join(f"{cell:>17}" for cell in cells) + f"{results[:, -1].mean():9.1f} updates")
        accelerator.wait_for_everyone()
    # Without it, a process that ends while the other still talks to it may be aborted.
    accelerator.end_training()


if __name__ == "__main__":
    main()
