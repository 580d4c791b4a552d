"""The rows that are read, and the forms in which they are stored: Parquet files, and the copies that other libraries want.

Row i has `embedding` (256 x f32, of one of 50 clusters), `label` (int64, 0 to 9) and `text`, which begins with i in ten digits, so that
whoever reads a batch knows which rows it holds. Clusters come in random order: neighbours are no more alike than others."""

import pathlib
import shutil

import numpy as np

DIMS = 256
COLUMNS = ["embedding", "label", "text"]
GROUP = 16_384  # rows of a row group, and of what is made at a time
DIGITS = 10

PARQUET = {
    "plain": {"compression": "none"},
    "zstd": {"compression": "zstd"},
    "one-group": {"compression": "none", "row_group_size": 1 << 20},
}


def tables(rows):
    """The rows, `GROUP` at a time."""
    import pyarrow as pa

    centres = np.random.default_rng(0).normal(0, 1.5, (50, DIMS)).astype("f4")
    share = 1 / np.arange(1, 51)
    words = "the quick brown fox jumps over a lazy dog while packing five dozen liquor jugs and " * 4
    for first in range(0, rows, GROUP):
        n, random = min(GROUP, rows - first), np.random.default_rng([1, first])
        cluster = random.choice(50, n, p=share / share.sum())
        points = centres[cluster] + random.standard_normal((n, DIMS), "f4")
        begin, length = random.integers(0, 80, n).tolist(), random.integers(20, 200, n).tolist()
        texts = [f"{first + i:0{DIGITS}} {words[b : b + k]}" for i, (b, k) in enumerate(zip(begin, length, strict=True))]
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), DIMS)
        yield pa.table({"embedding": embedding, "label": pa.array(cluster % 10, pa.int64()), "text": texts})


def write_parquet(path, rows, row_group_size=GROUP, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, held = None, []
    for table in tables(rows):
        writer = writer or pq.ParquetWriter(path, table.schema, use_dictionary=["label"], **options)
        held.append(table)
        if len(held) * GROUP == row_group_size:
            writer.write_table(pa.concat_tables(held), row_group_size)
            held = []
    if held:
        writer.write_table(pa.concat_tables(held), row_group_size)
    writer.close()


def stored(folder):
    """The rows of the plain Parquet file, a row group at a time."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(folder / "plain.parquet").iter_batches(GROUP)


def vectors(batch):
    """The embeddings of Arrow rows as a matrix, without a copy."""
    return batch.column("embedding").flatten().to_numpy().reshape(-1, DIMS)


def samples(batch, label=int):
    """Row by row, for libraries that store samples."""
    x, y, texts = vectors(batch), batch.column("label").to_numpy(), batch.column("text").to_pylist()
    for i, text in enumerate(texts):
        yield {"embedding": x[i], "label": label(y[i]), "text": text}


def write_numpy(folder, out):
    """Arrays to map into memory: the vectors and labels, texts as offsets and bytes."""
    import pyarrow as pa

    out.mkdir()
    labels, lengths = [], []
    with open(out / "embedding.f32", "wb") as points, open(out / "text.utf8", "wb") as texts:
        for batch in stored(folder):
            vectors(batch).tofile(points)
            labels.append(batch.column("label").to_numpy())
            text = pa.concat_arrays([batch.column("text")])
            offsets = np.frombuffer(text.buffers()[1], "i4", len(text) + 1)
            lengths.append(np.diff(offsets))
            texts.write(memoryview(text.buffers()[2])[offsets[0] : offsets[-1]])
    np.concatenate(labels).tofile(out / "label.i64")
    np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype="i8")]).tofile(out / "text.i64")


def write_hf(folder, out):
    import datasets

    datasets.disable_progress_bars()
    source = str(folder / "plain.parquet")
    rows = datasets.load_dataset("parquet", data_files=source, split="train", cache_dir=str(folder / "hf.cache"))
    # Streams are mixed from several files.
    rows.save_to_disk(out, num_shards=max(8, len(rows) // 25_000))
    shutil.rmtree(folder / "hf.cache")


def write_lance(folder, out):
    import lance
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(folder / "plain.parquet")
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, stored(folder)), out)


def litdata_arrays(path):
    yield from (row for batch in stored(pathlib.Path(path)) for row in samples(batch))


def litdata_bytes(path):
    yield from ({**row, "embedding": row["embedding"].tobytes()} for row in litdata_arrays(path))


def write_litdata(folder, out, rows=litdata_bytes):
    """Rows of bytes, numbers and text are stored as Arrow, which is faster to read in order or in blocks; arrays are faster in any other."""
    import litdata

    litdata.optimize(rows, [str(folder)], str(out), chunk_bytes="64MB", num_workers=1, verbose=False)


def write_litdata_arrays(folder, out):
    write_litdata(folder, out, litdata_arrays)


def write_litdata_parquet(folder, out):
    """The plain file with litdata's index beside it."""
    import litdata

    out.mkdir()
    (out / "rows.parquet").hardlink_to(folder / "plain.parquet")
    litdata.index_parquet_dataset(str(out))


def write_mds(folder, out):
    from streaming import MDSWriter

    kinds = {"embedding": f"ndarray:float32:{DIMS}", "label": "int64", "text": "str"}
    with MDSWriter(out=str(out), columns=kinds) as writer:
        for batch in stored(folder):
            for row in samples(batch, np.int64):
                writer.write(row)


def write_webdataset(folder, out):
    import webdataset

    out.mkdir()
    with webdataset.ShardWriter(str(out / "%05d.tar"), maxcount=GROUP, verbose=0) as writer:
        number = 0
        for batch in stored(folder):
            for row in samples(batch):
                writer.write({"__key__": f"{number:0{DIGITS}}", "npy": row["embedding"], "cls": row["label"], "txt": row["text"]})
                number += 1


COPIES = {
    "numpy": write_numpy,
    "hf": write_hf,
    "lance": write_lance,
    "litdata": write_litdata,
    "litdata-arrays": write_litdata_arrays,
    "litdata-parquet": write_litdata_parquet,
    "mds": write_mds,
    "webdataset": write_webdataset,
}


def write(folder, name, rows):
    """A form of Parquet or a copy, whole or not at all."""
    out = folder / (f"{name}.parquet" if name in PARQUET else name)
    part = folder / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    if name in PARQUET:
        write_parquet(part, rows, **PARQUET[name])
    else:
        COPIES[name](folder, part)
    part.rename(out)
