"""What `torchrun --nproc-per-node 2` runs for the tests. Every scenario writes what each rank saw to OUT/<scenario>-<rank>.json;
`test_two_processes.py` compares that with the plan. On SIGUSR1, ranks and their workers print where they stand.

    torchrun --nproc-per-node 2 two_processes.py PLAN OUT [SCENARIO...]
"""

import faulthandler
import logging
import os
import pathlib
import signal
import sys
import time
import traceback
import warnings

import torch
import torch.distributed as dist

import batchwright as bw
import harness
import jobs

WORKERS = {"none": {}, "two": {"num_workers": 2}, "persistent": {"num_workers": 2, "persistent_workers": True}}


def each_way(plan, out, run):
    """Runs a framework with every kind of workers: `run(plan, workers, folder)` gives lists by name."""
    return {name: run(plan, workers, out / name) for name, workers in WORKERS.items()}


SCENARIOS = {
    "gradients": jobs.gradients,
    "choice": jobs.loader_choice,
    "misplaced": jobs.misplaced,
    "accelerate": lambda plan, out: each_way(plan, out, jobs.accelerate),
    "accelerate_skip": jobs.accelerate_skip,
    "accelerate_gradients": jobs.accelerate_gradients,
    "trainer": lambda plan, out: each_way(plan, out, jobs.trainer),
    "lightning": lambda plan, out: each_way(plan, out, jobs.lightning),
    "lightning_rows": jobs.lightning_rows,
    "lightning_gradients": jobs.lightning_gradients,
    "sentences_killed": jobs.sentences_killed,
    "sentences_resumed": jobs.sentences_resumed,
    "sentences_bare": jobs.sentences_bare,
    "masked": jobs.masked,
}


def main(plan_path, out, *names):
    faulthandler.register(signal.SIGUSR1)
    out = pathlib.Path(out)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    plan = bw.Plan.open(plan_path)
    for name in names or SCENARIOS:
        began = time.perf_counter()
        harness.save(out / f"{name}-{rank}.json", SCENARIOS[name](plan, out / name))
        dist.barrier()
        if rank == 0:
            print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    code = 1
    try:
        main(*sys.argv[1:])
        code = 0
    except BaseException:
        traceback.print_exc()
    # Loaders with persistent workers may still hold them, and a collective may wait for the other rank: leave without waiting for every
    # destructor.
    sys.stderr.flush()
    os._exit(code)
