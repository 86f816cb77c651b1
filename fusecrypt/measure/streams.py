"""One large file from end to end, in large and in small calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import MIB, Row, Sample, Scale, read_file, seconds_of, write_file

_CALLS = (("128 KiB", 128 << 10), ("4 KiB", 4 << 10))


def streams(mount: Mount, scale: Scale) -> Iterator[Sample]:
    """Writing includes fsync; reading starts with cold caches."""
    path = mount.path / "stream"
    for label, call in _CALLS:
        work = partial(write_file, path, scale.stream, call)
        yield from _measure(mount, scale, f"write, {label} calls", work)
    for label, call in _CALLS:
        mount.remount()
        yield from _measure(mount, scale, f"read, {label} calls", partial(read_file, path, call))


def _measure(mount: Mount, scale: Scale, what: str, work: Callable[[], None]) -> Iterator[Sample]:
    with mount.meter() as meter:
        seconds = seconds_of(work)
    yield Row("streams", what, "MiB/s"), scale.stream / MIB / seconds
    if mount.has_daemon:
        yield Row("streams", f"daemon's CPU, {what}", "s/GiB"), meter.seconds * 1024 * MIB / scale.stream
