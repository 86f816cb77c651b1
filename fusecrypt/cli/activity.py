"""One line on the terminal that tells how far a command is, out of the way of what it prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")
_INTERVAL = 0.2
_UNITS = ("octets", "KiB", "MiB", "GiB", "TiB")


def with_activity(items: Iterable[_T], text: Callable[[], str]) -> Iterator[_T]:
    """Pass items on; between them show ``text()`` on a terminal, a few times a second.

    The line is gone whenever the caller has an item, so it may print.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    due, shown = time.monotonic() + _INTERVAL, False
    for item in items:
        if shown:
            _clear()
            shown = False
        yield item
        if time.monotonic() >= due:
            sys.stdout.flush()
            print(text(), end="", file=sys.stderr, flush=True)
            due, shown = time.monotonic() + _INTERVAL, True
    if shown:
        _clear()


def _clear() -> None:
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def amount(octets: float) -> str:
    """``1.5 GiB``."""
    for unit in _UNITS[:-1]:
        if octets < 1024:
            return f"{octets:.0f} {unit}" if unit == _UNITS[0] else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} {_UNITS[-1]}"
