"""Several processes at once: each runs a few lines of Python in a directory of a mount."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.mount.users import PYTHON

_PATIENCE = 60.0
"""Seconds for a process to end after its time: far more than a busy machine needs."""
_FRAME = """
import errno, mmap, os, random, sys, time
from pathlib import Path
os.chdir(sys.argv[1])
me, end = int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
chance = random.Random(me)
rounds = 0
def running():
    global rounds
    rounds += 1
    return rounds <= 3 or time.monotonic() < end  # a busy machine leaves too little time for once
"""


@contextmanager
def crowd(where: Path, programs: Sequence[str], seconds: float) -> Iterator[None]:
    """Run programs beside the block; each must end well.

    They work while ``running()`` says so; ``me`` is their number, ``chance`` a generator of their own.
    """
    started = [
        subprocess.Popen(
            [PYTHON, "-I", "-S", "-c", _FRAME + program, where, str(number), str(seconds)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, program in enumerate(programs)
    ]
    try:
        yield
        deadline = time.monotonic() + seconds + _PATIENCE
        for number, process in enumerate(started):
            _, said = process.communicate(timeout=deadline - time.monotonic())
            assert process.returncode == 0, f"process {number}: {said}"
    finally:
        for process in started:
            process.kill()
            process.communicate()


def together(where: Path, programs: Sequence[str], seconds: float = 1.0) -> None:
    """The same with nothing beside."""
    with crowd(where, programs, seconds):
        pass
