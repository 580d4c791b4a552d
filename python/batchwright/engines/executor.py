"""Worker processes through `concurrent.futures.Executor`: the standard library's, Dask's, MPI's."""

import collections
import concurrent.futures
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence

from .._core import Tell, run_task
from .._errors import ConfigError

_TICK = 0.05


class Executor:
    """Tasks on an executor, or on those that a function makes: a process that is killed breaks a standard pool for good, and with a
    function another one is made, in which only the tasks without a result run again.

        Executor(lambda: ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")))
        Executor(dask.distributed.Client(address).get_executor(), share="/shared/tmp")
        Executor(mpi4py.futures.MPIPoolExecutor(), share="/shared/tmp")

    `threads`: of a task. `retries`: how many pools in a row may break without having finished a task. `share`: a directory that all
    workers see, where the job lies for the time of the run; by default a temporary one of this machine. `in_flight`: tasks handed
    out at a time; by default two for each worker where the executor tells how many it has, else 256."""

    def __init__(
        self,
        make: concurrent.futures.Executor | Callable[[], concurrent.futures.Executor],
        threads: int = 1,
        retries: int = 3,
        share: str | os.PathLike[str] | None = None,
        in_flight: int | None = None,
    ):
        self._given = make if isinstance(make, concurrent.futures.Executor) else None
        self._make = None if isinstance(make, concurrent.futures.Executor) else make
        self._threads, self._retries = threads, retries
        self._share, self._in_flight = share, in_flight

    def run(self, job: bytes, tasks: Sequence[bytes], tell: Tell) -> None:
        """Called by a run."""
        folder = tempfile.mkdtemp(prefix="batchwright-", dir=self._share)
        path = os.path.join(folder, "job")
        try:
            with open(path, "wb") as file:
                file.write(job)
            self._pools(path, tasks, tell)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _pools(self, path: str, tasks: Sequence[bytes], tell: Tell) -> None:
        todo = collections.deque(range(len(tasks)))
        broken = 0
        while todo:
            left = len(todo)
            pool = self._make() if self._make else self._given
            assert pool is not None
            try:
                lost, error = self._tasks(pool, path, tasks, todo, tell)
            except BaseException:
                if self._make:
                    _end(pool)
                raise
            if self._make:
                pool.shutdown(wait=error is None)
            if error is None:
                continue
            broken = broken + 1 if len(todo) == left else 1
            if not self._make:
                raise ConfigError(
                    f"a worker process was lost ({error}), and the executor with it\n  help: give engines.Executor a function that "
                    "makes the executor, so that it can be made again"
                ) from error
            if broken > self._retries:
                raise ConfigError(
                    f"{broken} pools in a row have broken without finishing a task ({error})\n  help: where the workers end at "
                    'once, put the call under `if __name__ == "__main__":`; where they run out of memory, take smaller tasks '
                    "(--task-bytes) or fewer processes"
                ) from error
            for task in lost:
                tell.retried(task)

    def _tasks(self, pool, path, tasks, todo, tell):
        """Runs what is to do, until it is done or the pool has broken: then the tasks that were lost, which are to do again, and why."""
        most = self._in_flight or 2 * (getattr(pool, "_max_workers", None) or 128)
        running: dict[concurrent.futures.Future, int] = {}
        try:
            while todo or running:
                while todo and len(running) < most:
                    running[pool.submit(_work, path, tasks[todo[0]], self._threads)] = todo[0]
                    todo.popleft()
                done, _ = concurrent.futures.wait(
                    running, timeout=_TICK, return_when=concurrent.futures.FIRST_COMPLETED
                )
                tell.running(len(running) - len(done))
                for future in done:
                    result = future.result()
                    tell.done(running.pop(future), result)
            return [], None
        except concurrent.futures.BrokenExecutor as error:
            # Others of the same pool may have been done before it broke.
            for future, task in list(running.items()):
                if future.done() and not future.cancelled() and future.exception() is None:
                    tell.done(running.pop(future), future.result())
            lost = sorted(running.values())
            todo.extendleft(reversed(lost))
            return lost, error
        finally:
            for future in running:
                future.cancel()


def processes(count: int, threads: int = 1) -> Executor:
    """As many worker processes of this machine; what `--engine processes:N` means. They are started afresh ("spawn"), so a script
    calls this below `if __name__ == "__main__":`."""
    spawn = multiprocessing.get_context("spawn")

    def make() -> concurrent.futures.Executor:
        return concurrent.futures.ProcessPoolExecutor(count, mp_context=spawn, initializer=_begin, initargs=(os.getpid(),))

    return Executor(make, threads)


def _begin(driver: int) -> None:
    """In a worker process: Ctrl-C is the driver's business, and without a driver there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end(pool: concurrent.futures.Executor) -> None:
    """Ends a pool whose results nobody waits for, at once where it is one of processes."""
    workers = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


_job: tuple[str, bytes] | None = None


def _work(path: str, task: bytes, threads: int) -> bytes:
    """In a worker process."""
    global _job
    if _job is None or _job[0] != path:
        try:
            with open(path, "rb") as file:
                _job = (path, file.read())
        except FileNotFoundError as error:
            raise ConfigError(
                f"a worker does not see {path}\n  help: name a directory that all workers see: engines.Executor(.., share=DIR)"
            ) from error
    return run_task(_job[1], task, threads)
