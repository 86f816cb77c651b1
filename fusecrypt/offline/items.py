"""What is copied into or out of a tree: objects on their way, what became of them, and how far a copy is."""

from __future__ import annotations

import stat
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from fusecrypt.errors import FusecryptError
from fusecrypt.native import Stat
from fusecrypt.tree.nodes import Node


class Item(NamedTuple):
    """An object to copy. ``path`` is relative to the root, which is the empty path; ``size`` is the upper one
    in octets; ``kind`` are the S_IFMT bits.

    In a tree ``node`` is that of a directory, referred to until it is left; of anything else it is that of
    the directory it is in, and ``lower`` its lower name there.
    """

    path: bytes
    stat: Stat
    size: int
    kind: int
    node: Node | None = None
    lower: bytes = b""

    @property
    def readable(self) -> int:
        """Octets of a file that can be there: a damaged header may say any size."""
        return min(self.size, self.stat.size) if self.kind == stat.S_IFREG else 0

    @property
    def is_device(self) -> bool:
        return self.kind in (stat.S_IFCHR, stat.S_IFBLK)

    @property
    def identity(self) -> tuple[int, int] | None:
        """What links of one object have in common, if it may have several."""
        if self.stat.nlink < 2 or self.kind == stat.S_IFDIR:
            return None
        return self.stat.dev, self.stat.ino


class Enter(NamedTuple):
    """A directory, before what is in it. Unless ``wanted`` it is made only for something in it."""

    item: Item
    wanted: bool


class Leave(NamedTuple):
    """The same directory, after what is in it."""

    item: Item


class Problem(NamedTuple):
    """An object that was not copied as it is. ``reason`` ends a sentence; ``status`` is the exit status that
    it asks for, 0 for what is left out by intention."""

    path: bytes
    reason: str
    status: int = 1


def problem_of(path: bytes, error: OSError | FusecryptError) -> Problem:
    """An error as the problem of one object."""
    if isinstance(error, FusecryptError):
        return Problem(path, str(error), error.exit_status)
    return Problem(path, error.strerror or str(error))


@dataclass
class Tally:
    """How far a copy is. Objects are all but directories; octets are upper ones."""

    objects: int = 0
    octets: int = 0
    all_objects: int = 0
    all_octets: int = 0
    there: int = 0
    """Objects that were found in place, from an earlier run."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, octets: int) -> None:
        """Count contents; for threads."""
        with self._lock:
            self.octets += octets


def parent_of(path: bytes) -> bytes:
    """The path of the directory that an object is in."""
    return path.rpartition(b"/")[0]


def name_of(path: bytes) -> bytes:
    """The last name in a path."""
    return path.rpartition(b"/")[2]
