"""Small trainings in each framework that note which rows they were given. They run on two processes (`two_processes.py`) and on one."""

import os
import pathlib
import signal

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import batchwright as bw
import harness
from batchwright.torch import ParquetRows, PlanBatchSampler, PlanSampler, follow
from batchwright.training import Accumulator, LoaderChoice, Probe, weighted_mean

STEPS = 5  # steps of epoch 1 before a restart in mid-epoch


def world():
    return (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)


class Rows(torch.utils.data.Dataset):
    """What ParquetRows gives, already in memory: files are tested elsewhere."""

    def __init__(self, plan, double=False):
        every = ParquetRows(plan, harness.DIGITS).__getitems__(range(plan.rows)).columns
        self.x = torch.from_numpy(every["embedding"])
        self.y = torch.from_numpy(every["label"]).long()
        if double:
            self.x = self.x.double()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return {"x": self.x[row], "labels": self.y[row], "row": row}


def linear(double=False):
    torch.manual_seed(0)
    return torch.nn.Linear(64, 10, dtype=torch.float64 if double else torch.float32)


# ------------------------------------------------------------------------------------------------------------------ torch alone


def reference_update(model, data, groups, plan, progress, score):
    """sum(s g) / sum(s) of whole batches, one after another in one process."""
    total, gradient = 0.0, [torch.zeros_like(p) for p in model.parameters()]
    for rows in groups:
        n_eff, _ = score.n_eff(plan.histogram(rows), progress)
        s = min(n_eff, 4 * len(rows))
        w = torch.as_tensor(plan.weights_for(rows, progress), dtype=data.x.dtype)
        at = torch.as_tensor(rows.astype(np.int64))
        loss = (w * cross_entropy(model(data.x[at]), data.y[at], reduction="none")).mean()
        for sum_, g in zip(gradient, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            sum_ += s * g
        total += s
    return [g / total for g in gradient]


def gradients(plan, out=None, wrap=None, micro_steps=2, make=None, loader_of=None, epochs=2):
    """Updates of two epochs of a plan, then of a stream that is not planned: the largest relative difference to sum(s g) / sum(s), the
    rows of every update, and how often gradients were reduced."""
    ranks, rank = world()
    data = Rows(plan, double=True)
    model = linear(double=True)
    if wrap is None:
        wrap = torch.nn.parallel.DistributedDataParallel if ranks > 1 else (lambda m: m)
    wrapped = wrap(model)
    reductions = []
    if hasattr(wrapped, "register_comm_hook"):
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        wrapped.register_comm_hook(None, lambda state, bucket: (reductions.append(1), allreduce_hook(state, bucket))[1])
    updates = make(wrapped) if make else Accumulator(plan, wrapped)
    score, worst, sizes = plan.score(), 0.0, []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def compare(groups, progress):
        nonlocal worst
        expected = reference_update(model, data, groups, plan, progress, score)
        for p, g in zip(model.parameters(), expected, strict=True):
            worst = max(worst, float((p.grad - g).norm() / g.norm()))
        sizes.append([len(g) for g in groups])
        optimizer.step()
        optimizer.zero_grad()

    sampler = PlanBatchSampler(plan, view="micro" if loader_of else "rank", micro_steps=micro_steps)
    loader = DataLoader(data, batch_sampler=sampler)
    if loader_of:
        loader = loader_of(loader)
    for epoch in range(epochs):
        (loader if loader_of else sampler).set_epoch(epoch)
        groups, progress = [], 0.3 * epoch
        for step, batch in follow(loader):
            assert batch["row"].tolist() == step.rows.tolist()
            if step.micro_step == 0:
                groups.append(step.batch)
            with updates.batch(step, progress=progress) as part:
                losses = cross_entropy(wrapped(batch["x"]), batch["labels"], reduction="none")
                part.backward(weighted_mean(losses, step.weights(progress)))
            if part.ends_update:
                compare(groups, progress)
                groups = []
        assert not groups and not updates.core.pending
    planned = len(sizes)

    # Batches drawn anyhow, each rank its own and not equally many; the stream does not know its end.
    rng = np.random.default_rng(5)
    groups = []
    for _ in range(23):
        each = [rng.choice(plan.rows, size=rng.integers(20, 40), replace=False) for _ in range(ranks)]
        rows = each[rank]
        groups.append(np.concatenate(each))
        with updates.batch(rows=rows) as part:
            losses = cross_entropy(wrapped(data.x[rows]), data.y[rows], reduction="none")
            part.backward(weighted_mean(losses, plan.weights_for(rows, 0.0)))
        if part.ends_update:
            compare(groups, 0.0)
            groups = []
    waiting = len(groups)
    if updates.finish():
        compare(groups, 0.0)
    return {"worst": worst, "sizes": sizes, "planned": planned, "waiting": waiting, "reductions": len(reductions)}


def loader_choice(plan, out=None, workers=2):
    """A run that chooses its batch sizes: rows of every epoch, sizes, the log."""
    ranks, rank = world()
    data, model = Rows(plan), linear()
    wrapped = torch.nn.parallel.DistributedDataParallel(model) if ranks > 1 else model
    sampler = PlanBatchSampler(plan, candidates=True)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=workers)
    probe = Probe(plan, data, model, lambda b: cross_entropy(model(b["x"]), b["labels"], reduction="none"), size=256)
    choice = LoaderChoice(sampler, probe, epochs=12, cost="rows", segment_rows=512)
    choice.begin()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    epochs, sizes = [], []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        rows = []
        for step, batch in follow(loader):
            optimizer.zero_grad()
            (step.scale * cross_entropy(wrapped(batch["x"]), batch["labels"])).backward()
            optimizer.step()
            choice.after(step)
            rows += batch["row"].tolist()
            sizes.append(step.n)
        epochs.append(rows)
    return {"epochs": epochs, "sizes": sizes, "log": choice.log}


def misplaced(plan, out=None):
    """Ranks that do not stand at the same batch are told so, all of them."""
    _, rank = world()
    sampler = PlanBatchSampler(plan, candidates=True)
    choice = LoaderChoice(sampler, lambda: 1.0, epochs=12, cost="rows", segment_rows=512)
    it = iter(sampler)
    for _ in range(1 + rank):
        next(it)
    try:
        choice.begin()
    except bw.ConfigError as error:
        return str(error)


# ------------------------------------------------------------------------------------------------------------------- Accelerate


def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


def _accelerate_loader(plan, workers, acc):
    from batchwright.accelerate import prepare

    sampler = PlanBatchSampler(plan, view="micro", world_size=acc.num_processes)
    return sampler, prepare(acc, DataLoader(Rows(plan), batch_sampler=sampler, **workers))


def accelerate(plan, workers, folder, resume_from=None):
    """Epochs 0 and 1; a restart in epoch 1; one at its end. With `resume_from`: only what follows that state."""
    acc = accelerator()
    if resume_from is not None:
        sampler, loader = _accelerate_loader(plan, workers, acc)
        sampler.resume(resume_from)
        loader.set_epoch(sampler.epoch)
        return [batch["row"].tolist() for batch in loader]
    sampler, loader = _accelerate_loader(plan, workers, acc)
    out = {"fresh": [], "states": {}}
    for epoch in range(2):
        loader.set_epoch(epoch)
        lists = []
        for step, batch in follow(loader):
            lists.append(batch["row"].tolist())
            if epoch == 1 and step.step + 1 == STEPS:
                out["states"]["mid"] = step.state()
        out["fresh"].append(lists)
    out["states"]["end"] = step.state()
    for name, state in out["states"].items():
        out[name] = accelerate(plan, workers, folder, state)
    return out


def accelerate_skip(plan, folder):
    """Accelerate's own way to resume, which does not set the epoch."""
    from accelerate import skip_first_batches

    sampler, loader = _accelerate_loader(plan, {}, accelerator())
    sampler.set_epoch(1)
    lists = []
    for step, batch in follow(skip_first_batches(loader, STEPS)):
        assert batch["row"].tolist() == step.rows.tolist()
        lists.append(batch["row"].tolist())
    return lists


def accelerate_gradients(plan, folder=None):
    from batchwright.accelerate import accumulator

    acc = accelerator()
    return gradients(
        plan,
        wrap=acc.prepare,
        make=lambda model: accumulator(acc, plan, model),
        loader_of=acc.prepare,
    )


# ---------------------------------------------------------------------------------------------------------------------- Trainer


class Classifier(torch.nn.Module):
    """A model for the Trainer."""

    def __init__(self):
        super().__init__()
        self.linear = linear()

    def forward(self, x, labels=None, row=None):
        logits = self.linear(x)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}


def trainer(plan, workers, folder, resume_from=None, micro_steps=1, weigh=False, rows=None, data=None):
    """29 steps an epoch; checkpoints at the end of epoch 0 and in epoch 1."""
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    from batchwright.transformers import PlanTrainerMixin

    class PlanTrainer(PlanTrainerMixin, Trainer):
        def training_step(self, model, inputs, *args):
            seen.append(inputs["row"].tolist())
            return super().training_step(model, inputs, *args)

    class SaveAt(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_save = state.global_step in (29, 29 + STEPS)

    ranks, _ = world()
    seen = []

    def run(checkpoint=None):
        seen.clear()
        arguments = TrainingArguments(
            output_dir=str(folder),
            use_cpu=True,
            num_train_epochs=2,
            per_device_train_batch_size=rows or plan.batch_size // ranks // micro_steps,
            gradient_accumulation_steps=micro_steps,
            learning_rate=0.1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_num_workers=workers.get("num_workers", 0),
            dataloader_persistent_workers=workers.get("persistent_workers", False),
            dataloader_pin_memory=False,
            logging_strategy="no",
        )
        t = PlanTrainer(
            model=Classifier(), args=arguments, train_dataset=data or Rows(plan), plan=plan, weigh=weigh, callbacks=[] if checkpoint else [SaveAt()]
        )
        t.remove_callback(PrinterCallback)
        t.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return list(seen)

    if resume_from:
        return run(resume_from)
    fresh, cut = run(), 29 * micro_steps
    out = {"fresh": [fresh[:cut], fresh[cut:]]}
    if dist.is_initialized():
        dist.barrier()
    if micro_steps == 1:
        out["end"] = run(pathlib.Path(folder) / "checkpoint-29")
        out["mid"] = run(pathlib.Path(folder) / f"checkpoint-{29 + STEPS}")
    return out


# -------------------------------------------------------------------------------------------------------- Sentence Transformers

WORDS = 97


def sentences(plan, columns=("anchor", "positive")):
    """A text dataset of the plan's rows whose labels are the rows."""
    from datasets import Dataset

    text = lambda row, i: f"w{row % WORDS} w{(row // WORDS + 7 * i) % WORDS}"  # noqa: E731
    return Dataset.from_dict({**{name: [text(row, i) for row in range(plan.rows)] for i, name in enumerate(columns)}, "label": list(range(plan.rows))})


def encoder(folder):
    """A BERT of one layer from a config, with a vocabulary of its own: nothing is downloaded."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = pathlib.Path(folder)
    if not world()[1]:  # the library lets the first process write
        folder.mkdir(parents=True, exist_ok=True)
        words = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(WORDS))]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
        torch.manual_seed(0)
        shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}
        BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)
    if dist.is_initialized():
        dist.barrier()
    transformer = Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension())], device="cpu")


def sentence_trainer(plan, folder, *, dataset=None, batches=None, callbacks=None, seen=None, loss=None, rows=None, eval_dataset=None, **arguments):
    """A Trainer of Sentence Transformers that appends (epoch, rows) of every step to `seen`."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers.trainer_callback import PrinterCallback

    from batchwright.sentence_transformers import plan_batches

    class Trainer(SentenceTransformerTrainer):
        def training_step(self, model, inputs, *args):
            if seen is not None:
                seen.append((int(self.state.epoch), inputs["label"].tolist()))
            return super().training_step(model, inputs, *args)

    ranks, _ = world()
    batches = batches or plan_batches(plan, drop_last=False)
    args = SentenceTransformerTrainingArguments(
        **{
            "output_dir": str(folder),
            "use_cpu": True,
            "num_train_epochs": 2,
            "per_device_train_batch_size": rows or plan.batch_size // ranks,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "batch_sampler": batches,
            **arguments,
        }
    )
    model = encoder(f"{folder}-model")
    trainer = Trainer(
        model=model, args=args, train_dataset=dataset or sentences(plan), eval_dataset=eval_dataset, loss=(loss or MultipleNegativesRankingLoss)(model),
        callbacks=[batches.callback] if callbacks is None else callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


SAVED, KILLED = 29 + STEPS, 29 + STEPS + 3
"""Steps of two epochs of 29: when the run on two ranks is saved, and when it is killed."""


def sentences_killed(plan, out):
    """Dies in the middle of epoch 1. What was trained on is on disk before."""
    from transformers import TrainerCallback

    seen, (_, rank) = [], world()

    class SaveAndDie(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            harness.save(out.parent / f"before-{rank}.json", seen)
            control.should_save = state.global_step == SAVED
            if state.global_step == KILLED:
                dist.barrier()
                os.kill(os.getpid(), signal.SIGKILL)

    trainer = sentence_trainer(plan, out.parent / "sentences", seen=seen)
    trainer.add_callback(SaveAndDie())
    trainer.train()


def sentences_resumed(plan, out):
    seen = []
    trainer = sentence_trainer(plan, out.parent / "sentences", seen=seen)
    trainer.train(resume_from_checkpoint=str(out.parent / "sentences" / f"checkpoint-{SAVED}"))
    return seen


def sentences_bare(plan, out):
    """Without the callback, and with lists of several datasets: what is said."""
    from batchwright.sentence_transformers import plan_batches

    other = bw.Plan.open(harness.make_plan(out.parent / f"other-{world()[1]}", "--batch-size", "64", data=harness.ROOT / "fixtures" / "packages-2k.parquet"))
    said = []
    for more in ({"callbacks": []}, {"batches": plan_batches({"a": plan, "b": other})}):
        try:
            sentence_trainer(plan, out, **more).train()
        except bw.ConfigError as error:
            said.append(str(error))
    return said


def masked(plan, out=None):
    """This rank's loss with groups gathered, and how its gradient with respect to its own embeddings sums up."""
    from batchwright.sentence_transformers import MaskedMultipleNegativesRankingLoss

    ranks, rank = world()
    embeddings, groups = masked_batch()
    n = len(groups) // ranks
    mine = [x[rank * n : (rank + 1) * n].clone().requires_grad_() for x in embeddings]
    loss = MaskedMultipleNegativesRankingLoss(torch.nn.Identity(), gather_across_devices=True)
    value = loss.compute_loss_from_embeddings(mine, groups[rank * n : (rank + 1) * n])
    value.backward()
    uneven = None
    try:
        loss.compute_loss_from_embeddings([x[: n - rank] for x in mine], groups[: n - rank])
    except bw.ConfigError as error:
        uneven = str(error)
    return {"loss": value.item(), "gradient": [x.grad.norm().item() for x in mine], "uneven": uneven}


def masked_batch(n=12):
    """Queries, documents, hard negatives, and groups of which some are shared."""
    torch.manual_seed(3)
    return [torch.randn(n, 5, dtype=torch.float64) for _ in range(3)], torch.tensor([4, -1, 4, -1, 7, 8, 8, 8, -1, 7, 30, 31][:n])


# -------------------------------------------------------------------------------------------------------------------- Lightning


def lightning_module(base):
    class Module(base):
        def __init__(self):
            super().__init__()
            self.linear = linear()
            self.seen = {}
            self.progress = []

        def training_step(self, batch, i):
            self.seen.setdefault(self.current_epoch, []).append(batch["row"].tolist())
            assert self.plan_step.rows.tolist() == batch["row"].tolist(), "the callback follows"
            self.progress.append(self.plan_progress)
            return self.plan_step.scale * cross_entropy(self.linear(batch["x"]), batch["labels"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Module()


def lightning(plan, workers, folder, resume_from=None, flat=False, epochs=2):
    """A StatefulDataLoader, whose state is in Lightning's checkpoints: epochs 0 and 1, restarts in epoch 1 and at its end."""
    import lightning.pytorch as pl
    from torchdata.stateful_dataloader import StatefulDataLoader

    from batchwright.lightning import PlanCallback

    ranks, rank = world()

    class SaveAt(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, i):
            if trainer.current_epoch == 1 and i + 1 == STEPS:
                trainer.save_checkpoint(f"{folder}/mid.ckpt")

        def on_train_end(self, trainer, module):
            trainer.save_checkpoint(f"{folder}/end.ckpt")

    def run(epochs, checkpoint=None):
        if flat:
            sampler = PlanSampler(plan, ranks, rank)
            loader = StatefulDataLoader(Rows(plan), sampler=sampler, batch_size=sampler.batch_size, **workers)
        else:
            sampler = PlanBatchSampler(plan, rank=rank, world_size=ranks)
            loader = StatefulDataLoader(Rows(plan), batch_sampler=sampler, **workers)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=ranks,
            strategy="ddp" if ranks > 1 else "auto",
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=flat,
            callbacks=[PlanCallback(), *([SaveAt()] if checkpoint is None else [])],
        )
        module = lightning_module(pl.LightningModule)
        trainer.fit(module, loader, ckpt_path=checkpoint, **({"weights_only": False} if checkpoint else {}))
        assert module.progress == sorted(module.progress) and max(module.progress) < 1
        return module.seen

    if resume_from:
        return run(2, resume_from)[1]
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    seen = run(2)
    out = {"fresh": [seen[0], seen[1]]}
    if dist.is_initialized():
        dist.barrier()
    out["mid"] = run(2, f"{folder}/mid.ckpt")[1]
    out["end"] = run(3, f"{folder}/end.ckpt")[2]
    return out


def lightning_rows(plan, folder):
    """The flat sampler, with Lightning's own sampler replacement left on."""
    return lightning(plan, {}, folder, flat=True)


def lightning_gradients(plan, folder=None):
    """Manual optimization: updates of several batches, compared with sum(s g) / sum(s)."""
    import lightning.pytorch as pl

    from batchwright.lightning import PlanCallback, accumulator

    ranks, rank = world()
    data = Rows(plan, double=True)
    score = plan.score()

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.linear = linear(double=True)
            self.worst, self.groups, self.sizes = 0.0, [], []

        def on_train_start(self):
            self.updates = accumulator(self, plan)

        def training_step(self, batch, i):
            step = self.plan_step
            self.groups.append(step.batch)
            with self.updates.batch(step) as part:
                part.backward(weighted_mean(cross_entropy(self.linear(batch["x"]), batch["labels"], reduction="none"), step.weights(0.0)))
            if part.ends_update:
                expected = reference_update(self.linear, data, self.groups, plan, 0.0, score)
                for p, g in zip(self.linear.parameters(), expected, strict=True):
                    self.worst = max(self.worst, float((p.grad - g).norm() / g.norm()))
                self.sizes.append([len(g) for g in self.groups])
                self.groups = []
                self.optimizers().step()
                self.optimizers().zero_grad()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    module = Module()
    pl.Trainer(
        accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, callbacks=[PlanCallback()],
    ).fit(module, DataLoader(data, batch_sampler=PlanBatchSampler(plan, rank=rank, world_size=ranks)))
    return {"worst": module.worst, "sizes": module.sizes}


def lightning_choice(plan, sized=False, epochs=12):
    """A LoaderChoice under Lightning: rows of every epoch, the log."""
    import lightning.pytorch as pl

    from batchwright.lightning import PlanCallback, Unsized

    data = Rows(plan)
    sampler = PlanBatchSampler(plan, candidates=True)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=2)

    def make(module):
        probe = Probe(plan, data, module, lambda b: cross_entropy(module.linear(b["x"]), b["labels"], reduction="none"), size=256)
        return LoaderChoice(sampler, probe, epochs=epochs, cost="rows", segment_rows=512)

    callback, module = PlanCallback(choice=make), lightning_module(pl.LightningModule)
    pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback],
    ).fit(module, loader if sized else Unsized(loader))
    return module.seen, callback.choice.log


def trainer_first_step(plan, folder, micro_steps):
    """Parameters before and after one step of SGD by a Trainer with row weights."""
    from transformers import Trainer, TrainingArguments

    from batchwright.transformers import PlanTrainerMixin

    class PlanTrainer(PlanTrainerMixin, Trainer):
        pass

    model = Classifier()
    before = [p.detach().clone() for p in model.linear.parameters()]
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=True, max_steps=1, optim="sgd", learning_rate=0.5, lr_scheduler_type="constant", max_grad_norm=0,
        per_device_train_batch_size=plan.batch_size // micro_steps, gradient_accumulation_steps=micro_steps, save_strategy="no",
        report_to=[], disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False, logging_strategy="no",
    )
    PlanTrainer(model=model, args=arguments, train_dataset=Rows(plan), plan=plan, weigh=True).train()
    return before, [p.detach() for p in model.linear.parameters()]
