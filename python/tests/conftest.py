import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import harness  # noqa: E402


@pytest.fixture(scope="session")
def plan_path(tmp_path_factory) -> pathlib.Path:
    return harness.digits_plan(tmp_path_factory.mktemp("plans") / "digits.plan")


@pytest.fixture
def plan(plan_path):
    import batchwright

    return batchwright.Plan.open(plan_path)
