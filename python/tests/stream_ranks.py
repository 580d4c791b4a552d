"""A rank of test_stream_processes.py: trains with gloo, notes the rows of every step, and saves the state after it.

python stream_ranks.py PLAN DATA FOLDER RANK WORLD_SIZE RUN [STATE]"""

import json
import pathlib
import sys
import time

import torch
from torch.utils.data import DataLoader

import batchwright as bw
from batchwright.torch import StreamDataset, follow

plan_path, data, folder, rank, world_size, run, *saved = sys.argv[1:]
folder = pathlib.Path(folder)
torch.distributed.init_process_group("gloo", f"file://{folder}/store-{run}", rank=int(rank), world_size=int(world_size))
dataset = StreamDataset(bw.Plan.open(plan_path), data, ["embedding", "label"])
if saved:
    dataset.resume(json.loads(pathlib.Path(saved[0]).read_text()))
model = torch.nn.Linear(64, 10)
for epoch in range(dataset.epoch, 2):
    dataset.set_epoch(epoch)
    for step, batch in follow(DataLoader(dataset, batch_size=None)):
        losses = torch.nn.functional.cross_entropy(model(batch["embedding"]), batch["label"].long(), reduction="none")
        (step.scale * losses.mean()).backward()
        for parameter in model.parameters():
            torch.distributed.all_reduce(parameter.grad)
            parameter.data -= 0.1 / int(world_size) * parameter.grad
            parameter.grad = None
        with open(folder / f"rows-{run}-{rank}", "a") as log:
            print(json.dumps([step.epoch, step.step, batch["row"].tolist(), step.state()]), file=log)
        if run == "first":
            time.sleep(0.02)
torch.distributed.destroy_process_group()
