"""The daemons behind mounts: they come back to us as orphans; their memory and CPU."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """CPU seconds so far, resident octets now and at most."""

    cpu: float
    resident: int
    peak: int


def adopt_orphans() -> None:
    """Become the parent of daemons that detach from the command that started them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> set[int]:
    """Processes below this one, zombies included."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            parents[int(name)] = int(fields[1])
    found: set[int] = set()
    frontier = {os.getpid()}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def usage(pids: Collection[int]) -> Usage:
    """The sum over processes; those that are gone count nothing."""
    cpu = resident = peak = 0
    for pid in pids:
        fields = _stat(pid)
        if not fields:
            continue
        cpu += int(fields[11]) + int(fields[12])
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            resident += _octets(status, "VmRSS:")
            peak += _octets(status, "VmHWM:")
    return Usage(cpu / _TICKS, resident, peak)


def forget_peaks(pids: Collection[int]) -> None:
    """Let the greatest resident size be measured from now on."""
    for pid in pids:
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def wait_for_end(pids: Collection[int], patience: float) -> bool:
    """Wait until all have ended, and reap them; after ``patience`` seconds kill the rest.

    Returns whether they ended by themselves.
    """
    deadline = time.monotonic() + patience
    left = set(pids)
    while left := {pid for pid in left if _lives(pid)}:
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            for pid in left:
                _lives(pid)
            return False
        time.sleep(0.005)
    return True


def _lives(pid: int) -> bool:
    """Whether it still runs; a child that has ended is reaped."""
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    return bool(_stat(pid))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on, or none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def _octets(status: str, field: str) -> int:
    at = status.find(field)
    return 0 if at < 0 else int(status[at + len(field) :].split(None, 1)[0]) * 1024
