"""What `batchwright.functions` are made of: requests to the compiled verbs, bars, warnings, plans that go with their object."""

import difflib
import functools
import inspect
import json
import math
import os
import shutil
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from batchwright import _core
from batchwright._core import ConfigError, Plan, PlanError
from batchwright._errors import BatchwrightWarning
from batchwright.results import Stage, table
from batchwright.tables import inputs

__all__: list[str] = []

P = ParamSpec("P")
R = TypeVar("R")

ARGUMENTS = {"data", "plan", "other", "out", "config", "exist", "progress", "refit", "verify", "deal_holdout", "drift", "force"}
"""Arguments of the functions that are no settings."""


def named(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with a TypeError that says which keyword was meant."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def called(*args: P.args, **given: P.kwargs) -> R:
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            near = difflib.get_close_matches(unknown, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {unknown!r}{hint}")
        return function(*args, **given)

    return called


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among the arguments of a call, as JSON has them; `as_` is `as`, which is a word of Python's."""
    return {
        name.rstrip("_"): value if name == "engine" else _plain(name, value)
        for name, value in given.items()
        if name not in ARGUMENTS and value is not None
    }


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value}: expected a finite number")
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(name, inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray) or (hasattr(value, "__iter__") and not isinstance(value, bytes)):
        return [_plain(name, inner) for inner in value]
    raise ConfigError(f"{name} is {value!r}, of type {type(value).__name__}: expected numbers, texts, or lists of them")


def checked(name: str, value: Any) -> bool:
    """A flag."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ConfigError(f"{name} is {value!r}: expected True or False")


def opened(plan: Any) -> Plan:
    """A plan, or the one in a directory."""
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, (str, os.PathLike)):
        return Plan.open(plan)
    raise ConfigError(f"plan is {type(plan).__name__}: expected a batchwright.Plan or the directory of one")


def call(
    verb: str,
    given: dict[str, Any],
    progress: Any,
    *,
    plan: Plan | None = None,
    other: Plan | None = None,
    data: Any = None,
    out: Any = None,
    config: Any = None,
    **options: Any,
) -> Any:
    """Runs a verb and returns what it prints with --json."""
    engine = _engine(given)
    request = {"settings": {name: value for name, value in given.items() if name != "engine"}, **options}
    for name, value in (("plan", plan), ("other", other)):
        if value is not None:
            request[name] = value.path
    if out is not None:
        request["out"] = _path("out", out)
    if config is not None:
        request["config"] = _plain("config", config)
    with inputs(data, request.get("out")) as files, _bars(progress) as listen:
        request["data"] = files
        result, said = _core.call(verb, json.dumps(request), listen, engine)
    for message in said:
        warnings.warn(message, BatchwrightWarning, stacklevel=_outside())
    return json.loads(result)


def _engine(given: Mapping[str, Any]) -> Any:
    """The object that `engine` is, or names as --engine does."""
    engine = given.get("engine")
    if not isinstance(engine, str):
        return engine
    from batchwright import engines

    kind, _, folder = engine.partition(":")
    if kind == "folder" and folder:
        return engines.Folder(folder)
    found = engines.named(engine)
    if found is None:
        known = "folder:DIR, processes:N, ray, ray:ADDRESS, spark, spark:MASTER, or an object of batchwright.engines"
        raise ConfigError(f"unknown engine {engine!r}: expected {known}")
    return found


def _path(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigError(f"{name} is {value!r}: expected a path")
    return os.fsdecode(value)


def _outside() -> int:
    """Frames up to the first that is not of this package, for a warning to be about the user's line."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("batchwright"):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return level


# --------------------------------------------------------------------------------------------------------- plans and where they lie


def exists(data: Any, out: Any, exist: str, config: Any, given: dict[str, Any], progress: Any) -> Plan:
    """`plan`, by what it does if there is one already."""
    if exist not in ("error", "replace", "reuse"):
        raise ConfigError(f'exist is {exist!r}: expected "error", "replace" or "reuse"')
    if out is None:
        return _temporary(lambda folder: _made(data, folder, False, config, given, progress))
    out = _path("out", out)
    if exist == "reuse" and os.path.exists(os.path.join(out, "plan.json")):
        return _reused(Plan.open(out), data, config, given)
    return _made(data, out, exist == "replace", config, given, progress)


def _made(data: Any, out: str, force: bool, config: Any, given: dict[str, Any], progress: Any) -> Plan:
    call("plan", given, progress, data=data, out=out, force=force, config=config)
    return Plan.open(out)


def _temporary(make: Callable[[str], Plan]) -> Plan:
    folder = tempfile.mkdtemp(prefix="batchwright-")
    try:
        plan = make(os.path.join(folder, "plan"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(plan, remove, folder, os.getpid())
    return plan


def remove(folder: str, process: int) -> None:
    # A forked child has the object, too.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _reused(plan: Plan, data: Any, config: Any, given: dict[str, Any]) -> Plan:
    """The plan, if these settings and rows would give it again."""
    again = 'exist="replace" plans anew'
    with inputs(data, plan.path) as files:
        differ = call("differing", given, False, plan=plan, data=files, config=config)
        if differ:
            key, was, now = differ[0]
            raise PlanError(f"{plan.path} was made with {key} = {json.dumps(was)}, not {json.dumps(now)}\n  help: {again}, or take another out")
        try:
            plan.check_dataset(files, fingerprints=True)
        except PlanError as e:
            raise PlanError(f"{e}\n  help: {again}; `update` reads only what changed") from e
    return plan


def face(plan: Plan) -> str:
    """A plan as a notebook shows it."""
    facts = {
        "rows": f"{plan.rows:,}" + (f", {plan.rows_planned:,} planned" if plan.rows_planned != plan.rows else ""),
        "modalities": f"{plan.modalities:,}",
        "strata": f"{plan.strata:,}",
        "batch size": f"{plan.batch_size:,} (prepared: {', '.join(f'{size:,}' for size in plan.candidates)})",
        "id": plan.plan_id[:12],
        "path": plan.path,
    }
    return table("Plan", facts)


# ------------------------------------------------------------------------------------------------------------------------- progress


class _bars:
    """What listens to a call, for as long as it lasts."""

    def __init__(self, progress: Any) -> None:
        self.bar: Any = None
        self.stage = ""
        self.begun = time.monotonic()
        self.listen: Callable[[list[tuple[str, str, int, int]]], None] | None = None
        if callable(progress):
            self.listen = lambda stages: progress(Stage(*stages[-1])) if stages else None
        elif progress is True or (progress is None and _watched()):
            self.make = _tqdm(progress is True)
            self.patience = 0.0 if progress else 1.0
            self.listen = self.show if self.make else None
        elif progress not in (None, False):
            raise ConfigError(f"progress is {progress!r}: expected None, True, False or a callable")

    def __enter__(self) -> Callable[[list[tuple[str, str, int, int]]], None] | None:
        return self.listen

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, stages: list[tuple[str, str, int, int]]) -> None:
        if not stages or time.monotonic() - self.begun < self.patience:
            return
        name, unit, done, total = stages[-1]
        if name != self.stage or self.bar is None:
            self.__exit__()
            self.stage = name
            self.bar = self.make(desc=name, unit=unit, total=total or None, unit_scale=True, leave=False)
        self.bar.update(done - self.bar.n)


def _watched() -> bool:
    notebook = "ipykernel" in sys.modules
    return notebook or (sys.stderr is not None and sys.stderr.isatty())


def _tqdm(needed: bool) -> Any:
    """The class of the bars; a text bar where a notebook has no widgets."""
    try:
        if "ipykernel" in sys.modules:
            try:
                import ipywidgets  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
                from tqdm.notebook import tqdm as bar
            except ImportError:
                from tqdm.std import tqdm as bar
        else:
            from tqdm.std import tqdm as bar
    except ImportError:
        if needed:
            raise ModuleNotFoundError("progress=True shows bars of tqdm: pip install tqdm") from None
        return None
    return bar


