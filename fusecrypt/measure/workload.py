"""What workloads share: rows, how much they do, timing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fusecrypt.measure.errors import BenchError
from fusecrypt.measure.mount import Mount

MIB = 1 << 20
_HIGHER_IS_BETTER = ("MiB/s", "op/s")


class Row(NamedTuple):
    """One line of the report."""

    workload: str
    what: str
    unit: str

    @property
    def higher_is_better(self) -> bool:
        return self.unit in _HIGHER_IS_BETTER


Sample = tuple[Row, float]
Workload = Callable[[Mount, "Scale"], Iterator[Sample]]


@dataclass(frozen=True)
class Scale:
    """How much is done. Sizes in octets, times in seconds; ``counts`` and ``sizes`` are for cost curves,
    ``many`` for directories on a disk that are listed once in a run."""

    name: str
    rounds: int
    seconds: float
    """No further round starts after that."""
    stream: int
    random_file: int
    random_calls: int
    small_files: int
    clients: int
    tree_octets: int
    listed: int
    idle: float
    counts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    many: tuple[int, ...] = ()
    crypto: float = 0.05
    """For each figure of the native encryption."""

    @property
    def room(self) -> int:
        """Octets that a workload may need below at one time."""
        curve = max(self.counts, default=0) * 24_576  # a file's header, one extent and what holds them
        return 2 * max(self.stream, self.random_file, self.tree_octets, curve) + 64 * MIB


QUICK = Scale("quick", 3, 200.0, 256 * MIB, 64 * MIB, 8192, 1000, 4, 16 * MIB, 5000, 1.0)
FULL = Scale(
    "full", 5, 7200.0, 1024 * MIB, 256 * MIB, 65536, 10_000, 4, 1024 * MIB, 100_000, 5.0,
    counts=(1000, 10_000, 100_000), sizes=(4096, 65536, MIB, 16 * MIB, 256 * MIB),
    many=(10_000, 1_000_000), crypto=0.2,
)  # fmt: skip
TINY = Scale(
    "tiny", 1, 30.0, MIB, MIB, 64, 20, 2, MIB, 20, 0.05,
    counts=(10, 20), sizes=(4096, MIB), many=(10, 20), crypto=0.001,
)  # fmt: skip


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def microseconds_each(count: int, work: Callable[[], object]) -> float:
    return seconds_of(work) / count * 1e6


def run(arguments: Sequence[str], directory: Path) -> None:
    """A command of the system whose output is of no interest. Raises BenchError."""
    try:
        subprocess.run(
            arguments, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
        )
    except FileNotFoundError:
        raise BenchError(f"{arguments[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise BenchError(f"{arguments[0]}: {lines[-1] if lines else f'status {error.returncode}'}") from None


def write_file(path: Path, size: int, call: int, block: bytes = os.urandom(MIB)) -> None:
    """Write ``size`` octets in calls of ``call`` (at most 1 MiB), and see them through to the lower file."""
    data = block[: min(call, size)]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for _ in range(size // len(data) if data else 0):
            os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def read_file(path: Path, call: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        while os.read(fd, call):
            pass
    finally:
        os.close(fd)


SMALL = os.urandom(2048)
"""The contents of small files."""


def make_small(paths: Iterable[Path]) -> None:
    for path in paths:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, SMALL)
        os.close(fd)


def read_small(paths: Iterable[Path]) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)


def unlink_all(paths: Iterable[Path]) -> None:
    for path in paths:
        os.unlink(path)
