"""The same rows from an object store give the same plan, and what goes wrong there is told. The stores are moto's S3 server
and a small one of our own that can fail, both on this machine."""
import json
import os
import signal
import subprocess
import time
from unittest import mock

import pytest
from conftest import FIXTURES
from store import Answer, Store, tag


@pytest.fixture(scope="module")
def bucket():
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    store = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    store.create_bucket(Bucket="rows")
    for file in sorted((FIXTURES / "hive").rglob("*.parquet")):
        store.upload_file(str(file), "rows", f"hive/{file.relative_to(FIXTURES / 'hive').as_posix()}")
    store.upload_file(str(FIXTURES / "digits.parquet"), "rows", "digits.parquet")
    yield {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.mark.parametrize("name", ["digits.parquet", "hive/"])
def test_a_remote_dataset_gives_the_same_plan(batchwright, bucket, plan, tmp_path, name):
    local = plan(FIXTURES / name.rstrip("/"), "--label", "label")
    done = batchwright("plan", f"s3://rows/{name}", "--label", "label", "-o", tmp_path / "plan", env=bucket)
    if "this build cannot" in done.stderr:
        pytest.skip("this build has no object stores (feature `cloud`)")
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((p / "plan.json").read_text()) for p in (local, tmp_path / "plan"))
    assert one["plan"] == two["plan"]
    for file in ("samples.arrow", "strata.arrow"):
        assert (local / file).read_bytes() == (tmp_path / "plan" / file).read_bytes()


def test_a_missing_object_is_an_input_error(batchwright, bucket, tmp_path):
    done = batchwright("plan", "s3://rows/none.parquet", "-o", tmp_path / "plan", env=bucket)
    if "this build cannot" in done.stderr:
        pytest.skip("this build has no object stores (feature `cloud`)")
    assert done.returncode == 3 and "none.parquet" in done.stderr, done.stderr


@pytest.fixture
def store():
    store = Store()
    yield store
    store.shutdown()


def rows(seed, count=400):
    """A Parquet file of vectors in memory."""
    numpy, pa, parquet = pytest.importorskip("numpy"), pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x = numpy.random.default_rng(seed).normal(size=(count, 8)).astype("f4")
    sink = pa.BufferOutputStream()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 8)
    parquet.write_table(pa.table({"v": vectors}), sink, row_group_size=100, compression="none", use_dictionary=False)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def remote(batchwright, store, tmp_path):
    """Plans from the store."""

    def run(*inputs):
        done = batchwright("plan", *inputs, "-o", tmp_path / "plan", env=store.environment())
        if "this build cannot" in done.stderr:
            pytest.skip("this build has no object stores (feature `cloud`)")
        assert "SECRET" not in done.stdout + done.stderr
        return done

    return run


def test_a_store_that_is_busy_is_asked_again(remote, store):
    store.objects["a.parquet"] = rows(1)
    store.refuse = 3
    assert remote("s3://bucket/a.parquet").returncode == 0


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("count", [400, 500], ids=["same length", "longer"])
def test_an_object_that_changes_while_it_is_read_is_told(remote, store, tmp_path, heeds, count):
    store.objects["d/a.parquet"] = rows(1)
    store.swap, store.heeds_conditions = ("d/a.parquet", rows(2, count)), heeds
    done = remote("s3://bucket/d/")
    assert done.returncode == 3 and "s3://bucket/d/a.parquet: has changed while it was read" in done.stderr, done.stderr
    assert not (tmp_path / "plan").exists()


def test_an_object_that_is_gone_since_it_was_listed_is_told(remote, store):
    store.objects["d/a.parquet"] = rows(1)
    store.objects["d/b.parquet"] = rows(2)
    listing = Answer.do_GET

    def gone(self):
        listing(self)
        if "list-type" in self.path:
            store.objects.pop("d/b.parquet", None)

    with mock.patch.object(Answer, "do_GET", gone):
        done = remote("s3://bucket/d/")
    assert done.returncode == 3 and "b.parquet: cannot be read" in done.stderr, done.stderr


def test_waiting_for_a_store_ends_with_ctrl_c(program, remote, store, tmp_path):
    store.objects["a.parquet"] = rows(1)
    assert remote("s3://bucket/a.parquet", "--dry-run").returncode == 0
    store.stall = True
    command = [program, "plan", "s3://bucket/a.parquet", "-o", tmp_path / "other"]
    run = subprocess.Popen(command, env={**os.environ, **store.environment()}, stderr=subprocess.PIPE, text=True)
    time.sleep(2)
    assert run.poll() is None
    begin = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=20)
    assert run.returncode == 130 and time.monotonic() - begin < 1, said
    assert not (tmp_path / "other").exists()


def test_names_mean_in_a_store_what_they_mean_on_disk(remote, store, tmp_path):
    for name in ("d/k=1/a.parquet", "d/k=2/a.pq", "d/_temporary/0/x.parquet", "d/part-0", "d/x y/z.parquet"):
        store.objects[name] = rows(1)
    store.objects["d/_SUCCESS"] = b""
    store.objects["d/notes.txt"] = b"notes"

    def files(*inputs):
        done = remote(*inputs, "--dry-run")
        assert done.returncode == 0, done.stderr
        return done.stdout.split(" in ")[1].split(",")[0], done.stderr

    for name in ("d/", "d"):
        number, said = files(f"s3://bucket/{name}")
        assert number == "3 files", (name, number)
        assert "left out _SUCCESS, _temporary/, notes.txt and 1 more" in said, said
    assert files("s3://bucket/d/k=*/a.*")[0] == "2 files"
    assert files("s3://bucket/d/k=?")[0] == "2 files"
    assert files("s3://bucket/d/k=[2-9]/*")[0] == "1 file"
    assert files("s3://bucket/d/part-?")[0] == "1 file"
    assert files("s3://bucket/d/part-0")[0] == "1 file"
    assert files("s3://bucket/d/x y/")[0] == "1 file"
    assert files("s3://bucket/d/**/a.*")[0] == "2 files"
    for url in ("s3://me:SECRET@bucket/d/k=1/", "s3://bucket/d/k=1/?X-Amz-Signature=SECRET"):
        number, said = files(url)
        assert number == "1 file" and "are not used" in said, said
    assert remote("s3://me:SECRET@bucket/d/k=1/a.parquet?sig=SECRET").returncode == 0
    run = json.loads((tmp_path / "plan" / "run.json").read_text())
    assert run["inputs"] == ["s3://bucket/d/k=1/a.parquet"]
    assert "SECRET" not in "".join(p.read_text(errors="replace") for p in (tmp_path / "plan").rglob("*") if p.is_file())


def test_tables_of_other_formats_are_known_in_a_store(remote, store):
    for mark, name in (("_delta_log/0.json", "Delta"), (".hoodie/x", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")):
        store.objects = {f"lake/t/{mark}": b"{}", "lake/t/data/k=1/a.parquet": rows(1), "lake/t/data/k=2/a.parquet": rows(2)}
        for inputs in ("lake/", "lake/t/", "lake/t/data/", "lake/t/data/k=1/", "lake/t/data/*/a.parquet"):
            done = remote(f"s3://bucket/{inputs}", "--dry-run")
            assert done.returncode == 3 and name in done.stderr and "s3://bucket/lake/t: is " in done.stderr, (inputs, done.stderr)
        done = remote("s3://bucket/lake/t/data/k=1/a.parquet", "--dry-run")
        assert done.returncode == 0 and name in done.stderr, done.stderr


def test_a_refused_connection_tells_no_secret(batchwright, store, tmp_path):
    store.server_close()
    env = {**store.environment(), "AWS_ENDPOINT": "http://user:SECRET@127.0.0.1:9"}
    done = batchwright("plan", "s3://bucket/a.parquet?sig=SECRET", "-o", tmp_path / "plan", env=env)
    assert done.returncode == 3 and "SECRET" not in done.stderr, done.stderr
