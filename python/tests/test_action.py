"""action.yml and the pre-commit hook, as the tools that run them do."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import harness
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def test_the_action_installs_the_wheel_and_checks(tmp_path):
    yaml = pytest.importorskip("yaml")
    wheel = os.environ.get("BATCHWRIGHT_WHEEL")
    if not wheel:
        pytest.skip("BATCHWRIGHT_WHEEL names no wheel (scripts/test builds one)")
    plan = harness.digits_plan(tmp_path / "plan")
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    given = {"plan": str(plan), "data": str(harness.DIGITS), "package": wheel}
    assert set(given) <= set(action["inputs"])
    inputs = {name: str(given.get(name, about.get("default", ""))) for name, about in action["inputs"].items()}
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")}
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    env = {"PATH": path, "HOME": str(tmp_path), "RUNNER_TEMP": str(tmp_path), **files}
    for step in action["runs"]["steps"]:
        values = {name: text.replace("${{ github.action_path }}", str(ROOT)) for name, text in step["env"].items()}
        values = {name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda m: inputs[m[1]], text) for name, text in values.items()}
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=env | values, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if (added := tmp_path / "GITHUB_PATH").exists():
            env["PATH"] = added.read_text().strip() + os.pathsep + path
    assert "answer=holds" in (tmp_path / "GITHUB_OUTPUT").read_text()
    assert shutil.which("batchwright", path=env["PATH"]) == str(tmp_path / "batchwright" / "bin" / "batchwright")


def test_the_hook_is_one_that_pre_commit_knows(tmp_path):
    pre_commit = pytest.importorskip("pre_commit.clientlib")
    pre_commit.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    repo, env = tmp_path / "repo", {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    plan = harness.digits_plan(tmp_path / "plan")
    git = lambda *args: subprocess.run(["git", "-C", repo, *args], check=True, capture_output=True, env=env)  # noqa: E731
    repo.mkdir()
    git("init", "-q")
    shutil.copy(harness.DIGITS, repo / "digits.parquet")
    git("add", ".")
    hook = tmp_path / "hook"
    hook.mkdir()
    text = (ROOT / ".pre-commit-hooks.yaml").read_text()
    (hook / ".pre-commit-hooks.yaml").write_text(text.replace("batchwright check", f"{' '.join(harness.command())} check"))
    for args in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "hook"]):
        subprocess.run(["git", "-C", hook, *args], check=True, env=env)
    config = f"repos:\n- repo: {hook}\n  rev: HEAD\n  hooks:\n  - id: batchwright-check\n    args: ['{plan}', digits.parquet]\n"
    (repo / ".pre-commit-config.yaml").write_text(config)
    run = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--verbose"]
    done = subprocess.run(run, cwd=repo, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "holds" in done.stdout, done.stdout + done.stderr
