"""The contents of one file, from one open file to another, as far as they can be read."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fusecrypt.offline.show import PIECE
from fusecrypt.ondisk.extents import EXTENT
from fusecrypt.tree.files import OpenFile

_local = threading.local()


class StoppedError(Exception):
    """Somebody wants the copy to end."""


class ReadError(Exception):
    """The source failed, with ``cause``; ``saved`` octets of the file could be read all the same."""

    def __init__(self, cause: OSError, saved: int) -> None:
        super().__init__(cause)
        self.cause = cause
        self.saved = saved


Going = Callable[[int], None]
"""Hears of octets that were copied, and raises StoppedError when somebody wants the copy to end."""


def copy_contents(source: OpenFile, target: OpenFile, going: Going, salvage: bool) -> None:
    """Copy all of a file, a MiB at a time.

    Raises OSError for the target, and ReadError for the source: with ``salvage`` once all extents that can be
    read have been copied, each to its place, and zeros stand for those before the last of them.
    """
    buffer = _buffer()
    offset = 0
    while True:
        try:
            n = source.read_into(buffer, offset, PIECE)
        except OSError as error:
            if not salvage or error.errno != errno.EIO:
                raise ReadError(error, 0) from None
            raise ReadError(error, offset + _salvage(source, target, offset, going)) from None
        if n:
            target.write(offset, buffer[:n])
            offset += n
            going(n)
        if n < PIECE:
            return


Carry = Callable[[OpenFile, OpenFile, Going, bool], None]
"""What copies the contents of a large file, as :func:`copy_contents` does."""

Part = tuple[bytes, Sequence[bytes]]
"""Files of one lower directory: its path from the lower root, and their lower names."""


class Carried(NamedTuple):
    """What became of many files, each a draft that is named by a number, ``first`` or above; ``results`` as
    copies.copy_many() has them. Where ``errno`` is set, there is none."""

    first: int
    results: bytes
    errno: int = 0


CarryMany = Callable[[bytes, Sequence[Part], Going], Carried]
"""What copies small files into a directory, which is a path, and flushes them. Raises OSError, TreeError."""


class Workers(NamedTuple):
    """Who carries contents: how many files or batches at once, and how. Without ``carry_many`` batches are
    copied here."""

    at_once: int
    carry: Carry = copy_contents
    carry_many: CarryMany | None = None


def _salvage(source: OpenFile, target: OpenFile, offset: int, going: Going) -> int:
    """Copy what can be read from an offset on, extent by extent; returns how many octets."""
    buffer, saved = _buffer(), 0
    # A damaged header may claim any size; more than there is below cannot be read.
    end = min(source.size, os.fstat(source.fd).st_size)
    for at in range(offset, end, EXTENT):
        try:
            n = source.read_into(buffer, at, EXTENT)
        except OSError as error:
            if error.errno != errno.EIO:
                raise ReadError(error, 0) from None
            going(0)
        else:
            target.write(at, buffer[:n])
            saved += n
            going(n)
    return saved


def _buffer() -> memoryview:
    """A MiB for each thread.

    The view is a new one each time: CPython before 3.13 can crash where it collects a view in a cycle, such
    as what threads keep makes (gh-77894).
    """
    try:
        buffer: bytearray = _local.buffer
    except AttributeError:
        buffer = _local.buffer = bytearray(PIECE)
    return memoryview(buffer)
