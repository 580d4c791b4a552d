"""Engines: where `plan`, `update` and `check` read the data, with the same result everywhere.

    import batchwright.engines as engines

    engines.Executor(make)     # worker processes of this machine; Dask; MPI
    engines.Ray()              # a Ray cluster
    engines.Spark()            # a Spark cluster
    engines.Folder("/shared")  # a directory in which `batchwright work` does the tasks, on any machine

An engine is any object with a method `run(job, tasks, tell)`: it has `batchwright._core.run_task(job, task, threads)` called for
every task (bytes) in a process that sees the data, reports each result with `tell.done(i, result)` in any order, and calls
`tell.running(n)` at least every 100 ms. A call of `tell` raises once the run has ended, by Ctrl-C or because a task has failed;
`run` then cancels what it has begun and lets the exception through."""

from .._core import Folder, Tell, run_task
from .executor import Executor, processes
from .ray import Ray
from .spark import Spark

__all__ = ["Executor", "Folder", "Ray", "Spark", "Tell", "named", "processes", "run_task"]


def named(name: str):
    """The engine that `--engine NAME` means: `processes:N`, `ray`, `ray:ADDRESS`, `spark` or `spark:MASTER`. None: it is none of this
    package's."""
    from .._errors import ConfigError

    kind, _, rest = name.partition(":")
    if kind == "processes":
        if not rest.isdigit() or int(rest) == 0:
            raise ConfigError(f"`{name}`: expected a number of processes, such as processes:4")
        return processes(int(rest))
    if kind == "ray":
        return Ray(rest or None)
    if kind == "spark":
        return Spark(rest or None)
    return None
