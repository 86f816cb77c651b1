"""Processes that may be left waiting for a call."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from tests.mount.support import PATIENCE
from tests.mount.users import PYTHON

A_WHILE = 0.3
"""Seconds after which somebody who still waits is said to wait."""

OPEN = "fd = os.open({!r}, os.O_RDWR)".format


class Caller:
    """A process that makes one call when it is told to, and may be left waiting."""

    def __init__(self, where: Path, prepared: str, call: str) -> None:
        steps = ("import os", f"os.chdir({str(where)!r})", prepared, "print(flush=True); input()", call)
        program = "\n".join(steps)
        command = [PYTHON, "-I", "-S", "-c", program]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"\n"

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    @property
    def waits(self) -> bool:
        try:
            self._process.wait(A_WHILE)
        except subprocess.TimeoutExpired:
            return True
        return False

    def returns(self) -> bool:
        """Whether the call has come back without an error."""
        return self._process.wait(PATIENCE) == 0

    def can_be_killed(self) -> bool:
        self._process.kill()
        return self._process.wait(PATIENCE) == -signal.SIGKILL


def all_wait(callers: Iterable[Caller]) -> bool:
    """Whether none of them comes back for a while."""
    time.sleep(A_WHILE)
    return all(caller._process.poll() is None for caller in callers)
