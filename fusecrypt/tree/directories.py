"""Descriptors of lower directories: few are open at a time, and any can be opened again."""

from __future__ import annotations

import errno
import os
import resource
from collections import OrderedDict

from fusecrypt.errors import stale
from fusecrypt.lane import Lane
from fusecrypt.native import stat_fd
from fusecrypt.tree.nodes import Node

_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FEWEST, _MOST = 64, 4096


class Directories:
    """Open descriptors (O_PATH) of directory nodes, the least recently used closed first.

    A descriptor holds until the next call but 63, so use it at once and from one thread.
    """

    def __init__(self, root: Node, root_fd: int) -> None:
        self._root = root
        self._root_fd = root_fd
        self._open: OrderedDict[Node, int] = OrderedDict()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = max(_FEWEST, min(_MOST, soft // 4))
        self._lane: Lane | None = None

    def use_lane(self, lane: Lane) -> None:
        """Tell this lane, which has a mark for each directory node, what is open."""
        self._lane = lane
        lane.directory(self._root.number, self._root_fd)

    def fd(self, node: Node) -> int:
        """A descriptor for ``*at`` calls. Raises OSError: ESTALE if the directory is no longer there,
        ENOTDIR if it is none."""
        if node is self._root:
            return self._root_fd
        fd = self._open.get(node)
        if fd is not None:
            self._open.move_to_end(node)
            return fd
        if node.pin >= 0:
            return node.pin
        if not node.is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        fd = self._reopen(node)
        self.keep(node, fd)
        return fd

    def keep(self, node: Node, fd: int) -> None:
        """Take over a descriptor of a directory node that has none here."""
        self._open[node] = fd
        if self._lane is not None:
            self._lane.directory(node.number, fd)
        if len(self._open) > self._limit:
            self.drop(next(iter(self._open)))

    def drop(self, node: Node) -> None:
        """Close the descriptor of a node that is going away."""
        fd = self._open.pop(node, None)
        if fd is not None:
            if self._lane is not None:
                self._lane.directory(node.number, -1)
            os.close(fd)

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _reopen(self, node: Node) -> int:
        """Walk down from the nearest ancestor that is open, checking that each step is who it was."""
        steps: dict[Node, None] = {}
        at = node
        while at is not self._root and at not in self._open and at.pin < 0:
            # A circle can arise where somebody else moves lower directories about.
            if at.parent is None or at in steps:
                raise stale()
            steps[at] = None
            at = at.parent
        fd = self._root_fd if at is self._root else self._open.get(at, at.pin)
        borrowed = True
        for step in reversed(steps):
            try:
                below = os.open(step.name, _FLAGS, dir_fd=fd)
            except (FileNotFoundError, NotADirectoryError):
                raise stale() from None
            finally:
                if not borrowed:
                    os.close(fd)
            fd, borrowed = below, False
            if not step.is_same(stat_fd(fd, False)):
                os.close(fd)
                raise stale()
        return fd
