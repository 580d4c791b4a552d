"""The command `batchwright`, also as `python -m batchwright`."""

import signal
import sys

from ._core import main as run


def main() -> int:
    """Runs the command line of this process; a polite kill stops it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(["batchwright", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
