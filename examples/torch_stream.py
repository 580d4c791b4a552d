"""Train from Parquet at the speed of the disk, in one process: the batches of a local plan through torch's DataLoader.

    python examples/torch_stream.py [DATA.parquet ...] [--epochs 4] [--batch-size 64] [--threads 2]

Every batch is stratified, every row comes once an epoch, and every row group is decoded about once. Whatever has a vector column
`embedding` and an integer column `label` will do; the files are read as they are, and may be larger than the memory."""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import batchwright as bw
from batchwright.torch import StreamDataset

HERE = pathlib.Path(__file__).resolve().parent


def make_plan(data, out, batch_size):
    command = [sys.executable, "-m", "batchwright", "plan", *data, "-o", out, "--features", "embedding", "--label", "label"]
    # --read: what training reads decides how much is decoded at a time.
    flags = ["--batch-size", str(batch_size), "--locality", "local", "--read", "embedding,label", "-q"]
    subprocess.run([*command, *flags], check=True)
    return bw.Plan.open(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", type=pathlib.Path, default=[HERE.parent / "fixtures" / "digits.parquet"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10, help="labels are 0 to this less one")
    parser.add_argument("--threads", type=int, help="that decode [default: all]")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(options.data, pathlib.Path(folder) / "plan", options.batch_size)
        # The batches are made here: no batch_size, and no workers but one, since the decoding has threads of its own.
        dataset = StreamDataset(plan, options.data, columns=["embedding", "label"], epochs=options.epochs, threads=options.threads)
        loader = DataLoader(dataset, batch_size=None)
        model = torch.nn.Sequential(torch.nn.Linear(plan.dims, 64), torch.nn.ReLU(), torch.nn.Linear(64, options.classes))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        rows, losses, start = 0, [], time.perf_counter()
        for batch in loader:  # one stream of all epochs: the next is read while one ends
            loss = cross_entropy(model(batch["embedding"]), batch["label"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows += len(batch["label"])
            losses.append(loss.item())
            if rows % plan.rows_planned == 0:
                rate = rows / (time.perf_counter() - start)
                print(f"epoch {rows // plan.rows_planned}: loss {sum(losses) / len(losses):.3f}, {rate:.0f} rows/s with the training")
                losses = []


if __name__ == "__main__":
    main()
