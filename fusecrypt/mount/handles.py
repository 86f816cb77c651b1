"""Open files and directories by the numbers that the kernel knows them by."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count

from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Entry, Listing, Tree

_BATCH = 64
"""Directory entries whose attributes are read in one go."""


class FileHandle:
    """One open() of a file."""

    __slots__ = ("_waits", "file", "node", "set_id_cleared")

    def __init__(self, node: Node, file: OpenFile, by_root: bool) -> None:
        self.node = node
        self.file = file
        self.set_id_cleared = by_root  # root's writes leave set-id bits alone
        self._waits = False

    def read_now(self, buffer: memoryview, offset: int, n: int, slow_lower: bool) -> int:
        """Read without waiting for a disk; BlockingIOError if that is not possible.

        Where the lower file system cannot tell (EOPNOTSUPP), the read is simply done on a local one (such
        as tmpfs), and counts as waiting on a slow one (such as NFS).
        """
        if not self._waits:
            try:
                return self.file.read_into(buffer, offset, n, True)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._waits = True
        if slow_lower:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self.file.read_into(buffer, offset, n)

    def _stamp(self) -> tuple[int, int, int]:
        st = os.fstat(self.file.fd)
        return st.st_mtime_ns, st.st_ctime_ns, st.st_size

    def unchanged_since_last_close(self) -> bool:
        """Whether what the kernel has cached of this file still holds."""
        return self.node.opens > 1 or self.node.stamp == self._stamp()

    def note_close(self) -> None:
        self.node.stamp = self._stamp()


class DirectoryHandle:
    """One opendir() of a directory."""

    def __init__(self, listing: Listing, node: Node) -> None:
        self.listing = listing
        self.node = node
        self._fresh = True
        self._from = self._until = 0
        self._batch: list[tuple[int, Entry]] = []

    def rewind(self, tree: Tree) -> None:
        """Look again, if this is not the first reading."""
        if not self._fresh:
            self.listing.close()
            self.listing = tree.list(self.node)
            self._from = self._until = 0
        self._fresh = False

    def entries(self, start: int) -> Iterator[tuple[int, Entry]]:
        """The entries from position ``start``, each with the position after it."""
        while start < len(self.listing):
            if not self._from <= start < self._until:
                self._from, self._until = start, start + _BATCH
                self._batch = self.listing.entries(start, _BATCH)
            for position, entry in self._batch:
                if position > start:
                    yield position, entry
            start = self._until


class Handles:
    """All open handles of a mount."""

    def __init__(self) -> None:
        self._next = count(1)
        self._files: dict[int, FileHandle] = {}
        self._directories: dict[int, DirectoryHandle] = {}
        self.file = self._files.__getitem__
        self.directory = self._directories.__getitem__
        self.remove_file = self._files.pop
        self.remove_directory = self._directories.pop

    def add(self, handle: FileHandle | DirectoryHandle) -> int:
        number = next(self._next)
        if isinstance(handle, FileHandle):
            self._files[number] = handle
        else:
            self._directories[number] = handle
        return number

    def close_all(self, tree: Tree) -> None:
        """Close what the kernel left open when the mount went away."""
        for fh in list(self._files):
            tree.close_file(self.remove_file(fh).node)
        for fh in list(self._directories):
            self.remove_directory(fh).listing.close()
