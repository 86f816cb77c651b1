"""A tree as the target of a copy: what is made in it is encrypted by the tree's policy."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from itertools import count

from fusecrypt.copies import flush_all, flushes_together
from fusecrypt.errors import TreeError
from fusecrypt.offline.fit import TARGET_MAX
from fusecrypt.offline.items import Item, name_of, parent_of
from fusecrypt.offline.restore import Lost, Restorer
from fusecrypt.offline.target import WORK, Draft
from fusecrypt.offline.walk import Xattrs
from fusecrypt.ondisk.extents import lower_size
from fusecrypt.ondisk.header import MINIMUM_REGION
from fusecrypt.tree import attributes, changes
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Seen, Tree

_NOREPLACE = 1


class TreeTarget:
    """An open tree, which nothing else writes meanwhile. Its root keeps its own attributes."""

    def __init__(self, tree: Tree) -> None:
        """Raises TreeError if it cannot be written to."""
        self._tree = tree
        self._names = count(1)
        figures, self._longest_name = tree.statfs()
        self._block = figures.f_frsize or 1
        self.flushes_together = flushes_together(tree.root_fd)
        self._longest_target = tree.codec.longest(TARGET_MAX)
        self._nodes: dict[bytes, Node] = {b"": tree.root}
        try:
            self._work = self._directory(tree.root, WORK)[0]
            self._open_work()
        except OSError as error:
            raise TreeError(f"the tree cannot be written to: {error.strerror}") from None

    def _open_work(self) -> None:
        try:
            with suppress(OSError):  # drafts would inherit it
                attributes.remove_xattr(self._tree, self._work, b"system.posix_acl_default")
            self._clear()  # what a killed run left
        except BaseException:
            self._tree.forget(self._work)
            raise

    def close(self) -> None:
        """Forget all directories. Raises OSError."""
        try:
            self._clear()
            changes.remove_directory(self._tree, self._tree.root, WORK)
        finally:
            for path, node in self._nodes.items():
                if path:
                    self._tree.forget(node)
            self._nodes.clear()
            self._tree.forget(self._work)

    def _clear(self) -> None:
        listing = self._tree.list(self._work)
        try:
            for name in listing.names():
                changes.unlink(self._tree, self._work, name)
        finally:
            listing.close()

    def _directory(self, parent: Node, name: bytes) -> tuple[Node, bool]:
        """The directory of that name, and whether it was made. Raises OSError (ENOTDIR)."""
        tree = self._tree
        try:
            return changes.make_directory(tree, parent, name, 0o700)[0], True
        except FileExistsError:
            found = tree.lookup(parent, name)
            if found is None:
                raise
        node = found[0]
        if not node.is_directory:
            tree.forget(node)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return node, False

    def find(self, path: bytes) -> Seen | None:
        try:
            node = self._tree.resolve(path)
        except FileNotFoundError:
            return None
        try:
            return self._tree.stat(node)
        finally:
            self._tree.forget(node)

    def readlink(self, path: bytes) -> bytes:
        node = self._tree.resolve(path)
        try:
            return self._tree.readlink(node)
        finally:
            self._tree.forget(node)

    def check(self, item: Item) -> str:
        octets = len(name_of(item.path))
        if octets > self._longest_name:
            return f"its name has {octets} octets, at most {self._longest_name} fit"
        if item.kind == stat.S_IFLNK and item.size > self._longest_target:
            return f"its target has {item.size} octets, at most {self._longest_target} fit"
        return f"its name is taken by {WORK.decode()}, where objects are made" if item.path == WORK else ""

    def needs(self, item: Item) -> int:
        if item.kind != stat.S_IFREG:
            return self._block
        size = lower_size(item.size, 0 if self._tree.policy.xattr_metadata else MINIMUM_REGION)
        return -(-size // self._block) * self._block

    def free(self) -> tuple[int, int]:
        figures = os.fstatvfs(self._tree.root_fd)
        return figures.f_bavail * figures.f_frsize, figures.f_favail if figures.f_files else 1 << 62

    def make_directory(self, item: Item) -> bool:
        if not item.path:
            listing = self._tree.list(self._tree.root)
            try:
                return listing.names() == [WORK]
            finally:
                listing.close()
        self._nodes[item.path], made = self._directory(self._parent(item.path), name_of(item.path))
        return made

    def leave(self, item: Item, xattrs: Xattrs | None, restorer: Restorer) -> list[Lost]:
        tree, lost = self._tree, list[Lost]()
        node = self._nodes[item.path] if not item.path else self._nodes.pop(item.path)
        try:
            if xattrs is not None and item.path:
                with tree.handle(node) as fd:
                    lost = restorer.restore(fd, item, xattrs, path=True)
            if not self.flushes_together:
                self._flush_directory(node)
        finally:
            if item.path:
                tree.forget(node)
        return lost

    def _flush_directory(self, node: Node) -> None:
        fd = self._tree.open_lower(node, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def flush(self) -> None:
        flush_all(self._tree.root_fd)

    def begin(self, item: Item) -> Draft:
        name = self._name()
        node, _, file = changes.create(self._tree, self._work, name, 0o600)
        return Draft(name, file.fd, file, node)

    def make(self, item: Item, link: bytes) -> Draft:
        name = self._name()
        if item.kind == stat.S_IFLNK:
            node, _ = changes.symlink(self._tree, self._work, name, link)
        else:
            node, _ = changes.make_node(self._tree, self._work, name, item.kind | 0o600, item.stat.rdev)
        return Draft(name, self._tree.open_lower(node, os.O_PATH), node=node)

    def commit(self, draft: Draft, path: bytes, replace: bool) -> None:
        try:
            self._rename(draft.name, path, replace)
        except BaseException:
            self.discard(draft)
            raise
        self._close(draft)

    def discard(self, draft: Draft) -> None:
        try:
            changes.unlink(self._tree, self._work, draft.name)
        finally:
            self._close(draft)

    def link(self, first: bytes, path: bytes, replace: bool) -> None:
        name, tree = self._name(), self._tree
        node = tree.resolve(first)
        try:
            changes.link(tree, node, self._work, name)
            tree.forget(node)
            try:
                self._rename(name, path, replace)
            except BaseException:
                changes.unlink(tree, self._work, name)
                raise
        finally:
            tree.forget(node)

    def _parent(self, path: bytes) -> Node:
        """The node of the directory an object is in, which has been entered and not left."""
        return self._nodes[parent_of(path)]

    def _name(self) -> bytes:
        return str(next(self._names)).encode()

    def _rename(self, name: bytes, path: bytes, replace: bool) -> None:
        flags = 0 if replace else _NOREPLACE
        try:
            changes.rename(self._tree, self._work, name, self._parent(path), name_of(path), flags)
        except OSError as error:
            if replace or error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # The lower file system cannot do it in one step.
            if self.find(path) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            changes.rename(self._tree, self._work, name, self._parent(path), name_of(path))

    def _close(self, draft: Draft) -> None:
        assert draft.node is not None
        if draft.file is not None:
            self._tree.close_file(draft.node)
        else:
            os.close(draft.fd)
        self._tree.forget(draft.node)
