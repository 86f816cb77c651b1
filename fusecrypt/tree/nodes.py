"""Nodes: the lower objects that somebody refers to, by identity rather than by path.

A node is found again through one of its links (parent node and lower name), or through a descriptor that is
kept when its last link went while somebody still referred to it. Nodes of other objects do not exist, so
memory and descriptors follow what is in use, not the size of the tree.

A mount has an express lane (fusecrypt/lane.py) that keeps what is plain in a small record of its own. Such an
object becomes a node when it is asked for here, and a record again when nothing special is left about it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from fusecrypt.errors import stale
from fusecrypt.lane import Lane, OpenRecord, Record
from fusecrypt.native import Stat

if TYPE_CHECKING:
    from fusecrypt.tree.files import OpenFile

Link = tuple["Node", bytes]
ROOT_NUMBER = 1
_FIRST_SYNTHETIC = 1 << 63


class Node:
    """A lower object. ``number`` is unique among living nodes: 1 for the root, else the lower inode number
    if that is free. ``parent`` and ``name`` are the link that was seen last, ``more`` the older ones.

    ``refs`` counts callers, open handles and child nodes; at zero the node is dropped. For whoever caches:
    ``stamp``, the times and size that cached contents belong to; ``shown``, the size that was given away;
    ``generation``, which of several states that have nothing to do with one another this is.
    """

    __slots__ = (
        "dev", "file", "generation", "ino", "kind", "more", "name", "number", "opens", "parent", "pin",
        "refs", "shown", "stamp",
    )  # fmt: skip

    def __init__(self, st: Stat, number: int) -> None:
        self.dev = st.dev
        self.ino = st.ino
        self.kind = stat.S_IFMT(st.mode)
        self.number = number
        self.parent: Node | None = None
        self.name = b""
        self.more: dict[Link, None] | None = None
        self.refs = 0
        self.file: OpenFile | None = None
        self.opens = 0
        self.pin = -1
        self.stamp: tuple[int, int, int] | None = None
        self.shown: int | None = None
        self.generation = 0

    @property
    def is_directory(self) -> bool:
        return self.kind == stat.S_IFDIR

    @property
    def is_regular(self) -> bool:
        return self.kind == stat.S_IFREG

    @property
    def linked(self) -> bool:
        return self.parent is not None

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to know about it but its one link."""
        return (
            self.kind != stat.S_IFDIR
            and self.parent is not None
            and self.pin < 0
            and self.file is None
            and not self.more
            and self.number == self.ino
            and self.refs > 0
        )

    def record(self) -> Record:
        """A plain node as the lane keeps it."""
        assert self.parent is not None
        shown = -1 if self.shown is None else self.shown
        return Record(
            self.number, self.dev, self.ino, self.parent.number, self.refs, shown, self.stamp, self.kind,
            self.generation, -1, self.name,
        )  # fmt: skip

    @classmethod
    def of_record(cls, record: Record) -> Node:
        """The node of an object of the lane's, without its link."""
        node = cls.__new__(cls)
        node.dev = record.dev
        node.ino = record.ino
        node.kind = record.kind
        node.number = record.number
        node.parent = None
        node.name = b""
        node.more = None
        node.refs = record.lookups
        node.file = None
        node.opens = 0
        node.pin = record.pin
        node.stamp = record.stamp
        node.shown = None if record.shown < 0 else record.shown
        node.generation = record.generation
        return node

    def is_same(self, st: Stat) -> bool:
        """Whether ``st`` describes this object."""
        return st.ino == self.ino and st.dev == self.dev and stat.S_IFMT(st.mode) == self.kind


class NodeTable:
    """All living nodes. ``on_drop`` is told of each one that goes, ``on_open`` of each that comes from the
    lane open."""

    def __init__(self, root: Stat) -> None:
        self.on_drop: Callable[[Node], None] = lambda node: None
        self.on_open: Callable[[Node, OpenRecord], None] = lambda node, opened: None
        self.root = Node(root, ROOT_NUMBER)
        self.root.refs = 1
        self._by_number = {ROOT_NUMBER: self.root}
        self._by_identity = {(root.dev, root.ino): self.root}
        self._synthetic = count(_FIRST_SYNTHETIC)
        self._lane: Lane | None = None
        self.unsettled: list[Node] = []
        """Nodes that may have become plain since :meth:`settle`."""

    def __len__(self) -> int:
        return len(self._by_number)

    def use_lane(self, lane: Lane) -> None:
        """Share objects with this lane, from the beginning."""
        self._lane = lane
        self._mark(self.root)

    def by_number(self, number: int) -> Node:
        """Raises OSError (ESTALE) for a number that no living node has."""
        node = self._by_number.get(number) or self._take(number)
        if node is None:
            raise stale()
        return node

    def _by_stat(self, st: Stat) -> Node | None:
        """What is known under this device and inode number."""
        node = self._by_identity.get((st.dev, st.ino))
        if node is None and self._lane is not None:
            number = self._lane.find(st.dev, st.ino)
            return None if number is None else self._take(number)
        return node

    def find(self, st: Stat) -> Node | None:
        """The living node of the object that ``st`` describes."""
        node = self._by_stat(st)
        return node if node is not None and node.is_same(st) else None

    def acquire(self, st: Stat, parent: Node, name: bytes) -> Node:
        """The node of the object at that link, made if need be, with one more reference."""
        node = self._by_stat(st)
        if node is None or not node.is_same(st):
            # Otherwise an object with this inode number was replaced behind our back.
            node = Node(st, self._free_number(st.ino))
            self._put(node)
        node.refs += 1
        self.add_link(node, parent, name)
        return node

    def _free_number(self, ino: int) -> int:
        """An inode number that no living node has: the lower one if it can be."""
        while ino in self._by_number or self._take(ino) is not None:
            ino = next(self._synthetic)
        return ino

    def _put(self, node: Node) -> None:
        self._by_number[node.number] = node
        self._by_identity[node.dev, node.ino] = node
        if self._lane is not None:
            self.unsettled.append(node)

    def _mark(self, node: Node) -> None:
        """Let the lane know of a node, and by which link it is found now."""
        if self._lane is not None:
            parent = 0 if node.parent is None else node.parent.number
            self._lane.mark(node.number, node.dev, node.ino, node.kind, parent, node.name)

    def _take(self, number: int) -> Node | None:
        """The node of an object that only the lane knows so far, with its parents up to one that is known
        here. They are taken in a loop: a tree may be deeper than Python's stack."""
        if self._lane is None:
            return None
        taken: list[tuple[Node, Record]] = []
        while number not in self._by_number and (record := self._lane.take(number)):
            taken.append((self._adopt(record), record))
            number = record.parent
        for node, record in taken:
            parent = self._by_number.get(record.parent) if node.pin < 0 else None
            if parent is not None:  # without its parent it is stale
                node.parent, node.name = parent, record.name
                parent.refs += 1
        for node, record in taken:
            if record.open is not None:
                self.on_open(node, record.open)
        return taken[0][0] if taken else None

    def _adopt(self, record: Record) -> Node:
        node = Node.of_record(record)
        self._by_number[node.number] = node
        self._by_identity[node.dev, node.ino] = node
        self.unsettled.append(node)
        return node

    def settle(self) -> None:
        """Give what is plain again to the lane. Only between requests: the nodes are gone afterwards."""
        lane = self._lane
        nodes, self.unsettled = self.unsettled, []
        for node in nodes:
            if lane is not None and node.is_plain and lane.give(node.record()):
                self._forget(node)

    def _forget(self, node: Node) -> None:
        del self._by_number[node.number]
        if self._by_identity.get((node.dev, node.ino)) is node:
            del self._by_identity[node.dev, node.ino]
        parent, node.parent, node.refs = node.parent, None, 0
        assert parent is not None
        self.release(parent)

    def acquire_new(self, st: Stat, parent: Node, name: bytes) -> Node:
        """The same for an object that was made just now: a node with its inode number is of another one,
        which went behind our back."""
        if self._by_stat(st) is not None:
            del self._by_identity[st.dev, st.ino]
        return self.acquire(st, parent, name)

    def release(self, node: Node, n: int = 1) -> None:
        """Drop ``n`` references, and the node with the last one."""
        node.refs -= n
        while node.refs <= 0:
            if self._by_number.pop(node.number, None) is not None and self._lane is not None:
                self._lane.unmark(node.number)
            if self._by_identity.get((node.dev, node.ino)) is node:
                del self._by_identity[node.dev, node.ino]
            self.on_drop(node)
            if node.pin >= 0:
                os.close(node.pin)
                node.pin = -1
            for parent, _ in node.more or ():
                self.release(parent)
            node.more = None
            parent_of_first, node.parent = node.parent, None
            if parent_of_first is None:
                return
            node = parent_of_first
            node.refs -= 1

    def close(self) -> None:
        """Close what nodes without a link are held by."""
        for node in self._by_number.values():
            if node.pin >= 0:
                os.close(node.pin)
                node.pin = -1

    def add_link(self, node: Node, parent: Node, name: bytes) -> None:
        """Remember a link and use it from now on; a directory has only one, so a new one replaces it.

        Links that somebody removed behind our back are not noticed, but they are not used either.
        """
        if node.parent is parent and node.name == name:
            return
        old, old_name = node.parent, node.name
        node.parent, node.name = parent, name
        parent.refs += 1
        self._mark(node)
        if old is None:
            return
        if node.is_directory:
            self.release(old)
            return
        if node.more is None:
            node.more = {}
        node.more[old, old_name] = None
        if (parent, name) in node.more:
            del node.more[parent, name]
            parent.refs -= 1  # the reference of its old place

    def remove_link(self, node: Node, parent: Node, name: bytes) -> None:
        """Forget a link that is gone, if it was known."""
        if node.more and (parent, name) in node.more:
            del node.more[parent, name]
        elif node.parent is parent and node.name == name:
            node.parent, node.name = node.more.popitem()[0] if node.more else (None, b"")
            self._mark(node)
        else:
            return
        self.release(parent)
