"""fusecrypt.tree as something that carries out plans: no FUSE involved."""

from __future__ import annotations

import os

from fusecrypt.tree import attributes
from fusecrypt.tree.tree import Tree
from tests.kernel import plan
from tests.tree.support import User


class TreeActor:
    """The operations of a mixed tree (see plan.Directory for what they mean), through a Tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._user = User(tree)
        self.truncate = self._user.truncate
        self.mkdir = self._user.mkdir
        self.rmdir = self._user.rmdir
        self.unlink = self._user.unlink
        self.rename = self._user.rename
        self.link = self._user.link

    def create(self, path: str, mode: int) -> None:
        self._user.create(path, mode=mode)

    def write(self, path: str, offset: int, length: int, seed: int) -> None:
        self._user.write(path, offset, plan.octets(length, seed))

    def append(self, path: str, length: int, seed: int) -> None:
        self._user.write(path, self._user.stat(path).size, plan.octets(length, seed))

    def symlink(self, target: str, path: str) -> None:
        self._user.symlink(os.fsencode(target), path)

    def mknod(self, path: str, mode: int, major: int, minor: int) -> None:
        self._user.mknod(path, mode, os.makedev(major, minor))

    def chmod(self, path: str, mode: int) -> None:
        with self._user.node(path) as node:
            attributes.change_mode(self._tree, node, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        with self._user.node(path) as node:
            attributes.change_owner(self._tree, node, uid, gid)

    def times(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        with self._user.node(path) as node:
            attributes.change_times(self._tree, node, atime_ns, mtime_ns)

    def setxattr(self, path: str, name: str, value: str) -> None:
        with self._user.node(path) as node:
            attributes.set_xattr(self._tree, node, name.encode(), bytes.fromhex(value))

    def removexattr(self, path: str, name: str) -> None:
        with self._user.node(path) as node:
            attributes.remove_xattr(self._tree, node, name.encode())
