"""A lower tree as it lies there, directory by directory, whatever its names are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fusecrypt.native import Stat, open_quietly, stat_many

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Child(NamedTuple):
    """An object in a lower directory. Its stat has an error where lstat failed."""

    name: bytes
    stat: Stat

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.stat.mode)


def below(directory: bytes, name: bytes) -> bytes:
    """The path of a child, from the root, which is the empty path."""
    return directory + b"/" + name if directory else name


def open_directory(root_fd: int, path: bytes) -> int:
    """Open a directory one name at a time, so that no symlink is followed. Raises OSError."""
    fd = open_quietly(b".", DIRECTORY, root_fd)
    for name in filter(None, path.split(b"/")):
        try:
            deeper = open_quietly(name, DIRECTORY, fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


@contextmanager
def opened_directory(root_fd: int, path: bytes) -> Iterator[int]:
    """The same for a while."""
    fd = open_directory(root_fd, path)
    try:
        yield fd
    finally:
        os.close(fd)


def children(fd: int) -> list[Child]:
    """What an open directory holds, by name. Raises OSError."""
    names = sorted(map(os.fsencode, os.listdir(fd)))
    return [Child(name, st) for name, st in zip(names, stat_many(fd, names, False), strict=True)]
