"""One measurement of compare.py, in a process of its own: reads an epoch and prints what it took as one line of JSON.

With `check` the rows are looked at instead: that every row came once, with its own values."""

import argparse
import ctypes
import importlib.metadata
import json
import mmap
import os
import pathlib
import sys
import time


def bind(threads):
    """This process, and all that it starts, on so many processors. Before anything is imported: libraries count them then."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def files(path):
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def warm(paths):
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def cool(paths):
    """Drops files from the page cache; returns the share that is still there."""
    held = pages = 0
    libc = ctypes.CDLL(None, use_errno=True)
    for path in paths:
        size = path.stat().st_size
        if not size:
            continue
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            n = -(-size // mmap.PAGESIZE)
            with mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
                first, there = ctypes.c_char.from_buffer(mapped), (ctypes.c_ubyte * n)()
                if libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), there):
                    raise OSError(ctypes.get_errno(), "mincore", str(path))
                held, pages = held + sum(byte & 1 for byte in there), pages + n
                del first
    return held / max(1, pages)


def processes(pid=None):
    """The process and those that it started."""
    pid = pid or os.getpid()
    yield pid
    for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue
        for child in found:
            yield from processes(int(child))


class Memory:
    """Largest so far, in bytes: of the resident set (`peak`), in which pages of mapped files count, and of memory of its own (`own`), less
    what there was before. Worker processes count with their share of what they have in common. It is looked at four times a second;
    what the kernel keeps, the peak of a single process, is exact."""

    def __init__(self):
        try:
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # the largest so far is that of imports
        except OSError:
            pass
        self.peak = self.own = self.before = 0
        self.look()
        self.before, self.own = self.own, 0

    def look(self):
        self.next = time.perf_counter() + 0.25
        everyone = list(processes())
        if len(everyone) == 1:
            now = fields("/proc/self/status", "VmHWM", "RssAnon", "RssShmem")
        else:
            each = [fields(f"/proc/{pid}/smaps_rollup", "Pss", "Pss_Anon", "Pss_Shmem") for pid in everyone]
            now = [sum(values) for values in zip(*each, strict=True)]
        self.peak, self.own = max(self.peak, now[0]), max(self.own, now[1] + now[2] - self.before)


def fields(path, *names):
    """Bytes that a file of /proc tells; 0 of a process that is gone."""
    found = dict.fromkeys(names, 0)
    try:
        for line in pathlib.Path(path).read_text().splitlines():
            key, _, value = line.partition(":")
            if key in found:
                found[key] = int(value.split()[0]) * 1024
    except OSError:
        pass
    return list(found.values())


def processor_seconds():
    """Of this process and of its workers, as long as they are there."""
    ticks = 0
    for pid in list(processes())[1:]:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


class Check:
    """Which rows came, whether they are the rows that were written, and how far apart those of a batch lie."""

    def __init__(self, job):
        import numpy as np

        self.rows = job.rows
        self.embedding = np.memmap(job.folder / "numpy" / "embedding.f32", "f4", "r").reshape(job.rows, -1)
        self.label = np.memmap(job.folder / "numpy" / "label.i64", "i8", "r")
        self.seen, self.wrong, self.spreads = np.zeros(job.rows, "i4"), 0, []

    def batch(self, embedding, label, text):
        import numpy as np
        from data import DIGITS

        texts = text if isinstance(text, list) else text.to_pylist()
        rows = np.array([int(t[:DIGITS]) for t in texts])
        np.add.at(self.seen, rows, 1)
        same = (np.asarray(embedding) == self.embedding[rows]).all(1) & (np.asarray(label) == self.label[rows])
        self.wrong += int((~same).sum())
        if len(rows) > 1:
            self.spreads.append(rows.std() / (self.rows / 12**0.5))

    def result(self, complete):
        missing = int((self.seen == 0).sum()) if complete else 0
        spread = float(sum(self.spreads) / max(1, len(self.spreads)))
        return {"missing": missing, "twice": int((self.seen > 1).sum()), "wrong": self.wrong, "spread": spread}


def lazy_imports():
    """pyarrow imports pandas when it first meets NumPy: a third of a second that is no reader's."""
    try:
        import numpy as np
        import pyarrow as pa
    except ModuleNotFoundError:
        return
    pa.array(np.zeros(1)).to_numpy()


def epoch(job, cold, budget, check):
    from data import DIMS
    from readers import READERS

    batches = READERS[job.reader].run(job)
    next(batches)
    lazy_imports()
    inputs, left = files(job.path), 0.0
    if cold:
        left = cool(inputs)
    else:
        warm(inputs)
    look, memory = Check(job) if check else None, Memory()
    start = time.perf_counter()
    next(batches)
    opened, used = time.perf_counter() - start, processor_seconds()
    rows, labels, complete, first = 0, 0, True, None
    start = last = time.perf_counter()
    for embedding, label, text in batches:
        n = len(label)
        if tuple(embedding.shape) != (n, DIMS) or not str(embedding.dtype).endswith("float32") or len(text) != n:
            raise ValueError(f"a batch of {embedding.dtype} {tuple(embedding.shape)}, {n} labels and {len(text)} texts")
        labels += int(label.sum())
        if look:
            look.batch(embedding, label, text)
        rows, last = rows + n, time.perf_counter()
        first = last - start if first is None else first
        if last > memory.next:
            memory.look()
            if last - start > budget:
                complete = False
                break
    used = processor_seconds() - used
    memory.look()
    batches.close()
    found = {"rows": rows, "labels": labels, "complete": complete, "seconds": last - start, "first": first, "open": opened, "cpu": used}
    found |= {"peak": memory.peak, "own": memory.own, "still_cached": left}
    return found | (look.result(complete) if look else {})


def versions():
    """Of what was imported, by the names of packages."""
    owners = importlib.metadata.packages_distributions()
    names = {name for module in ("batchwright", "datasets", "lance", "litdata", "numpy", "polars", "pyarrow", "streaming", "torch", "webdataset")
             if module in sys.modules for name in owners.get(module, [])}  # fmt: skip
    return {"python": sys.version.split()[0]} | {name: importlib.metadata.version(name) for name in sorted(names)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "check", "write"))
    parser.add_argument("job", help="JSON: the fields of readers.Job; for `write` folder, rows and the name of the copy")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--budget", type=float, default=60)
    args = parser.parse_args()
    given = json.loads(args.job)
    given["folder"] = pathlib.Path(given["folder"])
    if args.what == "write":
        from data import write

        write(given["folder"], given["name"], given["rows"])
        return
    bind(given["threads"])
    from readers import Job

    found = epoch(Job(**given), args.cold, args.budget, args.what == "check")
    print("\n" + json.dumps(found | {"versions": versions()}), flush=True)


if __name__ == "__main__":
    main()
