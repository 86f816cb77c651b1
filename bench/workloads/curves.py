"""How cost grows: listing against the number of files, writing and reading against their size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import (
    MIB,
    Row,
    Sample,
    Scale,
    make_small,
    microseconds_each,
    read_file,
    run,
    seconds_of,
    write_file,
)

_OCTETS = 64 * MIB
"""Written for each file size, in at most that many files:"""
_FILES = 2000
_CALL = 128 << 10


def curves(mount: Mount, scale: Scale) -> Iterator[Sample]:
    for count in scale.counts:
        yield from _listing(mount, count)
    for size in scale.sizes:
        yield from _size(mount, size)


def _listing(mount: Mount, count: int) -> Iterator[Sample]:
    directory = mount.path / "many"
    directory.mkdir()
    make = microseconds_each(count, lambda: make_small(directory / f"file {i}" for i in range(count)))
    yield Row("cost against count", f"create, {count} files", "µs each"), make
    mount.remount()
    listing = microseconds_each(count, lambda: run(["ls", "-lR", "many"], mount.path))
    yield Row("cost against count", f"ls -lR, {count} files", "µs each"), listing
    removal = microseconds_each(count, lambda: run(["rm", "-r", "many"], mount.path))
    yield Row("cost against count", f"rm -r, {count} files", "µs each"), removal


def _size(mount: Mount, size: int) -> Iterator[Sample]:
    count = max(1, min(_FILES, _OCTETS // size))
    directory = mount.path / "sized"
    directory.mkdir()
    paths = [directory / str(i) for i in range(count)]
    label = f"{size >> 20} MiB" if size >= MIB else f"{size >> 10} KiB"
    written = seconds_of(lambda: _write_all(paths, size))
    yield Row("cost against size", f"write files of {label}", "MiB/s"), count * size / MIB / written
    mount.remount()
    read = seconds_of(lambda: _read_all(paths))
    yield Row("cost against size", f"read files of {label}", "MiB/s"), count * size / MIB / read
    run(["rm", "-r", "sized"], mount.path)


def _write_all(paths: Sequence[Path], size: int) -> None:
    for path in paths:
        write_file(path, size, _CALL)


def _read_all(paths: Sequence[Path]) -> None:
    for path in paths:
        read_file(path, _CALL)
