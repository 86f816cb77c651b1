"""Directories of very many files on a disk: whether the time for each file, and the memory, stay bounded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.contenders import FLOOR, OURS
from bench.workloads.memory import listing
from fusecrypt.measure.errors import BenchError
from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import MIB, Row, Sample, Scale, microseconds_each

_LOWER = 10_240
"""Octets on disk for an empty file: its header and what holds it."""


def many(mount: Mount, scale: Scale) -> Iterator[Sample]:
    """Made once through the mount, for us and for the bare directory only: it takes minutes. They go with the
    lower directory, at the end."""
    if mount.contender.name not in (OURS, FLOOR) or not mount.on_disk:
        return
    for count in scale.many:
        _check_room(mount.path, count)
        directory = mount.path / f"{count} files"
        directory.mkdir()
        yield (
            Row("listing", f"make {count} files", "µs each"),
            microseconds_each(count, partial(_make, directory, count)),
        )
        mount.remount()
        yield from listing(mount, directory, count)


def _make(directory: Path, count: int) -> None:
    for i in range(count):
        os.mknod(directory / f"file {i}")


def _check_room(directory: Path, count: int) -> None:
    free, needed = shutil.disk_usage(directory).free, count * _LOWER
    if free < needed:
        raise BenchError(f"{count} files need {needed // MIB} MiB, {free // MIB} MiB are free")
