"""What a mount holds and uses: idle, and with many names known to the kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.mount import Mount, drop_caches
from bench.workloads.base import MIB, Row, Sample, Scale, make_small


def memory(mount: Mount, scale: Scale) -> Iterator[Sample]:
    if not mount.has_daemon:
        return
    directory = mount.path / "listed"
    directory.mkdir()
    make_small(directory / f"file {i}" for i in range(scale.listed))
    mount.remount()
    os.listdir(mount.path)
    yield from _idle(mount, scale)
    before = mount.usage().resident
    _list(directory)
    after = mount.usage().resident
    yield Row("memory", "each listed file", "octets"), (after - before) / scale.listed
    if drop_caches(2):
        time.sleep(scale.idle)
        yield Row("memory", "left when forgotten", "MiB"), mount.usage().resident / MIB


def _idle(mount: Mount, scale: Scale) -> Iterator[Sample]:
    time.sleep(scale.idle / 2)  # for what a daemon does at its beginning
    before = mount.usage()
    time.sleep(scale.idle)
    yield Row("memory", "idle", "MiB"), before.resident / MIB
    yield Row("memory", "CPU while idle", "%"), (mount.usage().cpu - before.cpu) / scale.idle * 100


def _list(directory: Path) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
