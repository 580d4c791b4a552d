"""Debug and release builds write the same bytes."""
import hashlib

import pytest
from conftest import FIXTURES, ROOT


def digests(plan):
    files = sorted(f for f in plan.rglob("*") if f.is_file() and f.name != "run.json")
    return {str(f.relative_to(plan)): hashlib.blake2b(f.read_bytes()).hexdigest() for f in files}


@pytest.mark.parametrize("file", ["digits.parquet", "mixed.parquet"])
def test_debug_and_release_write_the_same_bytes(program, tmp_path, file):
    import subprocess

    target = program.parent.parent
    builds = [target / kind / "batchwright" for kind in ("debug", "release")]
    missing = [b.parent.name for b in builds if not b.is_file()]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} build beside {program.relative_to(ROOT) if program.is_relative_to(ROOT) else program}")
    plans = []
    for build in builds:
        out = tmp_path / build.parent.name
        subprocess.run([build, "plan", FIXTURES / file, "--label", "label", "-o", out], check=True, capture_output=True)
        plans.append(digests(out))
    assert plans[0] == plans[1]
