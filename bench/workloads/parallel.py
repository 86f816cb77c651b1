"""Several clients at once, each with a directory of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import (
    MIB,
    Row,
    Sample,
    Scale,
    make_small,
    read_file,
    read_small,
    seconds_of,
    unlink_all,
    write_file,
)


def parallel(mount: Mount, scale: Scale) -> Iterator[Sample]:
    n = scale.clients
    directories = [mount.path / f"client {i}" for i in range(n)]
    for directory in directories:
        directory.mkdir()
    each = scale.small_files // n
    names = [[directory / f"file {i}" for i in range(each)] for directory in directories]
    large = [directory / "large" for directory in directories]
    size = scale.stream // n

    with ProcessPoolExecutor(n, mp_context=get_context("fork")) as pool:

        def together(work: Callable[..., None], *arguments: Sequence[object]) -> float:
            return seconds_of(lambda: list(pool.map(work, *arguments)))

        def small(what: str, work: Callable[..., None]) -> Sample:
            return Row(f"{n} clients", what, "µs each"), together(work, names) / (n * each) * 1e6

        yield small("create small files", make_small)
        yield small("read small files", read_small)
        yield small("delete small files", unlink_all)
        together(write_file, large, [size] * n, [MIB] * n)
        mount.remount()
        seconds = together(read_file, large, [128 << 10] * n)
        yield Row(f"{n} clients", "read, cold", "MiB/s"), n * size / MIB / seconds
