"""What a tree holds, object by object, files by the digests of their contents, read in parallel."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

from fusecrypt.errors import FusecryptError
from fusecrypt.offline.health import WELL, examine
from fusecrypt.offline.items import Tally
from fusecrypt.offline.lower import below
from fusecrypt.offline.show import PIECE
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.listing import Entry
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.tree import Tree

_WINDOW = 64
"""Files that are open, or being opened, at once."""

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True)
class Object:
    """What is listed of an object: of a file its size in octets and SHA-256, of a symlink its target, of a
    device its numbers."""

    path: bytes
    kind: str
    size: int | None = None
    sha256: bytes | None = None
    target: bytes | None = None
    device: tuple[int, int] | None = None

    def at(self, path: bytes) -> Object:
        """The same elsewhere."""
        return replace(self, path=path)


class Unreadable(NamedTuple):
    """An object that could not be listed; ``status`` is the exit status it asks for."""

    path: bytes
    reason: str
    status: int

    def at(self, path: bytes) -> Unreadable:
        """The same elsewhere."""
        return self._replace(path=path)


def kind_of(mode: int) -> str:
    """What an object is called in a list."""
    return _KINDS.get(stat.S_IFMT(mode), "unknown")


class Buffers(threading.local):
    """A buffer for each thread."""

    def __init__(self) -> None:
        self.octets = bytearray(PIECE)


class FileDigest:
    """The digest of a file's contents, as far as it has been fed."""

    def __init__(self, file: OpenFile, octets: bytearray, policy: Policy) -> None:
        self._file = file
        self._octets = octets
        self._policy = policy
        self._digest = hashlib.sha256()
        self._offset = 0
        self._error: OSError | None = None

    def feed(self, until: int | None = None) -> int:
        """Read on, about to an offset, or to the end; returns how many octets that were."""
        before = self._offset
        buffer = memoryview(self._octets)  # not kept: older CPythons crash on one in a cycle
        while self._error is None and (until is None or self._offset < until):
            try:
                n = self._file.read_into(buffer, self._offset, PIECE)
            except OSError as error:
                self._error = error
                break
            if not n:
                break
            self._digest.update(buffer[:n])
            self._offset += n
        return self._offset - before

    def result(self, path: bytes) -> Object | Unreadable:
        """What is listed of the file, read to its end."""
        self.feed()
        if self._error is None:
            return Object(path, "file", self._offset, self._digest.digest())
        health, _ = examine(self._file.fd, self._policy)
        if health.state in WELL:
            return unreadable(path, self._error)
        return Unreadable(path, str(health), 4)


class Digester:
    """One pass over a tree. ``tally`` tells how far it is, in octets of lower files; ``octets`` are upper
    ones."""

    def __init__(self, tree: Tree, workers: int) -> None:
        self._tree = tree
        self._workers = workers
        self._buffers = Buffers()
        self.tally = Tally()
        self.octets = 0

    def run(self) -> Generator[Object | Unreadable, None, None]:
        """Every object but the root, a directory's in the order of their names."""
        window: deque[tuple[bytes, Node, Future[Object | Unreadable]]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                for found in self._walk():
                    if isinstance(found, Unreadable):
                        yield found
                        continue
                    path, node, entry = found
                    self.tally.objects += 1
                    if not node.is_regular:
                        yield self._other(path, node, entry)
                        continue
                    try:
                        file = self._tree.open(node, False)
                    except (OSError, FusecryptError) as error:
                        yield unreadable(path, error)
                        continue
                    window.append((path, node, pool.submit(self._digest, path, file)))
                    if len(window) >= _WINDOW:
                        yield self._finish(window)
                while window:
                    yield self._finish(window)
            finally:
                for _, node, future in window:
                    future.cancel()
                    if not future.cancelled():
                        future.exception()
                    self._tree.close_file(node)

    def _finish(self, window: deque[tuple[bytes, Node, Future[Object | Unreadable]]]) -> Object | Unreadable:
        result = window[0][2].result()
        self._tree.close_file(window.popleft()[1])
        return result

    def _walk(self) -> Iterator[tuple[bytes, Node, Entry] | Unreadable]:
        """Each object with a node that is referred to until the next one is asked for."""
        tree = self._tree
        tree.root.refs += 1
        stack: list[tuple[bytes, Node]] = [(b"", tree.root)]
        try:
            while stack:
                path, directory = stack.pop()
                try:
                    deeper: list[tuple[bytes, Node]] = []
                    yield from self._directory(path, directory, deeper)
                    stack += reversed(deeper)
                finally:
                    tree.forget(directory)
        finally:
            for _, node in stack:
                tree.forget(node)

    def _directory(
        self, path: bytes, directory: Node, deeper: list[tuple[bytes, Node]]
    ) -> Iterator[tuple[bytes, Node, Entry] | Unreadable]:
        tree = self._tree
        try:
            listing = tree.list(directory)
            try:
                entries = sorted(entry for _, entry in listing.entries(0, len(listing)))
            finally:
                listing.close()
        except OSError as error:
            yield unreadable(path, error)
            return
        for entry in entries:
            here = below(path, entry.name)
            try:
                found = tree.lookup(directory, entry.name)
            except OSError as error:
                yield unreadable(here, error)
                continue
            if found is None:
                continue  # it was removed meanwhile
            node = found[0]
            try:
                yield here, node, entry
                if node.is_directory:
                    node.refs += 1
                    deeper.append((here, node))
            finally:
                tree.forget(node)

    def _other(self, path: bytes, node: Node, entry: Entry) -> Object | Unreadable:
        kind = kind_of(node.kind)
        if node.kind == stat.S_IFLNK:
            try:
                return Object(path, kind, target=self._tree.readlink(node))
            except (OSError, FusecryptError) as error:
                return unreadable(path, error)
        if node.kind in (stat.S_IFCHR, stat.S_IFBLK):
            number = entry.seen.stat.rdev
            return Object(path, kind, device=(os.major(number), os.minor(number)))
        return Object(path, kind)

    def _digest(self, path: bytes, file: OpenFile) -> Object | Unreadable:
        """Read a file to its end. Runs in threads."""
        digest = FileDigest(file, self._buffers.octets, self._tree.policy)
        lower, read = os.fstat(file.fd).st_size, 0
        while n := digest.feed(read + PIECE):
            read += n
            self.tally.read(n)
        self.tally.read(lower - read)
        self.octets += read
        return digest.result(path)


def unreadable(path: bytes, error: OSError | FusecryptError) -> Unreadable:
    """An error as what is said of an object."""
    if isinstance(error, FusecryptError):
        return Unreadable(path, str(error), error.exit_status)
    return Unreadable(path, error.strerror or str(error), 1)
