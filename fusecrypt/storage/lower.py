"""A lower tree on another fsspec file system: its listings, ranges of its files, attributes if it has any."""

from __future__ import annotations

import errno
import functools
import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from fusecrypt.tree.headers import read_xattr

FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"
_KINDS = frozenset((FILE, DIRECTORY, LINK))
_LISTS_LINKS = frozenset(("file", "local", "sftp", "ssh", "sshfs"))
"""Protocols whose listings tell symlinks, and whose info() follows them."""
_FLEETING = "time"
"""The field of an info that reading changes: the access time, over SFTP."""


class Lower(NamedTuple):
    """A lower object.

    ``size`` in octets; ``identity`` changes when the object does, as far as the file system tells; ``target``
    is a symlink's, None where it is not told.
    """

    path: str
    name: bytes
    kind: str
    size: int
    identity: str
    target: bytes | None
    info: dict[str, Any]


class LowerStore:
    """The tree below ``root``, a path of ``fs``."""

    def __init__(self, fs: AbstractFileSystem, root: str) -> None:
        self.fs = fs
        self.root: str = fs._strip_protocol(root)
        protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
        self.where = f"{protocols[0]}://{self.root.lstrip('/')}"
        self._lists_links = not _LISTS_LINKS.isdisjoint(protocols)
        # Some take the bounds of a range and read the whole file.
        self.ranged = fs.async_impl and "start" in inspect.signature(type(fs)._cat_file).parameters

    @property
    def local(self) -> Path | None:
        """The root as a directory of this machine, if it is one."""
        return Path(self.root) if isinstance(self.fs, LocalFileSystem) else None

    def below(self, names: Iterable[bytes]) -> str:
        """The path of lower names from the root."""
        return functools.reduce(join, map(os.fsdecode, names), self.root)

    def entries(self, path: str) -> list[Lower]:
        """What is in a directory, or the file itself. Raises OSError."""
        return [_lower(info) for info in self.fs.ls(path, detail=True) if not _is_directory(info, path)]

    def look(self, path: str) -> Lower:
        """The object at a path. Raises OSError: FileNotFoundError if there is none."""
        try:
            return _lower(self.fs.info(path))
        except OSError:  # such as ENAMETOOLONG, for what an encrypted target says
            if self._lists_links:
                above, _, name = path.rpartition("/")
                with suppress(OSError):
                    for each in self.entries(above or "/"):
                        if each.kind == LINK and each.name == os.fsencode(name):
                            return each
            raise

    def is_link(self, path: str) -> bool:
        """Whether a path is a symlink's, which the file systems that have them would follow."""
        if not self._lists_links:
            return False
        if self.local is not None:
            return os.path.islink(path)
        with suppress(OSError):
            return any(
                each.path == path and each.kind == LINK for each in self.entries(path.rpartition("/")[0])
            )
        return False

    def has(self, path: str) -> bool:
        """Whether an object is there and can be looked at."""
        try:
            self.look(path)
        except OSError:
            return False
        return True

    def read(self, ranges: Iterable[tuple[str, int, int]]) -> Iterator[bytes | OSError]:
        """Octets of lower files, each fewer where the file ends before; at once where the file system can.

        A range begins within its file, or is empty: object stores have no others.
        """
        if not self.ranged:
            return (self._read_open(*each) for each in ranges)
        wanted = list(ranges)
        filled = [(path, start, end) for path, start, end in wanted if start < end]
        columns = [list(column) for column in zip(*filled, strict=True)] or [[], [], []]
        found = iter(self.fs.cat_ranges(*columns, on_error="return"))
        return (_octets(next(found)) if start < end else b"" for _, start, end in wanted)

    def _read_open(self, path: str, start: int, end: int) -> bytes | OSError:
        try:
            with self.fs.open(path, "rb") as file:
                file.seek(start)
                return _octets(file.read(end - start))
        except OSError as error:
            return error

    @property
    def has_attributes(self) -> bool:
        """Whether extended attributes can be read."""
        return self.local is not None

    def attribute(self, path: str) -> bytes | None:
        """The value of ``user.ecryptfs``, or None; also where no attribute can be read. Raises OSError."""
        return read_xattr(path) if self.has_attributes else None


def join(path: str, name: str) -> str:
    """A lower path and a name in it."""
    return f"{path.rstrip('/')}/{name}" if path else name


def _octets(found: Any) -> bytes | OSError:
    """What a file system returned for a range."""
    if isinstance(found, bytes | OSError):
        return found
    return OSError(errno.EIO, str(found)) if isinstance(found, Exception) else bytes(found)


def _lower(info: dict[str, Any]) -> Lower:
    path = info["name"].rstrip("/")
    link = info.get("islink") or info["type"] == LINK
    kind = LINK if link else info["type"] if info["type"] in _KINDS else OTHER
    target = info.get("destination")
    lasting = sorted((key, str(value)) for key, value in info.items() if key != _FLEETING)
    return Lower(
        path,
        os.fsencode(path.rpartition("/")[2]),
        kind,
        info["size"] or 0,
        str(lasting),
        os.fsencode(target) if target else None,
        info,
    )


def _is_directory(info: dict[str, Any], path: str) -> bool:
    """Whether an entry of a listing is the listed directory itself, as object stores have it."""
    return bool(info["type"] == DIRECTORY or not info["size"]) and info["name"].strip("/") == path.strip("/")
