"""An eCryptfs tree seen decrypted, over the descriptor of its lower root.

Lower objects are reached from open directories by one name at a time, never through symbolic links, and
are checked to be the object that was meant. Reading changes nothing below. A tree belongs to one thread;
open files alone may be read in others (see files.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from fusecrypt.errors import FormatError, stale
from fusecrypt.lane import Lane, OpenRecord
from fusecrypt.native import Stat, open_quietly, stat_fd, stat_many
from fusecrypt.tree.directories import Directories
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.files import OpenFile, open_file
from fusecrypt.tree.forms import Forms
from fusecrypt.tree.listing import Listing
from fusecrypt.tree.names import PlainNames, name_codec
from fusecrypt.tree.nodes import Node, NodeTable
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.sizes import is_there, peeked_size, regular_size

_OPEN_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Seen(NamedTuple):
    """Attributes as they are seen above: the lower stat, and the upper size in octets."""

    stat: Stat
    size: int


def by_descriptor(fd: int) -> str:
    """A path that leads to what ``fd`` (also O_PATH) is open on, whatever became of its name."""
    return f"/proc/self/fd/{fd}"


def lower_path(node: Node) -> bytes:
    """Where an object lies below the lower root, by the link that was seen last."""
    names = []
    while node.parent is not None:
        names.append(node.name)
        node = node.parent
    return b"/".join(reversed(names)) or b"."


class Tree:
    """One lower tree and the keys and modes it is used with."""

    def __init__(self, root_fd: int, policy: Policy) -> None:
        """Take over ``root_fd``, a descriptor of the lower directory. Raises OSError."""
        self.policy = policy
        others = policy.other_names if policy.read_only else ()
        self.codec = PlainNames() if policy.encrypted_view else name_codec(policy.names, others)
        self.root_fd = root_fd
        self.nodes = NodeTable(stat_fd(root_fd, False))
        self.root = self.nodes.root
        self.directories = Directories(self.root, root_fd)
        self.nodes.on_drop = self.directories.drop
        self._lane: Lane | None = None
        self._forms: Forms | None = None

    def use_lane(self, lane: Lane) -> None:
        """Share nodes, directories and open files with the express lane of a mount, from the beginning."""
        self._lane = lane
        self._forms = Forms(lane, self.policy)
        self.nodes.on_open = self._take_over
        self.nodes.use_lane(lane)
        self.directories.use_lane(lane)

    def close(self) -> None:
        """Close every descriptor. Open files are to be released before."""
        self.directories.close()
        self.nodes.close()
        os.close(self.root_fd)

    def check_writable(self) -> None:
        """Raises OSError (EROFS) where the policy is read-only."""
        if self.policy.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Looking

    def lookup(self, parent: Node, name: bytes) -> tuple[Node, Seen] | None:
        """The object called ``name``, with a reference to release, or None. Raises OSError."""
        fd = self.directories.fd(parent)
        for lower in self.codec.spellings(name):
            st = _peek(fd, lower)
            if st is not None:
                seen = self.see(st, fd, lower)
                return self.nodes.acquire(st, parent, lower), seen
        return None

    def resolve(self, path: bytes) -> Node:
        """The node at an upper path from the root, with a reference. Raises OSError (ENOENT)."""
        node = self.root
        node.refs += 1
        for name in filter(None, path.split(b"/")):
            try:
                found = self.lookup(node, name)
            finally:
                self.forget(node)
            if found is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(path))
            node = found[0]
        return node

    def forget(self, node: Node, n: int = 1) -> None:
        """Drop ``n`` references."""
        self.nodes.release(node, n)

    def stat(self, node: Node) -> Seen:
        """The node's attributes. Raises OSError: ESTALE if it is no longer where it was."""
        if node.file is not None:
            return Seen(stat_fd(node.file.fd, False), node.file.size)
        if node.parent is None:
            return self._stat_unlinked(node)
        fd = self.directories.fd(node.parent)
        st = _peek(fd, node.name)
        if st is None or not node.is_same(st):
            raise stale()
        if st.error == errno.EIO:
            raise OSError(st.error, os.strerror(st.error))
        return self.see(st, fd, node.name)

    def _stat_unlinked(self, node: Node) -> Seen:
        with self.handle(node) as fd:
            if node.is_regular:
                with suppress(OSError):
                    readable = os.open(by_descriptor(fd), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                    try:
                        st = stat_fd(readable, True)
                        return Seen(st, regular_size(st, readable, self.policy))
                    finally:
                        os.close(readable)
            st = stat_fd(fd, False)
            return Seen(st, st.size) if node.is_regular else self.see(st, fd, b"")

    def see(self, st: Stat, dir_fd: int, lower: bytes) -> Seen:
        """Upper attributes of a child of an open directory, from its stat with a peek."""
        kind = stat.S_IFMT(st.mode)
        if kind == stat.S_IFREG:
            size = peeked_size(st, self.policy)
            if size is None:
                path = f"{by_descriptor(dir_fd)}/{os.fsdecode(lower)}"
                size = regular_size(st, path, self.policy)
            return Seen(st, size)
        if kind == stat.S_IFLNK and not self.codec.plain:
            with suppress(OSError, FormatError):
                target = os.readlink(lower, dir_fd=dir_fd)
                return Seen(st, len(self.codec.decode_target(target)))
        return Seen(st, st.size)

    def readlink(self, node: Node) -> bytes:
        """The target of a symlink. Raises OSError; FormatError (EINVAL) if it does not decode."""
        with self.handle(node) as fd:
            return self.codec.decode_target(os.readlink(b"", dir_fd=fd))

    def may(self, node: Node, mode: int) -> bool:
        """Whether this process may read, write, execute or search (os.R_OK …) the lower object."""
        with self.handle(node) as fd:
            return os.access(by_descriptor(fd), mode, effective_ids=True)

    def statfs(self) -> tuple[os.statvfs_result, int]:
        """The lower file system's figures, and the longest upper name in octets."""
        figures = os.fstatvfs(self.root_fd)
        return figures, self.codec.longest(figures.f_namemax)

    # Holding

    @contextmanager
    def handle(self, node: Node) -> Iterator[int]:
        """An O_PATH descriptor of exactly this object, for a moment. Raises OSError (ESTALE)."""
        if node.pin >= 0:
            yield node.pin
            return
        if node.file is not None:
            yield node.file.fd
            return
        if node is self.root:
            yield self.root_fd
            return
        fd = self.open_lower(node, os.O_PATH)
        try:
            yield fd
        finally:
            os.close(fd)

    def open_lower(self, node: Node, flags: int) -> int:
        """A new descriptor of the lower object, checked to be this one. Raises OSError (ESTALE)."""
        if node.pin >= 0:
            return os.open(by_descriptor(node.pin), flags | os.O_NONBLOCK | os.O_CLOEXEC)
        open_ = open_quietly if self.policy.quiet else os.open
        if node is self.root:
            return open_(b".", flags | os.O_CLOEXEC, dir_fd=self.root_fd)
        if node.parent is None:
            if node.file is None:
                raise stale()
            return os.open(by_descriptor(node.file.fd), flags | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fd = open_(node.name, flags | _OPEN_FLAGS, dir_fd=self.directories.fd(node.parent))
        except FileNotFoundError:
            raise stale() from None
        if not node.is_same(stat_fd(fd, False)):
            os.close(fd)
            raise stale()
        return fd

    def open(self, node: Node, writing: bool) -> OpenFile:
        """Open a regular file; each open is to be matched by a close(). Raises OSError, FusecryptError."""
        if not node.is_regular:
            raise OSError(errno.EISDIR if node.is_directory else errno.ENXIO, "not a regular file")
        if writing:
            self.check_writable()
        access = os.O_RDWR if writing else os.O_RDONLY
        if node.file is None:
            fd = self.open_lower(node, access)
            try:
                file = open_file(fd, writing, self.policy)
                if self._forms is not None and isinstance(file, EncryptedFile):
                    self._forms.learn(file.found)
            except BaseException:
                os.close(fd)
                raise
            node.file = file
        elif writing and not node.file.writable:
            node.file.adopt(self.open_lower(node, access))
        return self.hold(node, node.file)

    def _take_over(self, node: Node, opened: OpenRecord) -> None:
        """Go on with what the lane had open; the handles of a file then are ours."""
        if node.is_directory:
            self.directories.keep(node, opened.fd)
            return
        try:
            file = open_file(opened.fd, opened.writable, self.policy)
        except BaseException:
            os.close(opened.fd)
            raise
        file.born = opened.born
        for _ in range(opened.opens):
            self.hold(node, file)

    def hold(self, node: Node, file: OpenFile) -> OpenFile:
        """Count one more handle of an open file."""
        node.file = file
        if node.opens == 0 and self._lane is not None:
            self._lane.file(node.number, file.lane)
        node.opens += 1
        node.refs += 1
        return file

    def close_file(self, node: Node) -> None:
        """Undo one open; the last one closes the lower file and wipes its key."""
        node.opens -= 1
        if node.opens == 0 and node.file is not None:
            file, node.file = node.file, None
            if self._lane is not None:
                self._lane.file(node.number, None)
                self.nodes.unsettled.append(node)
            try:
                if not node.linked and node.refs > 1 and node.pin < 0:
                    node.pin = os.open(by_descriptor(file.fd), os.O_PATH | os.O_CLOEXEC)
            finally:
                file.close()
                self.forget(node)
            return
        self.forget(node)

    def list(self, node: Node) -> Listing:
        """The entries of a directory as they are now. Raises OSError."""
        return Listing(self, self.open_lower(node, os.O_RDONLY | os.O_DIRECTORY))


def _peek(dir_fd: int, lower: bytes) -> Stat | None:
    """A child of an open directory, with what its header says, or None if there is none. Raises OSError."""
    st = stat_many(dir_fd, [lower], True)[0]
    return st if is_there(st) else None
