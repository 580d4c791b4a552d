"""A Spark cluster (Spark 3.5 and 4; classic sessions)."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Sequence
from typing import Any

from .._core import Tell, run_task
from .._errors import ConfigError

_TICK = 0.05
# Bytes that a result is reckoned to have, until one has been seen.
_RESULT = 4 << 20
_JOBS = 2


class Spark:
    """Tasks of a Spark cluster, in windows: `window` tasks are one Spark job, two of which are under way at a time. `session`: one of
    `pyspark.sql.SparkSession`, or the URL of a master; by default the active session, else one with Spark's own settings. The executors
    must see the data under the same paths, and have the package (an image, or `spark.archives`)."""

    def __init__(self, session: Any = None, window: int | None = None, threads: int = 1):
        self._session, self._window, self._threads = session, window, threads

    def run(self, job: bytes, tasks: Sequence[bytes], tell: Tell) -> None:
        """Called by a run."""
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise ConfigError("engines.Spark needs pyspark\n  help: pip install 'batchwright[spark]'") from error
        session, begun = self._session, False
        if session is None or isinstance(session, str):
            active = SparkSession.getActiveSession() if session is None else None
            builder = SparkSession.builder.appName("batchwright")
            begun = active is None
            session = active or (builder.master(session) if session else builder).getOrCreate()
        try:
            self._windows(session, job, tasks, tell)
        finally:
            if begun:
                session.stop()

    def _windows(self, session, job, tasks, tell):
        try:
            context = session.sparkContext
        except Exception as error:
            raise ConfigError(
                "engines.Spark needs a classic session, and this one is of Spark Connect\n  help: run the driver on the cluster"
            ) from error
        shared = context.broadcast(job)
        window = self._window or _fitting(context)
        todo = collections.deque(range(0, len(tasks), window))
        group = f"batchwright-{id(tell)}"
        results: collections.deque[tuple[int, bytes]] = collections.deque()
        pool = concurrent.futures.ThreadPoolExecutor(_JOBS)
        running: dict[concurrent.futures.Future, int] = {}
        try:
            while todo or running:
                while todo and len(running) < _JOBS:
                    first = todo.popleft()
                    some = list(tasks[first : first + window])
                    running[pool.submit(_window, session, group, shared, first, some, self._threads)] = len(some)
                done, _ = concurrent.futures.wait(running, timeout=_TICK, return_when=concurrent.futures.FIRST_COMPLETED)
                tell.running(sum(n for future, n in running.items() if future not in done))
                for future in done:
                    running.pop(future)
                    results.extend(future.result())
                while results:
                    tell.done(*results.popleft())
        finally:
            if running:
                context.cancelJobGroup(group)
            pool.shutdown(wait=True, cancel_futures=True)
            shared.unpersist()


def _fitting(context) -> int:
    """Tasks whose results fill half of what a driver takes of a job, and at least as many as run at a time."""
    text = context.getConf().get("spark.driver.maxResultSize", "1g").lower().rstrip("b")
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    size = float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)
    most = int(size / 2 / _RESULT) if size else 1024
    return max(1, min(most, 4 * context.defaultParallelism))


def _window(session, group: str, shared, first: int, tasks: list[bytes], threads: int) -> list[tuple[int, bytes]]:
    """One Spark job."""
    context = session.sparkContext
    context.setJobGroup(group, "batchwright", interruptOnCancel=True)
    sent = context.broadcast(tasks)

    def work(batches):
        import pyarrow

        for batch in batches:
            for i in batch.column(0).to_pylist():
                result = run_task(shared.value, sent.value[i], threads)
                yield pyarrow.RecordBatch.from_arrays(
                    [pyarrow.array([i], pyarrow.int64()), pyarrow.array([result], pyarrow.binary())], ["task", "result"]
                )

    try:
        rows = session.range(0, len(tasks), 1, len(tasks)).mapInArrow(work, "task long, result binary").collect()
        return [(first + row.task, bytes(row.result)) for row in rows]
    finally:
        sent.unpersist()
