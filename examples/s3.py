"""Plan and stream Parquet that lies in an object store.

    AWS_REGION=... python examples/s3.py s3://bucket/data/*.parquet         # credentials from the environment
    pip install 'moto[server]' boto3 && python examples/s3.py               # a store on this machine, for a try

Needs a build with object stores (`maturin build --features cloud`). Only the columns that are asked for are fetched, in ranges, several
at a time and ahead of the training; the plan itself is local."""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import batchwright as bw

HERE = pathlib.Path(__file__).resolve().parent


@contextlib.contextmanager
def store_here(file):
    """An S3 server in this process with one file in it; yields its URL and sets what clients look for."""
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ENDPOINT": endpoint, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="rows")
        client.upload_file(str(file), "rows", file.name)
        yield f"s3://rows/{file.name}"
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", help="URLs [default: fixtures/digits.parquet in a store on this machine]")
    parser.add_argument("--features", default="embedding", help="column that rows are clustered by, and that is read")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--memory", type=int, default=256, help="MiB that are read ahead at most")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        data = options.data or [stack.enter_context(store_here(HERE.parent / "fixtures" / "digits.parquet"))]
        out = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / "plan"
        command = [sys.executable, "-m", "batchwright", "plan", *data, "-o", out, "--features", options.features]
        done = subprocess.run([*command, "--batch-size", str(options.batch_size), "--locality", "local", "-q"])
        if done.returncode:
            sys.exit(done.returncode)  # the command has said why
        plan = bw.Plan.open(out)
        start, first, rows = time.perf_counter(), None, 0
        for batch in plan.stream(data, columns=[options.features], epochs=1, memory=options.memory << 20):
            first = first or time.perf_counter() - start
            rows += len(batch["row"])
        print(f"{rows} rows, the first batch after {first:.2f} s, {rows / (time.perf_counter() - start):.0f} rows/s")


if __name__ == "__main__":
    main()
