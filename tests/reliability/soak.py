"""The soak run behind script/soak: load, kills, remounts and verification for some minutes.

The same seed chooses the same work on the same tree; the moments of the kills are the clock's. Ends with one
line of figures, and with status 1 if anything was lost or cannot be read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.mount import support
from tests.reliability.cycles import Cycles

_REPORT = 60.0
"""Seconds between lines of progress."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/soak", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--kills", type=int, help="end after so many kills, if that is earlier")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the lower tree is made (a temporary directory)")
    parser.add_argument("-o", dest="options", action="append", default=[], help="options of the mount")
    arguments = parser.parse_args()
    support.PATIENCE = 120.0  # the machine may be busy; that is no failure
    words = tuple(word for option in arguments.options for word in ("-o", option))
    with tempfile.TemporaryDirectory(prefix="fusecrypt-soak-", dir=arguments.directory) as directory:
        cycles = Cycles(Path(directory, "lower"), arguments.seed, arguments.workers, words)
        _run(cycles, time.monotonic() + 60 * arguments.minutes, arguments.kills or sys.maxsize)
    print(f"seed {arguments.seed}: {cycles.figures}")
    return 1 if cycles.figures.wrong else 0


def _run(cycles: Cycles, end: float, kills: int) -> None:
    told = time.monotonic()
    while time.monotonic() < end and cycles.figures.kills < kills:
        before = len(cycles.figures.wrong)
        cycles.kill_once()
        for line in cycles.figures.wrong[before:]:
            print(line, flush=True)
        if time.monotonic() - told > _REPORT:
            told = time.monotonic()
            print(cycles.figures, flush=True)
    cycles.judge_at_the_end()


if __name__ == "__main__":
    sys.exit(main())
