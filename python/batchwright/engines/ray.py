"""A Ray cluster (Ray Core; https://docs.ray.io)."""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .._core import Tell, run_task
from .._errors import ConfigError

_TICK = 0.05
_OUT_OF_MEMORY = 3


class Ray:
    """Tasks of a Ray cluster, spread over its nodes. `address`: as `ray.init` takes it; by default the cluster that this process is
    part of, else one of this machine. `num_cpus` and `memory` (bytes) are what a task asks for, `num_cpus` also how many threads it
    has. `in_flight`: tasks that Ray knows of at a time; many, so that a cluster grows. `runtime_env`: how workers get the package,
    for example `{"pip": ["batchwright"]}`. `options`: more options of the remote function.

    Lost workers and nodes cost a task one more try, as often as it takes. When nothing waits, a task that takes three times as long
    as half of the others is started once more, and the first result counts."""

    def __init__(
        self,
        address: str | None = None,
        num_cpus: float = 1,
        memory: int | None = None,
        in_flight: int | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        self._address, self._num_cpus, self._memory = address, num_cpus, memory
        self._in_flight, self._runtime_env, self._options = in_flight, runtime_env, dict(options or {})

    def run(self, job: bytes, tasks: Sequence[bytes], tell: Tell) -> None:
        """Called by a run."""
        try:
            import ray
        except ImportError as error:
            raise ConfigError("engines.Ray needs ray\n  help: pip install 'batchwright[ray]'") from error
        begun = not ray.is_initialized()
        if begun:
            ray.init(self._address, runtime_env=dict(self._runtime_env or {}) or None, log_to_driver=False)
        try:
            self._tasks(ray, job, tasks, tell)
        finally:
            if begun:
                ray.shutdown()

    def _tasks(self, ray, job, tasks, tell):
        threads = max(1, int(self._num_cpus))
        options = {"num_cpus": self._num_cpus, "max_retries": -1, "scheduling_strategy": "SPREAD", **self._options}
        if self._memory is not None:
            options["memory"] = self._memory
        if self._runtime_env and "runtime_env" not in options:
            options["runtime_env"] = dict(self._runtime_env)
        work = ray.remote(run_task_of).options(**options)
        shared = ray.put(job)
        todo = collections.deque(range(len(tasks)))
        running: dict[Any, tuple[int, float]] = {}
        took: list[float] = []
        done: set[int] = set()
        twice: set[int] = set()
        killed: collections.Counter[int] = collections.Counter()

        def start(task: int) -> None:
            running[work.remote(shared, tasks[task], threads)] = (task, time.monotonic())

        try:
            while len(done) < len(tasks):
                most = self._in_flight or max(256, 2 * int(ray.cluster_resources().get("CPU", 1)))
                while todo and len(running) < most:
                    start(todo.popleft())
                ready, _ = ray.wait(list(running), num_returns=1, timeout=_TICK)
                tell.running(len(running) - len(ready))
                for ref in ready:
                    task, begun = running.pop(ref)
                    if task in done:
                        continue
                    try:
                        result = ray.get(ref)
                    except ray.exceptions.OutOfMemoryError as error:
                        killed[task] += 1
                        if killed[task] == _OUT_OF_MEMORY:
                            raise ConfigError(
                                f"task {task} was killed for its memory {_OUT_OF_MEMORY} times\n  help: say what a task needs "
                                "with engines.Ray(memory=BYTES), or take smaller tasks (--task-bytes)"
                            ) from error
                        tell.retried(task)
                        todo.appendleft(task)
                        continue
                    took.append(time.monotonic() - begun)
                    done.add(task)
                    tell.done(task, result)
                    del ref
                if not todo and len(took) > len(tasks) // 2:
                    slow = 3 * statistics.median(took)
                    for task, begun in list(running.values()):
                        if task not in twice and time.monotonic() - begun > slow + 1:
                            twice.add(task)
                            start(task)
                            break
        finally:
            for ref in running:
                ray.cancel(ref, force=True)


def run_task_of(job: bytes, task: bytes, threads: int) -> bytes:
    """In a worker. Ray hands over what the first argument refers to."""
    return run_task(job, task, threads)
