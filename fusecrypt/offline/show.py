"""Looking into a tree: paths both ways, directories, contents, and what is known of one object."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.errors import DamagedError, FormatError, UndecodableNameError, UsageError
from fusecrypt.offline.health import WELL, Health, examine
from fusecrypt.ondisk.extents import EXTENT
from fusecrypt.tree.attributes import list_xattrs
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.headers import Found
from fusecrypt.tree.listing import Entry
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Seen, Tree
from fusecrypt.tree.tree import lower_path as tree_path

PIECE = 1 << 20
"""Octets of a file that are read at once."""


@contextmanager
def node_at(tree: Tree, path: bytes) -> Iterator[Node]:
    """The object at an upper path, for a while. Raises OSError (ENOENT); symlinks are not followed."""
    node = tree.resolve(path)
    try:
        yield node
    finally:
        tree.forget(node)


def split(path: bytes) -> list[bytes]:
    """The names in a path; ``.`` and empty ones say nothing."""
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def entries(tree: Tree, node: Node) -> tuple[list[Entry], int]:
    """A directory by upper names, and how many lower names are not shown. Raises OSError."""
    listing = tree.list(node)
    try:
        found = [entry for _, entry in listing.entries(0, len(listing))]
        hidden = len(os.listdir(listing.fd)) - len(listing)
    finally:
        listing.close()
    return sorted(found, key=lambda entry: entry.name), hidden


def pieces(tree: Tree, path: bytes) -> Iterator[memoryview]:
    """The contents of a file, up to a MiB at a time, each piece valid until the next.

    All whole extents before the first that is missing are given. Raises OSError, then or at the beginning;
    DamagedError, FormatError, KeyNotFoundError for a file that is not in order.
    """
    with node_at(tree, path) as node:
        file = tree.open(node, False)
        try:
            buffer = memoryview(bytearray(PIECE))
            offset = 0
            while n := _read(tree, file, buffer, offset):
                yield buffer[:n]
                offset += n
        finally:
            tree.close_file(node)


def _read(tree: Tree, file: OpenFile, buffer: memoryview, offset: int) -> int:
    try:
        return file.read_into(buffer, offset, PIECE)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    try:  # perhaps it was a later extent
        return file.read_into(buffer, offset, EXTENT)
    except OSError as error:
        health, _ = examine(file.fd, tree.policy)
        if error.errno != errno.EIO or health.state in WELL:
            raise
        raise DamagedError(str(health)) from None


def lower_path(tree: Tree, path: bytes) -> bytes:
    """Where an existing object lies below the lower root. Raises OSError (ENOENT)."""
    with node_at(tree, b"/".join(split(path))) as node:
        return tree_path(node)


def upper_path(tree: Tree, root: Path, path: Path) -> bytes:
    """What an existing lower object is called above, ``path`` leading to it from anywhere or from ``root``.

    Raises OSError (ENOENT), UsageError for a path that does not lead into ``root``, UndecodableNameError.
    """
    names = split(_below(root, path))
    upper = [_decoded(tree, name) for name in names]
    with node_at(tree, b"/".join(upper)):
        return b"/".join(upper) or b"."


def _below(root: Path, path: Path) -> bytes:
    """A path relative to the root. Its last part may be a symlink, which is not followed."""
    real = root.resolve()
    if not path.is_absolute() and os.path.lexists(root / path):
        path = root / path
    absolute = path.parent.resolve() / path.name
    if not absolute.is_relative_to(real):
        raise UsageError(f"{path} does not lie in {root}")
    return os.fsencode(absolute.relative_to(real))


def _decoded(tree: Tree, lower: bytes) -> bytes:
    name = tree.codec.decode(lower)
    if name is None:
        raise UndecodableNameError("a name in it was not encrypted with the FNEK and cipher of this tree")
    return name


@dataclass(frozen=True)
class Facts:
    """All that is known of one object. ``lower`` is its path from the lower root; ``health`` and ``found``
    (the header) are for regular files only, ``target`` for symlinks."""

    lower: bytes
    seen: Seen
    xattrs: tuple[bytes, ...]
    health: Health | None = None
    found: Found | None = None
    target: bytes | None = None


def facts(tree: Tree, path: bytes) -> Facts:
    """Look at one object. Raises OSError."""
    names = split(path)
    with node_at(tree, b"/".join(names)) as node:
        lower = tree_path(node)
        seen = tree.stat(node)
        xattrs: tuple[bytes, ...] = ()
        with suppress(OSError):  # symlinks and special files have none
            xattrs = tuple(list_xattrs(tree, node))
        if node.is_regular:
            fd = tree.open_lower(node, os.O_RDONLY)
            try:
                health, found = examine(fd, tree.policy)
            finally:
                os.close(fd)
            return Facts(lower, seen, xattrs, health, found)
        return Facts(lower, seen, xattrs, target=_target(tree, node))


def _target(tree: Tree, node: Node) -> bytes | None:
    with suppress(OSError, FormatError):
        return tree.readlink(node)
    return None
