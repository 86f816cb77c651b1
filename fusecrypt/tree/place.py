"""A lower tree as one looks at it before its keys are known: on this machine, or wherever else it lies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from fusecrypt.native import open_quietly
from fusecrypt.tree.headers import Found, find_header

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class LowerEntry(Protocol):
    """An entry of a lower directory."""

    @property
    def name(self) -> bytes: ...

    @property
    def is_directory(self) -> bool: ...

    @property
    def is_regular(self) -> bool: ...

    def header(self) -> Found:
        """Of a regular file. Raises FormatError if it has none that is usable, OSError."""
        ...

    def size(self) -> int:
        """Lower octets. Raises OSError."""
        ...


class Place(Protocol):
    """A lower tree."""

    def directory(self, path: tuple[bytes, ...]) -> AbstractContextManager[Iterable[LowerEntry]]:
        """The entries of the directory at a lower path, while it is open. Raises OSError."""
        ...


class LocalEntry:
    """An entry of an open directory."""

    def __init__(self, entry: os.DirEntry[str], dir_fd: int) -> None:
        self._entry = entry
        self._dir_fd = dir_fd
        self.name = os.fsencode(entry.name)

    @property
    def is_directory(self) -> bool:
        return self._entry.is_dir(follow_symlinks=False)

    @property
    def is_regular(self) -> bool:
        return self._entry.is_file(follow_symlinks=False)

    def open(self) -> int:
        """A descriptor of a regular file, to read from. Raises OSError."""
        return open_quietly(self.name, _FILE, self._dir_fd)

    def header(self) -> Found:
        fd = self.open()
        try:
            return find_header(fd)
        finally:
            os.close(fd)

    def size(self) -> int:
        return self._entry.stat(follow_symlinks=False).st_size


class LocalPlace:
    """The lower tree below an open directory."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd

    @contextmanager
    def directory(self, path: tuple[bytes, ...]) -> Iterator[Iterable[LocalEntry]]:
        fd = self._open_below(path)
        try:
            with os.scandir(fd) as entries:
                yield (LocalEntry(entry, fd) for entry in entries)
        finally:
            os.close(fd)

    def _open_below(self, path: tuple[bytes, ...]) -> int:
        """Open a directory one name at a time, so that no symlink is followed."""
        fd = open_quietly(b".", _DIRECTORY, self._root_fd)
        for name in path:
            try:
                below = open_quietly(name, _DIRECTORY, fd)
            finally:
                os.close(fd)
            fd = below
        return fd
