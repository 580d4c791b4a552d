"""A local plan as a Hugging Face dataset: what takes a `datasets.IterableDataset` gets stratified batches, shuffled anew every epoch.

    python examples/huggingface.py [DATA.parquet] [--epochs 3]

Prints, for the first batches, how far their labels are from the share that each label has in all rows: of the plan's batches, and of
those that `datasets` makes with a shuffle buffer."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import datasets
import numpy as np

import batchwright as bw
from batchwright.hf import iterable

HERE = pathlib.Path(__file__).resolve().parent


def make_plan(data, out):
    command = [sys.executable, "-m", "batchwright", "plan", data, "-o", out, "--features", "embedding", "--label", "label"]
    # Strata are the labels here, so that the comparison is one of labels.
    subprocess.run([*command, "--stratify-by", "label", "--batch-size", "64", "--locality", "local", "-q"], check=True)
    return bw.Plan.open(out)


def distance(batches, share, size):
    """Mean over full batches of the largest miss of a label, in rows."""
    missed = []
    for batch in batches:
        labels = np.asarray(batch["label"])
        if len(labels) == size:
            missed.append(np.abs(np.bincount(labels, minlength=len(share)) - size * share).max())
    return len(missed), float(np.mean(missed))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path, default=HERE.parent / "fixtures" / "digits.parquet")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(options.data, pathlib.Path(folder) / "plan")
        planned = iterable(plan, options.data, columns=["embedding", "label"])
        buffered = datasets.load_dataset("parquet", data_files=str(options.data), split="train", streaming=True, cache_dir=folder)
        buffered = buffered.shuffle(seed=0, buffer_size=500)
        labels = np.concatenate([batch["label"] for batch in buffered.with_format("numpy").iter(1000)])
        share = np.bincount(labels) / len(labels)
        for name, rows in (("plan", planned), ("buffer", buffered)):
            for epoch in range(options.epochs):
                rows.set_epoch(epoch)  # as the Trainer does
                batches = rows.with_format("numpy").iter(plan.batch_size)
                count, missed = distance(batches, share, plan.batch_size)
                print(f"{name:8}epoch {epoch}: {count} batches, a label misses its share by {missed:.1f} rows of {plan.batch_size}")


if __name__ == "__main__":
    main()
