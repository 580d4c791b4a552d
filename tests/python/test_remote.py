"""The same rows from an object store give the same plan. The store is moto's S3 server, on this machine."""
import json

import pytest
from conftest import FIXTURES


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
