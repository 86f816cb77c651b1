"""A tree as the source of a copy: its objects decrypted, what cannot be decrypted as problems."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from fusecrypt.lane import Lane
from fusecrypt.native import PEEK_ERROR, Stat, stat_fd, stat_many
from fusecrypt.offline.checkname import NameCheck
from fusecrypt.offline.health import WELL, examine
from fusecrypt.offline.items import Item, Problem, problem_of
from fusecrypt.offline.lower import below
from fusecrypt.offline.restore import read_xattrs
from fusecrypt.offline.walk import CHUNK, Xattrs
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.forms import Forms
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Tree, by_descriptor, lower_path

_DAMAGED = 4
_FEWEST = 16
"""Objects that a thread looks at, or more."""

Look = Callable[[int, list[bytes], bool], list[Stat]]


@contextmanager
def several_looks(threads: int) -> Iterator[Look]:
    """As stat_many(), by so many threads: where the lower tree is far away each look waits for it."""
    with ThreadPoolExecutor(threads) as pool:

        def look(dir_fd: int, names: list[bytes], peek: bool) -> list[Stat]:
            step = max(_FEWEST, -(-len(names) // threads))
            parts = [names[start : start + step] for start in range(0, len(names), step)]
            found = pool.map(lambda part: stat_many(dir_fd, part, peek), parts)
            return [st for each in found for st in each]

        yield look


class TreeSource:
    """What a tree shows. Nothing below is changed."""

    def __init__(self, tree: Tree, look: Look = stat_many) -> None:
        """``look`` does what stat_many() does."""
        self._tree = tree
        self._look = look
        self._names = NameCheck(tree.policy, True)
        self.lane = Lane.for_forms()
        self.forms = Forms(self.lane, tree.policy)

    @property
    def by_header(self) -> bool:
        """Whether headers alone say what files are."""
        return self._tree.policy.by_header

    def root(self) -> Item:
        root = self._tree.root
        root.refs += 1
        return Item(b"", stat_fd(self._tree.root_fd, False), 0, stat.S_IFDIR, root)

    def children(self, directory: Item) -> Generator[Item | Problem, None, None]:
        tree, node = self._tree, _node(directory)
        try:
            fd = tree.open_lower(node, os.O_RDONLY | os.O_DIRECTORY)
            try:
                lowers = sorted(map(os.fsencode, os.listdir(fd)))
            finally:
                os.close(fd)
        except OSError as error:
            yield problem_of(directory.path, error)
            return
        for start in range(0, len(lowers), CHUNK):
            chunk = lowers[start : start + CHUNK]
            try:
                yield from self._chunk(directory.path, node, chunk)
            except OSError as error:
                yield problem_of(directory.path, error)
                return

    def _chunk(self, above: bytes, parent: Node, lowers: list[bytes]) -> Iterator[Item | Problem]:
        tree, decode = self._tree, self._tree.codec.decode
        prefix = below(above, b"")
        # All that needs the descriptor is done before anything is yielded: it does not hold for long.
        dir_fd = tree.directories.fd(parent)
        found: list[Item | Problem] = []
        for lower, st in zip(lowers, self._look(dir_fd, lowers, True), strict=True):
            name = decode(lower)
            if name is None:
                found += self._hidden(above, lower)
            elif not st.error or st.peek == PEEK_ERROR:
                try:
                    size = tree.see(st, dir_fd, lower).size
                except OSError as error:
                    found.append(problem_of(prefix + name, error))
                else:
                    found.append(Item(prefix + name, st, size, stat.S_IFMT(st.mode), parent, lower))
            elif st.error != errno.ENOENT:  # otherwise it was removed meanwhile
                found.append(Problem(prefix + name, os.strerror(st.error)))
        for each in found:
            if isinstance(each, Item) and each.kind == stat.S_IFDIR:
                yield each._replace(node=tree.nodes.acquire(each.stat, parent, each.lower))
            else:
                yield each

    def _hidden(self, above: bytes, lower: bytes) -> Iterator[Problem]:
        """What has no name above, by its lower one; only a file system's own directory is no loss."""
        trouble = self._names.name(lower).trouble
        if trouble is not None:
            detail = f"{trouble.kind.value}: {trouble.detail}" if trouble.detail else trouble.kind.value
            yield Problem(below(above, lower), detail, _DAMAGED)

    def release(self, directory: Item) -> None:
        self._tree.forget(_node(directory))

    @contextmanager
    def _held(self, item: Item) -> Iterator[Node]:
        """The node of an object. Its directory has to be referred to."""
        if item.kind == stat.S_IFDIR:
            yield _node(item)
            return
        node = self._tree.nodes.acquire(item.stat, _node(item), item.lower)
        try:
            yield node
        finally:
            self._tree.forget(node)

    def open(self, item: Item) -> OpenFile:
        with self._held(item) as node:
            file = self._tree.open(node, False)
        if isinstance(file, EncryptedFile):
            self.forms.learn(file.found)
        return file

    def close_file(self, item: Item, file: OpenFile) -> None:
        with self._held(item) as node:
            self._tree.close_file(node)

    def borrow(self, item: Item) -> int:
        """A descriptor of the directory that an object is in, to be closed, and a reference to its node for
        :meth:`give_back`. Raises OSError."""
        fd = os.dup(self._tree.directories.fd(_node(item)))
        self.hold(item)
        return fd

    def hold(self, item: Item) -> bytes:
        """The path of that directory from the lower root, which is the empty path; and such a reference."""
        node = _node(item)
        node.refs += 1
        return b"" if node is self._tree.root else lower_path(node)

    def give_back(self, item: Item) -> None:
        self._tree.forget(_node(item))

    def explain(self, path: bytes, file: OpenFile, error: OSError) -> Problem:
        health, _ = examine(file.fd, self._tree.policy)
        if error.errno == errno.EIO and health.state not in WELL:
            return Problem(path, str(health), _DAMAGED)
        return problem_of(path, error)

    def readlink(self, item: Item) -> bytes:
        with self._held(item) as node:
            return self._tree.readlink(node)

    def xattrs(self, item: Item) -> Xattrs:
        with self._held(item) as node, self._tree.handle(node) as fd:
            return read_xattrs(by_descriptor(fd))


def _node(item: Item) -> Node:
    assert item.node is not None
    return item.node
