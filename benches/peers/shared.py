"""What the comparisons share."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def benchmark(name, flags):
    """The compiled benchmark of this name, as cargo names it."""
    command = ["cargo", "bench", "--locked", "--bench", name, "--no-run", "--message-format=json", *flags]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    made = [json.loads(line) for line in lines if line.startswith("{")]
    return next(m["executable"] for m in made if m.get("executable") and m["target"]["name"] == name)
