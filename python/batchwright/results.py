"""What the functions of `batchwright.functions` return: attributes named as the keys of the command's JSON."""

import html
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from batchwright._core import BatchwrightError, Plan

__all__ = ["Check", "Comparison", "Count", "Delta", "DriftError", "Encoded", "Estimate", "Report", "Result", "Stage", "Update"]


class Stage(NamedTuple):
    """How far a call is: what a callable `progress` gets."""

    name: str
    """What is being done: "sample", "assign", ..."""
    unit: str
    """What is counted: "rows", "bytes", "blocks", ..."""
    done: int
    total: int
    """0: unknown."""


class Result:
    """Values by name, as attributes; equal if they are; pickles as them."""

    _values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def to_dict(self) -> dict[str, Any]:
        """The values as the command prints them with --json."""
        return dict(self._values)

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; it has {', '.join(values)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is what a call found: it cannot be changed")

    def __dir__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(sorted({*super().__dir__(), *self._values}))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Result) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._values,)

    def _facts(self) -> dict[str, Any]:
        """What its one line, and its table in a notebook, say."""
        return self._values

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={_short(value)}" for name, value in self._facts().items())
        return f"{type(self).__name__}({said})"

    def _repr_html_(self) -> str:
        return table(type(self).__name__, {name: _short(value) for name, value in self._facts().items()})


def table(title: str, facts: Mapping[str, str]) -> str:
    """Names and texts as a table for a notebook: no script, readable on dark and on light."""
    cell = 'style="text-align:left;padding:2px 12px 2px 0;border:0;background:transparent"'
    rows = (f"<tr><th {cell}>{html.escape(name)}</th><td {cell}>{html.escape(text)}</td></tr>" for name, text in facts.items())
    return f'<table style="border-collapse:collapse"><caption {cell}>{html.escape(title)}</caption>{"".join(rows)}</table>'


def _short(value: Any, most: int = 90) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= most else text[: most - 3] + "..."


class Count(Result):
    """How many modalities a dataset has: modalities, interval (likely), confidence, clear, estimator, sizes (sample rows of each), curve,
    details, columns (which are features, and why others are not)."""

    def _facts(self) -> dict[str, Any]:
        return {name: self._values[name] for name in ("modalities", "interval", "confidence", "clear", "estimator", "sizes")}


class Comparison(Result):
    """What every estimator found on the same sample: `estimators`, a list of dicts."""

    def _facts(self) -> dict[str, Any]:
        return {one["estimator"]: one.get("modalities", one.get("failed")) for one in self._values["estimators"]}


class Estimate(Result):
    """What a plan would need: rows, dims, files, bytes_read, bytes_written, memory_needed, memory_allowed, disk_free, fits."""

    def __bool__(self) -> bool:
        return bool(self._values["fits"])

    def _facts(self) -> dict[str, Any]:
        names = ("rows", "dims", "bytes_read", "bytes_written", "memory_needed", "memory_allowed", "fits")
        return {name: self._values[name] for name in names}


class DriftError(BatchwrightError):
    """A plan does not hold: what `Check.raise_if_drifted` raises."""

    check: "Check"


class Check(Result):
    """Whether a plan still fits its data: answer ("holds", "drifted", "cannot-tell"), diagnosis (the causes, the most telling first),
    findings, modalities (shares then and now), coverage, compared (rows), limits."""

    @property
    def holds(self) -> bool:
        """The plan fits: exit code 0 of the command."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0 holds, 1 drifted or broken, 4 too few rows to tell (1 if strict)."""
        return {"holds": 0, "drifted": 1}.get(self._values["answer"], 1 if self._values["limits"]["strict"] else 4)

    def __bool__(self) -> bool:
        return self.holds

    def failures(self) -> list[dict[str, Any]]:
        """The findings that make the check fail."""
        levels = ("note", "warning", "error")
        least = levels.index(self._values["limits"]["fail_level"])
        return [f for f in self._values["findings"] if f["answer"] == "drifted" and levels.index(f["level"]) >= least]

    def raise_if_drifted(self) -> "Check":
        """Returns itself, or raises DriftError with the causes."""
        if self._values["answer"] != "drifted":
            return self
        causes = [cause["text"] for cause in self._values["diagnosis"]] or [finding["message"] for finding in self.failures()]
        error = DriftError("\n  ".join([f"the plan {self._values['plan']} does not fit its data", *causes[:10]]))
        error.check = self
        raise error

    def _facts(self) -> dict[str, Any]:
        causes = [cause["text"] for cause in self._values["diagnosis"]]
        facts = {"answer": self._values["answer"], "compared": self._values["compared"], "findings": len(self._values["findings"])}
        return facts | ({"diagnosis": causes} if causes else {})


class Update(Result):
    """What an update did: plan (opened), how ("unchanged", "appended", "read anew", "refitted"), why, modalities (the old number of each,
    None for a new one), rows_new, bytes_read, check."""

    def __init__(self, values: Mapping[str, Any], old: Plan | None = None, out: str | os.PathLike[str] | None = None) -> None:
        super().__init__(values)
        if old is not None:
            check = dict(self._values["check"])
            plan = old if self._values["summary"] is None else Plan.open(out if out is not None else old.path)
            self._values.update(plan=plan, check=Check(check))

    def _facts(self) -> dict[str, Any]:
        names = ("how", "why", "rows_new", "bytes_read", "bytes")
        return {"plan": repr(self._values.get("plan")), **{name: self._values[name] for name in names}}


class Delta(Result):
    """How two plans differ for training: pairs, then and now, and `mapping` of the modalities, `moved` rows, `config` settings."""

    def __bool__(self) -> bool:
        """Do they differ?"""
        return not self._values["same"]

    def _facts(self) -> dict[str, Any]:
        names = ("same", "rows_planned", "modalities", "strata", "batch_size", "config")
        return {name: self._values[name] for name in names}


class Encoded(Result):
    """What `encode` wrote: rows, null (rows without an embedding), dims, encoder, bytes, seconds."""


class Report:
    """A plan as an HTML page; a notebook shows it in a frame of its own."""

    html: str
    """The page: no network, no other file."""
    path: str | None
    """The file that it was written to."""

    def __init__(self, page: str, path: str | os.PathLike[str] | None = None) -> None:
        self.html = page
        self.path = None if path is None else os.fspath(path)

    def __repr__(self) -> str:
        return f"Report({len(self.html):,} characters{f', written to {self.path}' if self.path else ''})"

    def _repr_html_(self) -> str:
        frame = 'sandbox="allow-scripts" style="width:100%;height:720px;border:1px solid #8888"'
        return f'<iframe srcdoc="{html.escape(self.html)}" {frame}></iframe>'
