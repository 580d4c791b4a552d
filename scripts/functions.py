#!/usr/bin/env python3
"""Writes python/batchwright/functions.py: the verbs of the command as functions, whose settings are its flags.

    python scripts/functions.py            # after a change of a flag or of a text below; needs the built package

The definitions of the flags are the source of names, types and help; `python/tests/test_functions.py` compares."""

import importlib.util
import json
import re
import sys
import textwrap
import types
from keyword import iskeyword
from pathlib import Path

if "batchwright" not in sys.modules:
    # The package without what it imports: the file that is written here may be missing or broken.
    package = types.ModuleType("batchwright")
    package.__path__ = importlib.util.find_spec("batchwright").submodule_search_locations
    sys.modules["batchwright"] = package
from batchwright import _core  # noqa: E402

TARGET = Path(__file__).parents[1] / "python" / "batchwright" / "functions.py"
WIDTH = 130

HEAD = '''\
"""The command's verbs as functions: the same words, the same rows, the same bytes. scripts/functions.py writes this file from the
definitions of the flags.

`data` is whatever `batchwright.tables` knows: paths, folders, patterns and URLs of Parquet files, or a table in memory (a pandas or polars
data frame, an Arrow table or stream, a Hugging Face dataset, an array of NumPy or PyTorch of shape (n, dims), a dict of arrays). Rows are
numbered as they stand.

Settings are keyword arguments; None is the default. `config` is the path of a batchwright.toml, or a dict as in one; keywords go before it.
Environment variables named BATCHWRIGHT_* and a batchwright.toml that nobody named do not count. `progress`: None shows bars (tqdm) on a
terminal and in a notebook once a call lasts a second, True at once, False never; a callable gets a `batchwright.results.Stage`, ten times a
second at most, and what it raises ends the call. What should be known though the call goes on is a `BatchwrightWarning`."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from batchwright._calls import call, checked, exists, named, opened, settings
from batchwright._core import Plan
from batchwright.results import Check, Comparison, Count, Delta, Encoded, Estimate, Report, Stage, Update

__all__ = ["check", "diff", "encode", "estimate", "modalities", "plan", "report", "update"]

Path = str | PathLike[str]
Config = Path | Mapping[str, Any] | None
Progress = bool | Callable[[Stage], Any] | None
'''

FUNCTIONS = [
    (
        "plan",
        "plan",
        "data: Any, out: Path | None = None",
        'exist: Literal["error", "replace", "reuse"] = "error", progress: Progress = None',
        "Plan",
        '''Counts the modalities of a dataset and builds a plan: `batchwright plan`.

        Returns the plan, opened. It is written to the directory `out`, whole or not at all; without `out` it lies in a temporary folder that
        goes with the object (`Plan.save` keeps it). The same rows, settings and seed give the same bytes, from files or from a table.''',
        """exist: what to do if `out` is a plan: "error"; "replace" it; "reuse" it if it was made with these settings from these rows, else
        say what differs.""",
        """ConfigError: a setting. InputError: a file, a column or a row, by name; the disk.""",
        """    given = settings(locals())
    return exists(data, out, exist, config, given, progress)""",
    ),
    (
        "modalities",
        "modalities",
        "data: Any",
        "progress: Progress = None",
        "Count | Comparison",
        '''Only counts the modalities: `batchwright modalities`. Reads a sample and writes nothing.

        Returns a `Count`: modalities, interval, confidence, clear, sizes, details; with estimator="all" a `Comparison` of all estimators on the
        same sample.''',
        "",
        """ConfigError, InputError: as of `plan`.""",
        """    given = settings(locals())
    found = call("modalities", given, progress, data=data, config=config)
    return Comparison(found) if estimator == "all" else Count(found)""",
    ),
    (
        "estimate",
        "plan",
        "data: Any",
        "",
        "Estimate",
        """What `plan` would read, write and need, from the footers of the files: `batchwright plan --dry-run`.""",
        "",
        """ConfigError, InputError: as of `plan`.""",
        """    given = settings(locals())
    return Estimate(call("estimate", given, False, data=data, config=config))""",
    ),
    (
        "check",
        "check",
        "plan: Plan | Path, data: Any",
        "progress: Progress = None",
        "Check",
        '''Does a plan still fit its data: `batchwright check`.

        Returns a `Check`, true where the plan holds: answer, findings, diagnosis, exit_code, `raise_if_drifted()`.''',
        "",
        """ConfigError, InputError: as of `plan`. PlanError: a damaged plan.""",
        """    given = settings(locals())
    return Check(call("check", given, progress, plan=opened(plan), data=data, config=config))""",
    ),
    (
        "update",
        "update",
        "plan: Plan | Path, data: Any, out: Path",
        "refit: bool = False, verify: bool = False, deal_holdout: bool = False, "
        'exist: Literal["error", "replace"] = "error", progress: Progress = None',
        "Update",
        '''Brings a plan up to date with its data, reading only what changed: `batchwright update`. The plan's own settings hold.

        Returns an `Update`: plan (opened; the old one where nothing was to be done), how, why, modalities (the old number of each).''',
        """refit: count the modalities again in any case.
verify: hash the bytes of all files, also of those that look unchanged.
deal_holdout: deal the held-out rows anew.
exist: "replace" replaces a plan at `out`, which may be the old one.""",
        """ConfigError, InputError: as of `plan`. PlanError: plan and data do not belong together.""",
        """    given = settings(locals())
    options = {"refit": checked("refit", refit), "verify": checked("verify", verify), "deal_holdout": checked("deal_holdout", deal_holdout)}
    old, force = opened(plan), exist == "replace"
    return Update(call("update", given, progress, plan=old, data=data, out=out, force=force, config=config, **options), old, out)""",
    ),
    (
        "diff",
        None,
        "plan: Plan | Path, other: Plan | Path",
        "",
        "Delta",
        """What changed for training between two plans: `batchwright diff`. Attributes are pairs, then and now.""",
        "",
        """PlanError: a damaged plan.""",
        """    return Delta(call("diff", {}, False, plan=opened(plan), other=opened(other)))""",
    ),
    (
        "report",
        None,
        "plan: Plan | Path, out: Path | None = None",
        "drift: Check | None = None, force: bool = False",
        "Report",
        '''A plan as one HTML page with pictures: `batchwright report`.

        Returns a `Report`, which a notebook shows; with `out` it is written to that file, too.''',
        """drift: what `check` found, to be shown as well.
force: replace a file that is not a report.""",
        """ConfigError: `out` is another file. PlanError: a damaged plan.""",
        """    found = None if drift is None else drift.to_dict()
    page = call("report", {}, False, plan=opened(plan), drift=found, out=out, force=checked("force", force))
    return Report(page, out)""",
    ),
    (
        "encode",
        "encode",
        "data: Any, out: Path",
        "force: bool = False, progress: Progress = None",
        "Encoded",
        """Writes the embeddings of a column to a Parquet file: `batchwright encode`. One row for every row of the data, null where the row is
        left out.""",
        "force: replace an existing file.",
        """ConfigError, InputError: as of `plan`.""",
        """    given = settings(locals())
    return Encoded(call("encode", given, progress, data=data, out=out, force=checked("force", force), config=config))""",
    ),
]


REAL = {"information_threshold"}
"""Settings that are called N and need not be whole."""


def python_name(keyword: dict) -> str:
    """`as` is a word of Python's."""
    return keyword["name"] + "_" * iskeyword(keyword["name"])


def parameter(keyword: dict, verb: str) -> str:
    """A line of the signature, or several."""
    if verb != "modalities":
        # Which compares them.
        keyword = keyword | {"choices": [choice for choice in keyword["choices"] if choice != "all"]}
    line = f"    {python_name(keyword)}: {annotation(keyword)} = None,"
    if len(line) <= WIDTH:
        return line
    head, inner, tail = line.partition("[")[0], line[line.index("[") + 1 : line.rindex("]")], line[line.rindex("]") :]
    return f"{head}[\n{wrapped(inner + ',', ' ' * 8, ' ' * 8)}\n    {tail}"


def annotation(keyword: dict) -> str:
    value = keyword["value"]
    if value == "SHARE:N,...":
        return "Sequence[tuple[float, int]] | None"
    if keyword["list"]:
        return "str | Sequence[str] | None"
    if keyword["name"] == "engine":
        return "Any"
    if keyword["name"] in REAL:
        return "float | None"
    if keyword["choices"] and value != "BOOL":
        return literal(keyword["choices"])
    known = {
        "BOOL": "bool | None",
        "SIZE": "int | str | None",
        "DIR|FILE.onnx": "Path | None",
        "proportional|equal|tau|FILE": "str | Sequence[float] | Mapping[str, float] | None",
        "auto|N,N,...": 'Literal["auto"] | Sequence[int] | None',
        "auto|N": 'int | Literal["auto"] | None',
        "N|batch": 'int | Literal["batch"] | None',
        "K|batch": 'int | Literal["batch"] | None',
        "K|groups": 'int | Literal["groups"] | None',
    }
    if value in known:
        return known[value]
    if value in ("N", "W", "A", "ROWS", "K", "E"):
        return "int | None"
    if value in ("X", "SHARE", "TAU", "P", "H", "D", "W", "Q"):
        return "float | None"
    words = value.split("|")
    if len(words) > 1 and all(re.fullmatch("[a-z0-9-]+", word) for word in words):
        return literal(words)
    return "str | None"


def literal(words: list[str]) -> str:
    return f"Literal[{', '.join(json.dumps(word) for word in words)}] | None"


def words(keyword: dict) -> str:
    """Its help, without what only a command line needs."""
    text = re.sub(r"--([a-z][a-z-]*[a-z])", lambda flag: flag[1].replace("-", "_"), keyword["help"])
    return text if text.endswith(".") else text + "."


def wrapped(text: str, first: str, rest: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)


def function(name: str, verb: str | None, positional: str, more: str, returns: str, about: str, args: str, raises: str, body: str) -> str:
    given = json.loads(_core.keywords(verb)) if verb else []
    lines = [f"    {part}," for part in positional.split(", ")]
    named = [parameter(k, verb) for k in given]
    named += ["    config: Config = None,"] * bool(given)
    named += [f"    {part}," for part in re.split(r", (?=[a-z_]+: )", more) if part]
    signature = "\n".join(lines + ["    *,"] * bool(named) + named)
    text = [f"@named\ndef {name}(\n{signature}\n) -> {returns}:", f'    """{textwrap.dedent("        " + about).strip()}'.replace("\n\n", "\n\n    ")]
    text[1] = "\n".join(("    " + line.strip() if i and line.strip() else line) for i, line in enumerate(text[1].split("\n")))
    described = [wrapped(f"{python_name(k)}: {words(k)}", " " * 8, " " * 12) for k in given]
    described += [wrapped(" ".join(part.split()), " " * 8, " " * 12) for part in re.split(r"\n(?=[a-z_]+: )", args) if part]
    if described:
        text += ["", "    Args:", *described]
    if raises:
        text += ["", "    Raises:", *(wrapped(part.strip() + ("" if part.endswith(".") else "."), " " * 8, " " * 12) for part in re.split(r"\. (?=[A-Z][a-zA-Z]+(?:, [A-Z][a-zA-Z]+)*:)", raises))]
    text += ['    """', body]
    return "\n".join(text)


def source() -> str:
    return HEAD + "".join(f"\n\n{function(*parts)}\n" for parts in FUNCTIONS)


if __name__ == "__main__":
    TARGET.write_text(source())
