"""fusecrypt.tree as something that carries out plans, and what it shows as a manifest: no FUSE involved."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from fusecrypt.tree import attributes, changes
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Entry as TreeEntry
from fusecrypt.tree.tree import Tree
from tests import manifest
from tests.kernel import plan

CHUNK = 1 << 20


class TreeActor:
    """The operations of a mixed tree (see plan.Directory for what they mean), through a Tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def create(self, path: str, mode: int) -> None:
        with self._parent(path) as (parent, name):
            node, _, _ = changes.create(self._tree, parent, name, mode)
        self._tree.close_file(node)
        self._tree.forget(node)

    def write(self, path: str, offset: int, length: int, seed: int) -> None:
        with self._opened(path) as file:
            file.write(offset, plan.octets(length, seed))

    def append(self, path: str, length: int, seed: int) -> None:
        with self._opened(path) as file:
            file.write(file.size, plan.octets(length, seed))

    def truncate(self, path: str, size: int) -> None:
        with self._node(path) as node:
            attributes.truncate(self._tree, node, size)

    def mkdir(self, path: str, mode: int) -> None:
        with self._parent(path) as (parent, name):
            self._tree.forget(changes.make_directory(self._tree, parent, name, mode)[0])

    def rmdir(self, path: str) -> None:
        with self._parent(path) as (parent, name):
            changes.remove_directory(self._tree, parent, name)

    def unlink(self, path: str) -> None:
        with self._parent(path) as (parent, name):
            changes.unlink(self._tree, parent, name)

    def rename(self, old: str, new: str) -> None:
        with self._parent(old) as (old_parent, old_name), self._parent(new) as (new_parent, new_name):
            changes.rename(self._tree, old_parent, old_name, new_parent, new_name)

    def link(self, path: str, new: str) -> None:
        with self._node(path) as node, self._parent(new) as (parent, name):
            changes.link(self._tree, node, parent, name)
            self._tree.forget(node)

    def symlink(self, target: str, path: str) -> None:
        with self._parent(path) as (parent, name):
            self._tree.forget(changes.symlink(self._tree, parent, name, os.fsencode(target))[0])

    def mknod(self, path: str, mode: int, major: int, minor: int) -> None:
        device = os.makedev(major, minor)
        with self._parent(path) as (parent, name):
            self._tree.forget(changes.make_node(self._tree, parent, name, mode, device)[0])

    def chmod(self, path: str, mode: int) -> None:
        with self._node(path) as node:
            attributes.change_mode(self._tree, node, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        with self._node(path) as node:
            attributes.change_owner(self._tree, node, uid, gid)

    def times(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        with self._node(path) as node:
            attributes.change_times(self._tree, node, atime_ns, mtime_ns)

    def setxattr(self, path: str, name: str, value: str) -> None:
        with self._node(path) as node:
            attributes.set_xattr(self._tree, node, name.encode(), bytes.fromhex(value))

    def removexattr(self, path: str, name: str) -> None:
        with self._node(path) as node:
            attributes.remove_xattr(self._tree, node, name.encode())

    @contextmanager
    def _node(self, path: str) -> Iterator[Node]:
        node = self._tree.resolve(os.fsencode(path))
        try:
            yield node
        finally:
            self._tree.forget(node)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[Node, bytes]]:
        parent, name = os.path.split(path)
        with self._node(parent) as node:
            yield node, os.fsencode(name)

    @contextmanager
    def _opened(self, path: str) -> Iterator[OpenFile]:
        with self._node(path) as node:
            file = self._tree.open(node, True)
            try:
                yield file
            finally:
                self._tree.close_file(node)


def show(tree: Tree) -> list[manifest.Entry]:
    """The manifest of a tree, in the form of manifest.manifest."""
    entries: list[manifest.Entry] = []
    _walk(tree, tree.root, b"", entries, {})
    return entries


def _walk(
    tree: Tree, node: Node, relative: bytes, entries: list[manifest.Entry], seen: dict[int, str]
) -> None:
    listing = tree.list(node)
    found = [entry for _, entry in listing.entries(0, len(listing))]
    listing.close()
    for entry in sorted(found):
        child, _ = tree.lookup(node, entry.name) or (None, None)
        assert child, f"{entry.name!r} is listed and not found"
        path = os.path.join(relative, entry.name)
        entries.append(_describe(tree, child, entry, path, seen))
        if child.is_directory:
            _walk(tree, child, path, entries, seen)
        tree.forget(child)


def _describe(tree: Tree, node: Node, listed: TreeEntry, path: bytes, seen: dict[int, str]) -> manifest.Entry:
    status = listed.seen.stat
    kind = manifest.TYPES[stat.S_IFMT(status.mode)]
    entry: manifest.Entry = {"path": os.fsdecode(path), "type": kind}
    try:
        path.decode()
    except UnicodeDecodeError:
        entry["path_b64"] = base64.b64encode(path).decode()
    entry["mode"] = f"{stat.S_IMODE(status.mode):04o}"
    entry.update(uid=status.uid, gid=status.gid, mtime_ns=status.mtime_ns)
    if kind != "dir":
        entry["nlink"] = status.nlink
        if status.nlink > 1:
            entry["hardlink_of"] = seen.setdefault(status.ino, entry["path"])
    if kind in ("file", "symlink"):
        entry["size"] = listed.seen.size
    if kind in ("chr", "blk"):
        entry["rdev"] = [os.major(status.rdev), os.minor(status.rdev)]
    if kind == "symlink":
        entry["target"] = os.fsdecode(tree.readlink(node))
    if kind == "file":
        content = read(tree, node)
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        if len(content) != entry["size"]:
            entry["bytes_read"] = len(content)
    if kind in ("file", "dir"):
        names = sorted(attributes.list_xattrs(tree, node))
        values = {os.fsdecode(name): attributes.get_xattr(tree, node, name).hex() for name in names}
        if values:
            entry["xattrs"] = values
    return entry


def read(tree: Tree, node: Node) -> bytes:
    """The whole contents of a file."""
    file = tree.open(node, False)
    try:
        content = bytearray()
        buffer = bytearray(CHUNK)
        while count := file.read_into(memoryview(buffer), len(content), CHUNK):
            content += buffer[:count]
        return bytes(content)
    finally:
        tree.close_file(node)
