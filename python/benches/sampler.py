"""What it costs to ask a plan for a batch, to compute an epoch, and to weigh all rows: the figures of docs/performance.md.

    python python/benches/sampler.py --rows 10000000          # needs pyarrow; 30000000 for the weights

Makes a dataset of one numeric column (`--dims` for a vector) with the command, plans it without epochs, and times the sampler beside
torch's, if torch is there. Per batch: the median, so that a busy machine does not count; the rest: best of `--repeat`."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections import deque
from itertools import islice

import numpy as np

import batchwright as bw


def best(repeat, work):
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def median(order, work):
    """Microseconds."""
    times = []
    for i in order:
        begin = time.perf_counter_ns()
        work(i)
        times.append(time.perf_counter_ns() - begin)
    return float(np.median(times)) / 1000


def make(folder, rows, dims, batch):
    data, plan = folder / f"{rows}x{dims}.parquet", folder / f"{rows}x{dims}-{batch}.plan"
    command = [sys.executable, "-m", "batchwright"]
    if not data.exists():
        subprocess.run([*command, "synth", "-o", data, "--rows", str(rows), "--dims", str(dims), "--modalities", "20", "-q"], check=True)
    if not plan.exists():
        flags = ["--epochs", "0", "--batch-size", str(batch), "--progress", "none"]
        subprocess.run([*command, "plan", data, "-o", plan, *flags], check=True, stdout=subprocess.DEVNULL)
    return bw.Plan.open(plan)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dims", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plan", help="time this plan instead of making one")
    parser.add_argument("--folder", type=pathlib.Path, help="keep data and plan here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or pathlib.Path(temporary)
        folder.mkdir(exist_ok=True)
        plan = bw.Plan.open(options.plan) if options.plan else make(folder, options.rows, options.dims, options.batch)
        size, repeat = options.batch, options.repeat
        out = dict(rows=plan.rows, strata=plan.strata, batch=size)
        epoch = plan.epoch(3, size)
        order = np.random.default_rng(0).permutation(len(epoch))[:5000].tolist()
        epoch.rows()  # the members are in memory

        out["batch_us"] = median(order, epoch.batch)
        out["batch_as_list_us"] = median(order, lambda i: epoch.batch(i).tolist())
        out["batch_and_weights_us"] = median(order, lambda i: (epoch.batch(i), epoch.weights(i, 0.3)))
        out["epoch_object_ms"] = 1e3 * best(repeat, lambda: plan.epoch(4, size))
        out["whole_epoch_s"] = best(repeat, lambda: plan.epoch(5, size).rows())
        out["weights_of_all_rows_s"] = best(repeat, lambda: plan.weights(0.25))
        out["numpy_permutation_s"] = best(repeat, lambda: np.random.default_rng(1).permutation(plan.rows))
        try:
            import torch
        except ModuleNotFoundError:
            pass
        else:
            from batchwright.torch import PlanBatchSampler

            sampler = PlanBatchSampler(plan, batch_size=size, epoch=3)
            count = min(5000, len(sampler))

            def weigh():
                for i, _ in enumerate(islice(sampler, count)):
                    sampler.step(i).weights(0.3)

            # A loader lets go of a list once it is used; who keeps them all pays for the memory of the numbers.
            out["torch_sampler_us"] = 1e6 * best(repeat, lambda: deque(islice(sampler, count), maxlen=0)) / count
            out["torch_sampler_kept_us"] = 1e6 * best(repeat, lambda: list(islice(sampler, count))) / count
            out["torch_sampler_and_weights_us"] = 1e6 * best(repeat, weigh) / count
            out["torch_first_list_us"] = 1e6 * best(repeat, lambda: next(iter(PlanBatchSampler(plan, batch_size=size, epoch=3))))
            out["torch_randperm_s"] = best(repeat, lambda: torch.randperm(plan.rows))
            out["torch_randperm_as_list_s"] = best(1, lambda: torch.randperm(plan.rows).tolist())
            weights = torch.from_numpy(plan.weights(0.25))
            try:
                out["torch_weighted_s"] = best(1, lambda: list(torch.utils.data.WeightedRandomSampler(weights, plan.rows)))
            except RuntimeError as refused:
                out["torch_weighted"] = str(refused)
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in out.items()}, indent=1))


if __name__ == "__main__":
    main()
