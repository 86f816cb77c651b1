"""How far a long copy is: a bar on a terminal, otherwise a plain line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from fusecrypt.cli.activity import amount
from fusecrypt.cli.terminal import say
from fusecrypt.offline.items import Tally

_REFRESH = 0.2
_LINE = 10.0
"""Seconds between two plain lines."""


@contextmanager
def progress(tally: Tally) -> Iterator[None]:
    """Show on standard error how far ``tally`` is, for as long as the context lasts."""
    with _bar(tally) if sys.stderr.isatty() else _lines(tally):
        yield


@contextmanager
def _lines(tally: Tally) -> Iterator[None]:
    start = time.monotonic()
    with _repeated(_LINE, lambda: say(_text(tally, time.monotonic() - start))):
        yield


def _text(tally: Tally, seconds: float) -> str:
    """``120 of 3000 objects, 1.0 of 9.5 GiB, 80.0 MiB/s, 0:01:46 left``"""
    rate = tally.octets / max(seconds, 0.001)
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
