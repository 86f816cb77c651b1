"""Random calls of 4 KiB in one file, with a cold cache, through the page cache; writes end with fsync."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import MIB, Row, Sample, Scale, seconds_of, write_file

_CALL = 4096


def random_calls(mount: Mount, scale: Scale) -> Iterator[Sample]:
    path = mount.path / "random"
    write_file(path, scale.random_file, MIB)
    chosen = Random(1).choices(range(0, scale.random_file, _CALL), k=scale.random_calls)  # noqa: S311
    for what, work in (("read", _read), ("write", _write)):
        mount.remount()
        seconds = seconds_of(partial(work, path, chosen))
        yield Row("random 4 KiB", what, "op/s"), len(chosen) / seconds


def _read(path: Path, offsets: Sequence[int]) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        for offset in offsets:
            os.pread(fd, _CALL, offset)
    finally:
        os.close(fd)


def _write(path: Path, offsets: Sequence[int]) -> None:
    block = os.urandom(_CALL)
    fd = os.open(path, os.O_WRONLY)
    try:
        for offset in offsets:
            os.pwrite(fd, block, offset)
        os.fsync(fd)
    finally:
        os.close(fd)
