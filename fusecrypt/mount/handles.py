"""Open files and directories by the numbers that the kernel knows them by."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count

from fusecrypt.lane import Lane
from fusecrypt.mount.replies import MISTAKEN
from fusecrypt.native import utimens
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.listing import Entry, Listing
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Tree

_FIRST_BATCH = 32
"""Directory entries whose attributes are read in one go, until it is known how many fit a reply."""


class FileHandle:
    """One open() of a file."""

    __slots__ = ("_waits", "appends", "by_root", "file", "node")

    def __init__(self, node: Node, file: OpenFile, by_root: bool, appends: bool = False) -> None:
        self.node = node
        self.file = file
        self.by_root = by_root  # whose writes leave set-id bits alone
        self.appends = appends  # to where the file ends at the time of the write
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
        """Remember what the kernel's cached contents belong to.

        Writes in the same tick of the kernel's clock leave the modification time of a new file as the kernel
        was told it, so it sends no other; below they get later ones.
        """
        believed, self.file.born = self.file.born, None
        stamp = self._stamp()
        if believed is not None and self.file.writable and stamp[0] != believed:
            utimens(self.file.fd, b"", None, believed)
            stamp = self._stamp()
        self.node.stamp = stamp
        if self.node.shown != MISTAKEN:
            self.node.shown = self.file.size


class DirectoryHandle:
    """One opendir() of a directory."""

    def __init__(self, listing: Listing, node: Node) -> None:
        self.listing = listing
        self.node = node
        self._batch = _FIRST_BATCH

    def rewind(self) -> None:
        """Begin with what is there now, which may be more than there was at opendir()."""
        self.listing.rewind()

    def dots(self) -> list[tuple[bytes, Node]]:
        """The entries in front of all others."""
        return [(b".", self.node), (b"..", self.node.parent or self.node)]

    def entries(self, start: int) -> Iterator[tuple[int, Entry]]:
        """The entries from position ``start``, each with the position after it.

        Their attributes are read now: by the next request what they describe may be gone or changed.
        """
        taken = 0
        while start < len(self.listing):
            count = self._batch
            for position, entry in self.listing.entries(start, count):
                taken += 1
                self._batch = taken  # the last one taken did not fit any more
                yield position, entry
            start += count


_FIRST_OWN = 1 << 32
"""Below are the numbers that the lane gives to handles."""


class Handles:
    """All open handles of a mount."""

    def __init__(self, lane: Lane, tree: Tree) -> None:
        self._lane = lane
        self._next = count(_FIRST_OWN)
        self._tree = tree
        self._files: dict[int, FileHandle] = {}
        self._directories: dict[int, DirectoryHandle] = {}
        self.directory = self._directories.__getitem__
        self.remove_directory = self._directories.pop

    def file(self, number: int) -> FileHandle:
        """The handle with that number, which may be the lane's until now. Raises OSError (EBADF)."""
        handle = self._files.get(number)
        if handle is None:
            handle = self._take_over(number)
        return handle

    def _take_over(self, number: int) -> FileHandle:
        owner, by_root = self._lane.handle(number)
        node = self._tree.nodes.by_number(owner)
        if node.file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        handle = self._files[number] = FileHandle(node, node.file, by_root)
        return handle

    def add_file(self, handle: FileHandle) -> int:
        number = self._lane.open(handle.node.number, handle.file.lane, handle.by_root)
        self._files[number] = handle
        return number

    def remove_file(self, number: int) -> FileHandle:
        try:
            handle = self.file(number)
            del self._files[number]
        finally:
            self._lane.close(number)
        return handle

    def add_directory(self, handle: DirectoryHandle) -> int:
        number = next(self._next)
        self._directories[number] = handle
        return number

    def directory_fd(self, number: int) -> int:
        """The lower descriptor behind a directory handle, which may be the lane's own."""
        own = self._directories.get(number)
        return self._lane.listing_fd(number) if own is None else own.listing.fd

    def close_all(self) -> None:
        """Close what the kernel left open when the mount went away."""
        for fh in list(self._files):
            self._tree.close_file(self.remove_file(fh).node)
        for fh in list(self._directories):
            self.remove_directory(fh).listing.close()
