"""What a mount holds and uses: idle, and with many names known to the kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from fusecrypt.measure.mount import Mount, drop_caches
from fusecrypt.measure.workload import MIB, Row, Sample, Scale, make_small, microseconds_each

_PATIENCE = 300.0
"""Seconds that a daemon gets to forget."""


def memory(mount: Mount, scale: Scale) -> Iterator[Sample]:
    if not mount.has_daemon:
        return
    directory = mount.path / "listed"
    directory.mkdir()
    make_small(directory / f"file {i}" for i in range(scale.listed))
    mount.remount()
    os.listdir(mount.path)
    yield from _idle(mount, scale)
    yield from listing(mount, directory, scale.listed)


def _idle(mount: Mount, scale: Scale) -> Iterator[Sample]:
    time.sleep(scale.idle / 2)  # for what a daemon does at its beginning
    before = mount.usage()
    time.sleep(scale.idle)
    yield Row("memory", "idle", "MiB"), before.resident / MIB
    yield Row("memory", "CPU while idle", "%"), (mount.usage().cpu - before.cpu) / scale.idle * 100


def listing(mount: Mount, directory: Path, count: int) -> Iterator[Sample]:
    """The time to list a directory of ``count`` files with their attributes, and the daemon's memory."""
    before = mount.usage().resident
    yield Row("listing", f"{count} files", "µs each"), microseconds_each(count, lambda: _list(directory))
    if not mount.has_daemon:
        return
    yield Row("memory", f"each of {count} listed files", "octets"), (mount.usage().resident - before) / count
    if drop_caches(2):
        _settle(mount)
        yield Row("memory", f"left when {count} files are forgotten", "MiB"), mount.usage().resident / MIB


def _list(directory: Path) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)


def _settle(mount: Mount) -> None:
    """Wait until the daemon has nothing to do."""
    deadline = time.monotonic() + _PATIENCE
    cpu = -1.0
    while cpu != (now := mount.usage().cpu) and time.monotonic() < deadline:
        cpu = now
        time.sleep(0.5)
