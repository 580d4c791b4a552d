#!/usr/bin/env python3
"""Makes the first inputs of the targets `footer` and `pages` anew: small files of several writers, and single chunks of them.

    python3 fuzz/seed.py        # needs numpy, pyarrow; polars, duckdb and fastparquet where they are installed
"""
import os
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
CODECS = {"NONE": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "ZSTD": 6, "LZ4": 7}
PHYSICAL = ["BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"]
ROWS = 40


def put(target, name, data):
    os.makedirs(f"{CORPUS}/{target}", exist_ok=True)
    with open(f"{CORPUS}/{target}/{name}", "wb") as file:
        file.write(data)


def columns():
    r = np.random.default_rng(0)
    holes = r.random(ROWS) < 0.2
    text = pa.array([None if h else f"word-{i % 7}" for i, h in enumerate(holes)])
    lists = [None if h else [float(i), 1.5, None][: i % 4] for i, h in enumerate(holes)]
    return {
        "bool": pa.array(r.random(ROWS) < 0.5, mask=holes),
        "int32": pa.array(r.integers(0, 5, ROWS), pa.int32(), mask=holes),
        "int64": pa.array(r.integers(-(10**12), 10**12, ROWS)),
        "float": pa.array(r.normal(size=ROWS), pa.float32()),
        "double": pa.array(r.normal(size=ROWS), mask=holes),
        "text": text,
        "binary": pa.array([bytes(8)] * ROWS, pa.binary(8)),
        "list": pa.array(lists, pa.list_(pa.float32())),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(r.normal(size=4 * ROWS), pa.float32()), 4),
    }


def page_inputs():
    """Every type with every encoding that it has, codecs and page versions in turn."""
    encodings = {
        "bool": ["PLAIN", "RLE"],
        "int32": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
        "int64": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
        "float": ["PLAIN", "BYTE_STREAM_SPLIT"],
        "double": ["PLAIN", "BYTE_STREAM_SPLIT"],
        "text": ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"],
        "binary": ["PLAIN", "DELTA_BYTE_ARRAY", "BYTE_STREAM_SPLIT"],
        "list": ["PLAIN", "BYTE_STREAM_SPLIT"],
        "vector": ["PLAIN", "BYTE_STREAM_SPLIT"],
    }
    turn = 0
    for name, column in columns().items():
        for encoding in [None, *encodings[name]]:
            if encoding is None and name == "bool":
                continue
            codec = list(CODECS)[turn % len(CODECS)]
            settings = {"use_dictionary": True} if encoding is None else {"use_dictionary": False, "column_encoding": encoding}
            pq.write_table(
                pa.table({"x": column}), "/tmp/seed.parquet", compression=codec, data_page_size=100, write_batch_size=16,
                data_page_version=["1.0", "2.0"][turn // 2 % 2], write_statistics=False, store_schema=False, **settings,
            )
            turn += 1
            data = open("/tmp/seed.parquet", "rb").read()
            chunk = pq.ParquetFile("/tmp/seed.parquet").metadata.row_group(0).column(0)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            nested = 2 if name in ("list", "vector") else 1
            head = [PHYSICAL.index(chunk.physical_type), nested, CODECS[codec], int(chunk.has_dictionary_page)]
            pages = data[start : start + chunk.total_compressed_size]
            put("pages", f"{name}-{(encoding or 'dictionary').lower()}", bytes(head) + struct.pack("<HH", ROWS, chunk.num_values) + pages)


def file_inputs():
    table = pa.table(columns())
    few = table.select(["int32", "text", "vector"])
    pq.write_table(few, "/tmp/seed.parquet", write_page_checksum=True, write_page_index=True, row_group_size=20)
    put("footer", "pyarrow", open("/tmp/seed.parquet", "rb").read())
    pq.write_table(table.select(["list", "bool"]), "/tmp/seed.parquet", data_page_version="2.0", compression="zstd", store_schema=False)
    put("footer", "pyarrow-v2", open("/tmp/seed.parquet", "rb").read())
    try:
        import polars
        polars.from_arrow(few).write_parquet("/tmp/seed.parquet", compression="zstd", statistics="full")
        put("footer", "polars", open("/tmp/seed.parquet", "rb").read())
    except ImportError:
        pass
    try:
        import duckdb
        plain = table.select(["int32", "text", "list"])
        duckdb.sql("copy (from plain) to '/tmp/seed.parquet' (format parquet, codec snappy)")
        put("footer", "duckdb", open("/tmp/seed.parquet", "rb").read())
    except ImportError:
        pass
    try:
        import fastparquet
        fastparquet.write("/tmp/seed.parquet", table.select(["int64", "text", "double"]).to_pandas(), compression="GZIP")
        put("footer", "fastparquet", open("/tmp/seed.parquet", "rb").read())
    except ImportError:
        pass


page_inputs()
file_inputs()
