"""Exporting a tree without a mount against copying its lower tree, in turns, to the same place."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.contenders import OURS
from fusecrypt.measure.errors import BenchError
from fusecrypt.measure.mount import Mount
from fusecrypt.measure.ours import Fusecrypt
from fusecrypt.measure.workload import MIB, Row, Sample, Scale, make_small, write_file

_IN_A_DIRECTORY = 100


class _Run(NamedTuple):
    seconds: float
    peak: int
    """Octets of memory."""


def export(mount: Mount, scale: Scale) -> Iterator[Sample]:
    """For us alone: many small files, then two large ones. Nothing is mounted while they are copied."""
    if mount.contender.name != OURS:
        return
    count, size = max(scale.counts, default=scale.small_files), scale.stream
    for first in range(0, count, _IN_A_DIRECTORY):
        directory = mount.path / f"directory {first}"
        directory.mkdir()
        make_small(directory / f"file {i}" for i in range(first, min(first + _IN_A_DIRECTORY, count)))
    exported, copied = _both(mount)
    what = f"{count} small files"
    yield Row("export", f"{what}, export", "µs each"), exported.seconds / count * 1e6
    yield Row("export", f"{what}, cp -a below", "µs each"), copied.seconds / count * 1e6
    yield Row("export", f"{what}, peak of export", "MiB"), exported.peak / MIB
    mount.clear()
    for name in ("one", "two"):
        write_file(mount.path / name, size, MIB)
    exported, copied = _both(mount)
    what = f"2 files of {size // MIB} MiB"
    yield Row("export", f"{what}, export", "MiB/s"), 2 * size / MIB / exported.seconds
    yield Row("export", f"{what}, cp -a below", "MiB/s"), 2 * size / MIB / copied.seconds
    yield Row("export", f"{what}, peak of export", "MiB"), exported.peak / MIB


def _both(mount: Mount) -> tuple[_Run, _Run]:
    """An export, and a copy of the lower tree, each with the caches as the other finds them."""
    place = mount.place
    mount.unmount()
    os.sync()
    out = str(place.directory / "copy")
    try:
        passfile = str(place.passfile)
        exported = _run([Fusecrypt.program, "export", "--passfile", passfile, str(place.lower), out])
        shutil.rmtree(out)
        copied = _run(["cp", "-a", str(place.lower), out])
    finally:
        shutil.rmtree(out, ignore_errors=True)
        mount.mount()
    return exported, copied


def _run(command: Sequence[str]) -> _Run:
    """Raises BenchError."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{command[0]}: status {process.returncode}")
    return _Run(seconds, usage.ru_maxrss * 1024)
