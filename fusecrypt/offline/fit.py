"""Names and symlink targets that a tree has no room for, found before they are copied into it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from fusecrypt.offline.findings import Fault, Finding
from fusecrypt.offline.lower import below, children, opened_directory

TARGET_MAX = 4095
"""Octets of the longest lower symlink target."""


class Room(NamedTuple):
    """The longest upper name and symlink target, in octets."""

    name: int = 143
    target: int = 3007


def too_long(root_fd: int, room: Room) -> Iterator[Finding]:
    """What below a plain directory does not fit. Raises OSError for the root.

    The paths in the findings are those of the plain directory, as upper and as lower ones.
    """
    with opened_directory(root_fd, b""):
        pass
    stack = [b""]
    while stack:
        path = stack.pop()
        try:
            with opened_directory(root_fd, path) as fd:
                for child in children(fd):
                    deeper = below(path, child.name)
                    if child.kind == stat.S_IFDIR:
                        stack.append(deeper)
                    if len(child.name) > room.name:
                        yield _finding(deeper, "name", len(child.name), room.name)
                    if child.kind == stat.S_IFLNK and child.stat.size > room.target:
                        yield _finding(deeper, "target", child.stat.size, room.target)
        except OSError as error:
            yield Finding(Fault.UNREADABLE, path, path, error.strerror or os.strerror(error.errno or 0))


def _finding(path: bytes, what: str, octets: int, most: int) -> Finding:
    return Finding(Fault.TOO_LONG, path, path, f"its {what} has {octets} octets, at most {most} fit")
