"""A plain directory as the source of a copy."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator

from fusecrypt.errors import stale
from fusecrypt.native import open_quietly, stat_fd, stat_many
from fusecrypt.offline.items import Item, Problem, name_of, parent_of, problem_of
from fusecrypt.offline.lower import FILE, below
from fusecrypt.offline.places import Places
from fusecrypt.offline.restore import read_xattrs
from fusecrypt.offline.walk import CHUNK, Xattrs
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.raw import RawFile
from fusecrypt.tree.tree import by_descriptor


class PlainSource:
    """What is in a directory; symlinks are never followed."""

    def __init__(self, root_fd: int) -> None:
        """The descriptor stays the caller's."""
        self._root_fd = root_fd
        self._places = Places(root_fd)

    def close(self) -> None:
        self._places.close()

    def root(self) -> Item:
        return Item(b"", stat_fd(self._root_fd, False), 0, stat.S_IFDIR)

    def children(self, directory: Item) -> Generator[Item | Problem, None, None]:
        above = directory.path
        try:
            names = sorted(map(os.fsencode, os.listdir(self._places.fd(above))))
            for start in range(0, len(names), CHUNK):
                chunk = names[start : start + CHUNK]
                for name, st in zip(chunk, stat_many(self._places.fd(above), chunk, False), strict=True):
                    if not st.error:
                        yield Item(below(above, name), st, st.size, stat.S_IFMT(st.mode))
                    elif st.error != errno.ENOENT:
                        yield Problem(below(above, name), os.strerror(st.error))
        except OSError as error:
            yield problem_of(above, error)

    def release(self, directory: Item) -> None:
        """There is nothing to release."""

    def open(self, item: Item) -> OpenFile:
        fd = open_quietly(name_of(item.path), os.O_RDONLY | FILE, self._places.fd(parent_of(item.path)))
        _check_same(fd, item)
        return RawFile(fd, False)

    def close_file(self, item: Item, file: OpenFile) -> None:
        file.close()

    def explain(self, path: bytes, file: OpenFile, error: OSError) -> Problem:
        return problem_of(path, error)

    def readlink(self, item: Item) -> bytes:
        return os.readlink(name_of(item.path), dir_fd=self._places.fd(parent_of(item.path)))

    def xattrs(self, item: Item) -> Xattrs:
        if not item.path:
            return read_xattrs(self._root_fd)
        fd = os.open(
            name_of(item.path),
            os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC,
            dir_fd=self._places.fd(parent_of(item.path)),
        )
        _check_same(fd, item)
        try:
            return read_xattrs(by_descriptor(fd))
        finally:
            os.close(fd)


def _check_same(fd: int, item: Item) -> None:
    """Raises OSError (ESTALE), and closes ``fd``, if it is another object than the one that was listed."""
    st = stat_fd(fd, False)
    if (st.dev, st.ino, stat.S_IFMT(st.mode)) != (item.stat.dev, item.stat.ino, item.kind):
        os.close(fd)
        raise stale()
