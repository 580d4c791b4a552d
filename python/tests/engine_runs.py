"""The command line with engines that tests make: `python engine_runs.py ENGINE ARGUMENTS..`, where the arguments say `--engine test`."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import signal
import sys
import time

import batchwright.engines
from batchwright import _core, engines
from batchwright.engines import executor

SPAWN = multiprocessing.get_context("spawn")


def once(name: str) -> bool:
    """Whether nobody has asked before, in any process."""
    try:
        os.close(os.open(os.path.join(os.environ["ENGINE_TEST_DIR"], name), os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False


def deadly(path: str, task: bytes, threads: int) -> bytes:
    """The second task that is taken kills its worker."""
    if not once("first") and once("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return executor._work(path, task, threads)


def endless(path: str, task: bytes, threads: int) -> bytes:
    once("begun")
    time.sleep(600)
    return b""


def foreign(path: str, task: bytes, threads: int) -> bytes:
    job = pathlib.Path(path).read_bytes()
    at = job.index(b"source ") + len(b"source ")
    other = b"1" if job[at : at + 1] == b"0" else b"0"
    return _core.run_task(job[:at] + other + job[at + 1 :], task, threads)


class Instead(engines.Executor):
    """Worker processes that do something else."""

    def __init__(self, work, count: int = 2):
        super().__init__(lambda: Pool(work, count))


class Pool(concurrent.futures.ProcessPoolExecutor):
    def __init__(self, work, count: int):
        super().__init__(count, mp_context=SPAWN)
        self._instead = work

    def submit(self, work, *args):
        return super().submit(self._instead, *args)


def ray_cluster():
    """Two raylets; the second one's node is lost in the middle of the pass."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False)

    class Losing:
        def __init__(self, tell):
            self._tell, self._done = tell, 0

        def done(self, task, result):
            self._tell.done(task, result)
            self._done += 1
            if self._done == 2 and once("lost"):
                cluster.remove_node(node)

        def retried(self, task):
            self._tell.retried(task)

        def running(self, tasks):
            self._tell.running(tasks)

    class Lossy(engines.Ray):
        def run(self, job, tasks, tell):
            super().run(job, tasks, Losing(tell))

    return Lossy(in_flight=4)


def spark_cluster():
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local-cluster[2,1,1024]").config("spark.ui.enabled", "false")
    for name in ("PYTHONPATH", "ENGINE_TEST_DIR"):
        builder = builder.config(f"spark.executorEnv.{name}", os.environ[name])
    return engines.Spark(builder.getOrCreate(), window=4)


def dask_cluster():
    from dask.distributed import Client, LocalCluster

    return engines.Executor(Client(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)).get_executor())


ENGINES = {
    "killed": lambda: Instead(deadly),
    "endless": lambda: Instead(endless),
    "foreign": lambda: Instead(foreign),
    "folder": lambda: engines.Folder(os.environ["ENGINE_TEST_FOLDER"], lease=2.0),
    "instance": lambda: Pool(deadly, 2),
    "ray": ray_cluster,
    "spark": spark_cluster,
    "dask": dask_cluster,
    "nothing": lambda: object(),
}

if __name__ == "__main__":
    made = ENGINES[sys.argv[1]]()
    if isinstance(made, Pool):
        made = engines.Executor(made)
    batchwright.engines.named = lambda name: made
    sys.exit(_core.main(["batchwright", *sys.argv[2:]]))
