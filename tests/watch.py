"""What a test may leave behind (nothing), and what it may log: the machinery of conftest.py.

Several test runs on one machine do not see each other: a run marks its processes through the
environment and looks at mounts below its own temporary directories only.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FS_TYPE = "fuse.fusecrypt"
MARK = "FUSECRYPT_TEST_RUN"  # environment variable that every process of a run inherits
GRACE = 3.0  # seconds in which a daemon may end after its unmount
DESCRIPTORS_TOLERATED = 2  # opened once and kept by libraries, for instance /dev/urandom
MOUNT_ROOTS: list[Path] = []


def mark_processes() -> None:
    os.environ[MARK] = uuid.uuid4().hex


@dataclass(frozen=True)
class Snapshot:
    """Mounts, processes and descriptors at one moment."""

    mounts: frozenset[str]
    processes: frozenset[int]
    descriptors: dict[int, str]

    @classmethod
    def take(cls) -> Snapshot:
        return cls(frozenset(_mounts()), frozenset(_processes()), _descriptors())

    def leaks(self, descriptors: bool = True) -> list[str]:
        """What has appeared since and stays, as lines to show. It is removed, so that it is told once."""
        deadline = time.monotonic() + GRACE
        while True:
            mounts, processes = _mounts() - self.mounts, _processes() - self.processes
            if not (mounts or processes) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        lines = [f"mount left behind: {point}" for point in sorted(mounts)]
        lines += [f"process left behind: {pid} {' '.join(_arguments(pid))}" for pid in sorted(processes)]
        for point in mounts:
            _unmount(point)
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return lines + (self._descriptor_leaks() if descriptors else [])

    def _descriptor_leaks(self) -> list[str]:
        if len(self._new_descriptors()) > DESCRIPTORS_TOLERATED:
            gc.collect()  # some are closed with the objects that hold them
        new = self._new_descriptors()
        if len(new) <= DESCRIPTORS_TOLERATED:
            return []
        return [f"descriptor left behind: {fd} {target}" for fd, target in sorted(new.items())]

    def _new_descriptors(self) -> dict[int, str]:
        now = _descriptors()
        return {fd: target for fd, target in now.items() if self.descriptors.get(fd) != target}


def unmount_below(directory: Path) -> None:
    """Unmount what a failed test left there, so that the directory can be removed."""
    for point in _mounts():
        if Path(point).is_relative_to(directory):
            _unmount(point)


def _unmount(point: str) -> None:
    subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)


def _mounts() -> set[str]:
    """Mount points of this run's fusecrypt mounts."""
    points = set()
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, file_system = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split()[4])
        if file_system.split()[0] == FS_TYPE and _is_ours(Path(point)):
            points.add(point)
    return points


def _is_ours(point: Path) -> bool:
    return any(point.is_relative_to(root) for root in MOUNT_ROOTS)


def _processes() -> set[int]:
    """Processes of this run that are fusecrypt."""
    mark = f"{MARK}={os.environ.get(MARK)}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _is_fusecrypt(_arguments(int(name))):
            with suppress(FileNotFoundError, ProcessLookupError):
                if _has_mark(Path("/proc", name, "environ"), mark):
                    found.add(int(name))
    return found


def _has_mark(environment: Path, mark: bytes) -> bool:
    try:
        return mark in environment.read_bytes().split(b"\0")
    except PermissionError:  # a process that keeps others out, and we are not root
        return True


def _is_fusecrypt(arguments: list[str]) -> bool:
    """The installed command, with or without an interpreter in front, or a module of the package."""
    first = [os.path.basename(word).split(".")[0] for word in arguments[:4]]
    return "fusecrypt" in first


def _arguments(pid: int) -> list[str]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return [os.fsdecode(word) for word in words if word]


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own descriptor is closed by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


class ExpectedLog(logging.Handler):
    """Collects records from WARNING up; calling it says which are expected."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []
        self._patterns: list[str] = []

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)

    def __call__(self, *patterns: str) -> None:
        self._patterns += patterns

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(f"{record.levelname} {record.name}: {record.getMessage()}")

    def complaints(self) -> list[str]:
        """Records that nobody expected, and patterns that no record matched."""
        unexpected = [message for message in self._messages if not _matches(self._patterns, message)]
        text = "\n".join(self._messages)
        absent = [pattern for pattern in self._patterns if not re.search(pattern, text, re.MULTILINE)]
        return [f"unexpected log: {message}" for message in unexpected] + [
            f"expected log is absent: {pattern}" for pattern in absent
        ]


def _matches(patterns: Iterable[str], message: str) -> bool:
    return any(re.search(pattern, message) for pattern in patterns)
