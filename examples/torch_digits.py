"""All five parts of batchwright in a PyTorch loop, on handwritten digits, and what each of them is worth there.

    python examples/torch_digits.py [DATA.parquet] [--seeds 5] [--epochs 8]

Prints, over several seeds, the loss on held-out rows after one eighth of the training and at its end. Compare rows with the spread: a
difference that is not larger than it is noise, and on clean, small data most are."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

import batchwright as bw
from batchwright.torch import ParquetRows, PlanBatchSampler, collate, follow
from batchwright.training import Accumulator, LoaderChoice, Probe, weighted_mean

HERE = pathlib.Path(__file__).resolve().parent


def make_plan(data: pathlib.Path, out: pathlib.Path) -> bw.Plan:
    """1. Count modalities, find the batch size, deal the batches; a fifth of the rows is held out."""
    command = [sys.executable, "-m", "batchwright", "plan", data, "-o", out, "--label", "label", "--holdout", "0.2", "-q"]
    subprocess.run([*command, "--batch-size", "64", "--candidates", "32,64,128"], check=True)
    return bw.Plan.open(out)


class InMemory(torch.utils.data.Dataset):
    """Small data: all rows as tensors, batches by one indexing each."""

    def __init__(self, rows):
        columns = collate(rows.__getitems__(range(len(rows))))
        self.x, self.y = columns["embedding"], columns["label"].long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]

    def __getitems__(self, rows):
        return self.x[rows], self.y[rows]


def held_out_loss(model, data, plan) -> float:
    rows = torch.as_tensor(plan.holdout().astype("int64"))
    with torch.no_grad():
        return float(cross_entropy(model(data.x[rows]), data.y[rows]))


def train(
    plan, data, seed, epochs, *, planned=True, weights=False, accumulate=False, choose=False, every=1
) -> tuple[float, float]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    # An update of about four batches may step about twice as far as one of a single batch.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2 if accumulate or every > 1 else 0.1, momentum=0.9)
    sampler = PlanBatchSampler(plan, candidates=choose)
    if planned:
        loader = DataLoader(data, batch_sampler=sampler, collate_fn=lambda xy: xy)
    else:
        rows = [row for batch in plan.epoch(0) for row in batch.tolist()]
        batches = BatchSampler(RandomSampler(rows), plan.batch_size, drop_last=False)
        loader = DataLoader(torch.utils.data.Subset(data, rows), batch_sampler=batches, collate_fn=lambda xy: xy)
    updates = Accumulator(plan, model)
    choice = None
    if choose:  # 3. the batch size, by how fast the loss of a fixed set of rows falls
        probe = Probe(plan, data, model, lambda xy: cross_entropy(model(xy[0]), xy[1], reduction="none"), collate=lambda xy: xy)
        choice = LoaderChoice(sampler, probe, epochs=epochs, cost="rows", segment_rows=256)
        choice.begin()
    early = None
    for epoch in range(epochs):
        sampler.set_epoch(seed * epochs + epoch)  # 2. every seed trains on other stratified batches
        for i, (step, (x, y)) in enumerate(follow(loader) if planned else ((None, xy) for xy in loader)):
            losses = cross_entropy(model(x), y, reduction="none")
            if not planned:
                (losses.mean() / every).backward()
                ends_update = (i + 1) % every == 0 or i + 1 == len(loader)
            else:
                progress = min(1.0, (epoch + step.step * step.batch_size / plan.rows_planned) / epochs)
                # 5. rows near the centre of their modality count more at first, those at its edge at the end
                loss = weighted_mean(losses, step.weights(progress)) if weights else losses.mean()
                if accumulate:  # 4. gradients wait until their batches together hold enough information
                    with updates.batch(step, progress=progress) as part:
                        part.backward(loss)
                    ends_update = part.ends_update
                else:
                    loss.backward()
                    ends_update = True
            if ends_update:
                optimizer.step()
                optimizer.zero_grad()
            if choice is not None:
                choice.after(step)
        if early is None and epoch + 1 >= epochs / 8:
            early = held_out_loss(model, data, plan)
    return early, held_out_loss(model, data, plan)


RUNS = {
    "shuffled": {"planned": False},
    "planned batches": {},
    "  + row weights": {"weights": True},
    "  + chosen batch sizes": {"choose": True},
    "shuffled, 4 batches an update": {"planned": False, "every": 4},
    "planned, updates by information": {"accumulate": True},
    "  all of it": {"weights": True, "choose": True, "accumulate": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path, default=HERE.parent / "fixtures" / "digits.parquet")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(options.data, pathlib.Path(folder) / "plan")
        data = InMemory(ParquetRows(plan, options.data, ["embedding", "label"], extra=()))
        print(
            f"{plan.rows_planned} rows to train on, {len(plan.holdout())} held out; {plan.modalities} modalities, {plan.strata} strata, "
            f"batches of {plan.batch_size}\npredicted variance of early gradients, dealt / shuffled: {plan.manifest['gain']['value']:.2f}"
        )
        print(f"held-out loss, mean +- standard deviation over {options.seeds} seeds\n")
        print(f"{'':32}{'after 1/8':>17}{'at the end':>17}")
        for name, settings in RUNS.items():
            results = torch.tensor([train(plan, data, seed, options.epochs, **settings) for seed in range(options.seeds)])
            cells = (f"{mean:.3f} +- {spread:.3f}" for mean, spread in zip(results.mean(0), results.std(0), strict=True))
            print(f"{name:32}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    main()
