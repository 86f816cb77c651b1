"""A lower tree as it lies there, directory by directory, whatever its names are."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from fusecrypt.native import Stat, open_quietly, stat_many
from fusecrypt.offline.items import Tally

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


def is_name(name: bytes) -> bool:
    """Whether this can be the name of an object in a directory."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def open_directory(root_fd: int, path: bytes) -> int:
    """Open a directory one name at a time, so that nothing leads out of the tree: no symlink is followed, and
    ``..`` is an error. Raises OSError."""
    fd = open_quietly(b".", DIRECTORY, root_fd)
    for name in filter(None, path.split(b"/")):
        try:
            if not is_name(name):
                raise OSError(errno.EINVAL, "not a path below the tree's root", os.fsdecode(path))
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


def measure(root_fd: int, tally: Tally) -> None:
    """Add up all objects and the octets of all files, as far as they can be seen."""
    stack = [b""]
    while stack:
        path = stack.pop()
        with suppress(OSError), opened_directory(root_fd, path) as fd:
            for child in children(fd):
                tally.all_objects += 1
                if child.kind == stat.S_IFREG:
                    tally.all_octets += child.stat.size
                elif child.kind == stat.S_IFDIR:
                    stack.append(below(path, child.name))


def children(fd: int) -> list[Child]:
    """What an open directory holds, by name. Raises OSError."""
    names = sorted(map(os.fsencode, os.listdir(fd)))
    return [Child(name, st) for name, st in zip(names, stat_many(fd, names, False), strict=True)]
