"""strace on a daemon: which system calls it makes, and one of them made to fail or to be its last."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CALL = re.compile(r"^(\d+) +(\w+)\(")
_INJECTED = "(INJECTED)"


class Trace:
    """A running strace; ``log`` is complete once it has ended."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def calls(self) -> Counter[str]:
        """How often each call was made, by the thread that made it most."""
        by_thread = Counter(match.groups() for match in map(_CALL.match, self._lines()) if match)
        most: Counter[str] = Counter()
        for (_, name), n in by_thread.items():
            most[name] = max(most[name], n)
        return most

    def injected(self) -> list[str]:
        """The calls that were made to fail."""
        return [line for line in self._lines() if line.endswith(_INJECTED)]

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()


@contextmanager
def traced(pid: int, log: Path, calls: str, *expressions: str) -> Iterator[Trace]:
    """Attach to all threads of a process; ``expressions`` are strace's, such as ``inject=fsync:error=EIO``.

    Occurrences (``when=``) are counted in each thread from now on.
    """
    words = [word for expression in (f"trace={calls}", *expressions) for word in ("-e", expression)]
    command = ["strace", "-f", "-o", str(log), *words, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "attached" in first, first
        try:
            yield Trace(log)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=1)
            except subprocess.TimeoutExpired:  # it may wait in vain for threads of a killed process
                process.kill()


def failing(call: str, error: str, *path: str | Path) -> list[str]:
    """A command in front of another, in which a call fails: every one, or those on this path (as it stands in
    the call)."""
    only = [word for each in path for word in ("-P", str(each))]
    return [
        "strace",
        "-f",
        "-q",
        "-o",
        "/dev/null",
        *only,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={error}",
    ]
