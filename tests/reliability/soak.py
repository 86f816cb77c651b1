"""The soak run behind script/soak: load, kills, remounts and verification for some minutes.

The same seed chooses the same work on the same tree; the moments of the kills are the clock's. Ends with one
line of figures, and with status 1 if anything was lost or cannot be read. A run that was interrupted goes on
when it is begun again in the same way, on a new tree with the next seed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.mount import support
from tests.reliability.cycles import Cycles
from tests.reliability.progress import OtherRunError, Progress

_REPORT = 60.0
"""Seconds between lines of progress."""
_INTERRUPTED = 130
_PARTS = 1000
"""Seeds of one run's parts: seed, seed + 1000, seed + 2000, and so on."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/soak", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument(
        "--kills", type=int, default=sys.maxsize, help="end after so many, if that is earlier"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the lower tree is made (a temporary directory)")
    parser.add_argument("-o", dest="options", action="append", default=[], help="options of the mount")
    state = Path("build/soak.json")
    parser.add_argument("--state", type=Path, default=state, help=f"where progress is kept ({state})")
    arguments = parser.parse_args(words)
    support.PATIENCE = 120.0  # the machine may be busy; that is no failure
    asked = {name: getattr(arguments, name) for name in ("minutes", "kills", "seed", "workers", "options")}
    try:
        progress = Progress.read(arguments.state, asked)
    except OtherRunError as error:
        parser.error(str(error))
    if progress.parts:
        print(f"going on after {progress.seconds / 60:.1f} minutes: {progress.figures}", flush=True)
    ended = _run(progress, arguments.directory)
    seeds = ", ".join(str(arguments.seed + _PARTS * part) for part in range(progress.parts))
    print(f"{progress.seconds / 60:.1f} minutes, seed {seeds}: {progress.figures}")
    if not ended:
        print("interrupted; the same command goes on", file=sys.stderr)
        return _INTERRUPTED
    progress.end()
    return 1 if progress.figures.wrong else 0


def _run(progress: Progress, where: Path | None) -> bool:
    """Do what is left; False if somebody interrupted that."""
    asked = progress.asked
    options = tuple(word for option in asked["options"] for word in ("-o", option))
    seed = asked["seed"] + _PARTS * progress.parts
    progress.parts += 1
    interrupted = _until_interrupted()
    with tempfile.TemporaryDirectory(prefix="fusecrypt-soak-", dir=where) as directory:
        cycles = Cycles(Path(directory, "lower"), seed, asked["workers"], options, figures=progress.figures)
        told = time.monotonic()
        while progress.seconds < 60 * asked["minutes"] and progress.figures.kills < asked["kills"]:
            if interrupted():
                break
            begun, before = time.monotonic(), len(progress.figures.wrong)
            cycles.kill_once()
            progress.seconds += time.monotonic() - begun
            progress.write()
            for line in progress.figures.wrong[before:]:
                print(line, flush=True)
            if time.monotonic() - told > _REPORT:
                told = time.monotonic()
                print(progress.figures, flush=True)
        cycles.judge_at_the_end()
    progress.write()
    return not interrupted()


def _until_interrupted() -> Callable[[], bool]:
    """Says whether a signal asked for the end: the cycle that it meets goes on to its own."""
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    return lambda: bool(signals)


if __name__ == "__main__":
    sys.exit(main())
