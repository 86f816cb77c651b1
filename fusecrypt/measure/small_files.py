"""Files of 2 KiB in one directory: each made, looked at, read and removed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import (
    Row,
    Sample,
    Scale,
    make_small,
    microseconds_each,
    read_small,
    unlink_all,
)


def small_files(mount: Mount, scale: Scale) -> Iterator[Sample]:
    directory = mount.path / "small"
    directory.mkdir()
    count = scale.small_files
    paths = [directory / f"file {i}" for i in range(count)]

    def row(what: str) -> Row:
        return Row("small files", what, "µs each")

    yield row("create"), microseconds_each(count, lambda: make_small(paths))
    mount.remount()
    yield row("stat, cold"), microseconds_each(count, lambda: [os.stat(path) for path in paths])
    yield row("stat, warm"), microseconds_each(count, lambda: [os.stat(path) for path in paths])
    yield row("read, names known"), microseconds_each(count, lambda: read_small(paths))
    yield row("read, warm"), microseconds_each(count, lambda: read_small(paths))
    mount.remount()
    yield row("read, cold"), microseconds_each(count, lambda: read_small(paths))
    yield row("delete"), microseconds_each(count, lambda: unlink_all(paths))
