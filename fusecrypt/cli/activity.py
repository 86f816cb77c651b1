"""One line on the terminal that tells how far a command is, out of the way of what it prints."""

from __future__ import annotations

import sys
import time

_INTERVAL = 0.2
_UNITS = ("octets", "KiB", "MiB", "GiB", "TiB")


class Activity:
    """The line, drawn a few times a second if standard error is a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._due = time.monotonic() + _INTERVAL
        self._shown = False

    def show(self, text: str) -> None:
        """Show a text in place of the one before, if it is time to."""
        if self._terminal and time.monotonic() >= self._due:
            sys.stdout.flush()
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._due, self._shown = time.monotonic() + _INTERVAL, True

    def clear(self) -> None:
        """Make room for other lines."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


def amount(octets: float) -> str:
    """``1.5 GiB``."""
    for unit in _UNITS[:-1]:
        if octets < 1024:
            return f"{octets:.0f} {unit}" if unit == _UNITS[0] else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} {_UNITS[-1]}"
