"""How far a long run is: a bar or a line on a terminal, otherwise a plain line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from fusecrypt.cli.activity import amount
from fusecrypt.cli.terminal import say
from fusecrypt.offline.items import Tally
from fusecrypt.offline.lower import measure

_T = TypeVar("_T")
_REFRESH = 0.2
_LINE = 10.0
"""Seconds between two plain lines."""


@contextmanager
def progress(tally: Tally) -> Iterator[None]:
    """Show on standard error how far ``tally`` is, for as long as the context lasts."""
    with _bar(tally) if sys.stderr.isatty() else _lines(tally):
        yield


def expect_all(root_fd: int, tally: Tally) -> None:
    """Add up what there is below a directory, for somebody who watches: it takes a look at every object."""
    if sys.stderr.isatty():
        measure(root_fd, tally)


def with_progress(items: Iterable[_T], tally: Tally) -> Iterator[_T]:
    """Pass items on, which the caller prints; while it waits for one, show how far ``tally`` is."""
    if not sys.stderr.isatty():
        with _lines(tally):
            yield from items
        return
    line = _Line(tally)
    with _repeated(_REFRESH, line.draw):
        try:
            for item in items:
                line.clear()
                yield item
                line.wanted = True
        finally:
            line.clear()


class _Line:
    """A line on a terminal that makes way for others."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._shown = False
        self.wanted = True

    def draw(self) -> None:
        with self._lock:
            if self.wanted:
                text = _text(self._tally, time.monotonic() - self._start)
                print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
                self._shown = True

    def clear(self) -> None:
        with self._lock:
            self.wanted = False
            if self._shown:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
                self._shown = False


@contextmanager
def _lines(tally: Tally) -> Iterator[None]:
    start = time.monotonic()
    with _repeated(_LINE, lambda: say(_text(tally, time.monotonic() - start))):
        yield


def _text(tally: Tally, seconds: float) -> str:
    """``120 of 3000 objects, 1.0 of 9.5 GiB, 80.0 MiB/s, 0:01:46 left``; what there is and what is left only
    where it was added up."""
    rate = tally.octets / max(seconds, 0.001)
    if not tally.all_objects:
        return f"{tally.objects} objects, {amount(tally.octets)}, {amount(rate)}/s"
    text = (
        f"{tally.objects} of {tally.all_objects} objects, "
        f"{amount(tally.octets)} of {amount(tally.all_octets)}, {amount(rate)}/s"
    )
    if not rate:
        return text
    left = max(0, tally.all_octets - tally.octets) / rate
    return f"{text}, {timedelta(seconds=round(left))} left"


@contextmanager
def _bar(tally: Tally) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[objects]} objects"),
    )  # fmt: skip
    console = Console(stderr=True, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=None, objects="")

        def show() -> None:
            objects = f"{tally.objects} of {tally.all_objects}"
            bar.update(task, completed=tally.octets, total=tally.all_octets or None, objects=objects)

        with _repeated(_REFRESH, show):
            yield
        show()


@contextmanager
def _repeated(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            call()

    thread = threading.Thread(target=loop, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
