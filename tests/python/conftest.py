"""What the Python tests share: the program, the folders, and plans made once a session.

BATCHWRIGHT_BIN names the program (default: the release build, else the debug build); BATCHWRIGHT_TEST_DATA a folder of
larger datasets. Tests that need a dataset which is not there are skipped."""
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
DATA = pathlib.Path(os.environ.get("BATCHWRIGHT_TEST_DATA") or FIXTURES / "none")


def code_block(mark):
    """The code block after `<!-- mark -->` in the README: what is documented is what is tested."""
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert found, f"README.md has no block marked <!-- {mark} -->"
    return found[1]


@pytest.fixture(scope="session")
def program():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    given = os.environ.get("BATCHWRIGHT_BIN")
    places = [pathlib.Path(given)] if given else [target / kind / "batchwright" for kind in ("release", "debug")]
    for place in places:
        if place.is_file():
            return place.resolve()
    pytest.fail(f"no program at {' or '.join(map(str, places))}; run cargo build --locked, or set BATCHWRIGHT_BIN")


@pytest.fixture(scope="session")
def batchwright(program):
    """Runs the program; returns the finished process. No setting leaks in from the environment."""

    def run(*arguments, env=None, cwd=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("BATCHWRIGHT_")}
        return subprocess.run([program, *map(str, arguments)], cwd=cwd or ROOT, env={**clean, **(env or {})}, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def plan(batchwright, tmp_path_factory):
    """A plan of the given inputs and flags, made once a session."""
    made = {}

    def make(*arguments):
        if arguments not in made:
            out = tmp_path_factory.mktemp("plans") / "plan"
            done = batchwright("plan", *arguments, "-o", out)
            if "this build cannot" in done.stderr:
                pytest.skip(done.stderr.splitlines()[0].removeprefix("error: "))
            assert done.returncode == 0, done.stderr
            made[arguments] = out
        return made[arguments]

    return make
