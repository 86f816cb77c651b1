"""The request handlers: from FUSE's inode numbers and handles to nodes and open files of a tree.

What can be answered at once is answered on the loop, without a thread. Only what may wait for a disk or
work for long goes to a thread, through the gate of its node (gate.py).
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

import pyfuse3
import trio

from fusecrypt.errors import FusecryptError
from fusecrypt.lane import Lane
from fusecrypt.mount.damage import DamageLog
from fusecrypt.mount.gate import Gates
from fusecrypt.mount.handles import DirectoryHandle, FileHandle, Handles
from fusecrypt.mount.replies import CACHE_SECONDS, Replies, async_handler, dot, handler, size_in_doubt
from fusecrypt.mount.setattr import SetAttributes, clear_set_id, take_setgid_from_others
from fusecrypt.tree import attributes as tree_attributes
from fusecrypt.tree import changes
from fusecrypt.tree.nodes import Node, stale
from fusecrypt.tree.tree import Tree

_STATFS_FIELDS = (
    "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail",
)  # fmt: skip
_BUFFER = 4 << 20
"""Octets of the buffer that reads are answered from; the kernel never asks for more at once."""
_LONG_WRITE = 4 << 20
"""A write that first has to fill a gap of more than this goes to a thread."""


class Operations(pyfuse3.Operations):
    """All requests of one mount."""

    supports_dot_lookup = False

    def __init__(
        self, tree: Tree, *, writeback: bool = True, remote: bool = False, kernel_checks: bool = True
    ) -> None:
        """``kernel_checks``: the kernel checks permissions, ACLs among them. Otherwise nobody needs to.
        ``remote``: the lower file system is slow, and may report a failed write only at close.
        Without ``writeback`` the kernel takes size and times from below, which others may write too.

        ``before_waiting`` is called by a request that goes to a thread.
        """
        super().__init__()
        self.before_waiting: Callable[[], None] = lambda: None
        self.enable_writeback_cache = writeback and not tree.policy.read_only
        self.enable_acl = kernel_checks
        self._replies = Replies(owns_sizes=self.enable_writeback_cache)
        self._attributes = self._replies.attributes
        self.tree = tree
        self.lane = Lane(
            tree.codec.native,
            simple=tree.policy.simple,
            read_only=tree.policy.read_only,
            quiet=tree.policy.quiet,
            owns_sizes=self.enable_writeback_cache,
            remote=remote,
            valid=CACHE_SECONDS,
        )
        tree.use_lane(self.lane)
        self.handles = Handles(self.lane, tree)
        self._gates = Gates()
        self._damage = DamageLog()
        self._remote = remote
        self._by_root = os.geteuid() == 0
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER))

    def _node(self, inode: int) -> Node:
        return self.tree.nodes.by_number(inode)

    def _owner(self, ctx: pyfuse3.RequestContext) -> changes.Owner | None:
        return (ctx.uid, ctx.gid) if self._by_root else None

    def _appends(self, flags: int) -> bool:
        """Whether the end of the file is ours to find: with write-back caching the kernel knows it."""
        return bool(flags & os.O_APPEND) and not self.enable_writeback_cache

    def _mode(self, parent: Node, mode: int, ctx: pyfuse3.RequestContext) -> int:
        """The kernel leaves the umask to us, since a default ACL on the parent takes its place."""
        if mode & ctx.umask and not tree_attributes.has_default_acl(self.tree, parent):
            return mode & ~ctx.umask
        return mode

    # Names and attributes

    @handler
    def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        child = self.tree.lookup(self._node(parent), name)
        return self._replies.absent() if child is None else self._replies.found(*child)

    @handler
    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, n in inode_list:
            if inode != pyfuse3.ROOT_INODE:
                with suppress(OSError):  # pyfuse3 does not outlive an exception here
                    self.tree.forget(self._node(inode), n)

    @handler
    def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        node = self._node(inode)
        return self._attributes(node, self.tree.stat(node))

    @async_handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self._node(inode)
        with size_in_doubt(node) if fields.update_size else nullcontext():
            if fields.update_size:
                await self._truncate(node, attr.st_size, ctx)
            if fields.update_mtime and node.file is not None:
                node.file.born = None
            SetAttributes(self.tree, node, attr, fields).apply()
            return self._attributes(node, self.tree.stat(node))

    @handler
    def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self.tree.readlink(self._node(inode))

    @handler
    def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        figures, longest = self.tree.statfs()
        data = pyfuse3.StatvfsData()
        for name in _STATFS_FIELDS:
            setattr(data, name, getattr(figures, name))
        data.f_namemax = longest
        return data

    @handler
    def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Asked for access() and chdir() only, and only where the kernel does not check."""
        return self.tree.may(self._node(inode), mode)

    # Extended attributes

    @handler
    def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return tree_attributes.get_xattr(self.tree, self._node(inode), name)

    @handler
    def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        names = tree_attributes.list_xattrs(self.tree, self._node(inode))
        return names if ctx.uid == 0 else [name for name in names if not name.startswith(b"trusted.")]

    @handler
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        node = self._node(inode)
        tree_attributes.set_xattr(self.tree, node, name, value)
        if name == b"system.posix_acl_access" and self._by_root:
            take_setgid_from_others(self.tree, node, ctx)
        if not self.enable_acl:  # then the kernel does not know that an ACL may change the mode
            pyfuse3.invalidate_inode(inode, attr_only=True)

    @handler
    def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        tree_attributes.remove_xattr(self.tree, self._node(inode), name)

    # Changes to directories

    @handler
    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        above = self._node(parent)
        mode = self._mode(above, mode, ctx)
        return self._attributes(*changes.make_node(self.tree, above, name, mode, rdev, self._owner(ctx)))

    @handler
    def mkdir(
        self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        above = self._node(parent)
        mode = self._mode(above, mode, ctx)
        return self._attributes(*changes.make_directory(self.tree, above, name, mode, self._owner(ctx)))

    @handler
    def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        made = changes.symlink(self.tree, self._node(parent), name, target, self._owner(ctx))
        return self._attributes(*made)

    @handler
    def link(
        self, inode: int, parent: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        node = self._node(inode)
        return self._attributes(node, changes.link(self.tree, node, self._node(parent), name))

    @handler
    def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        changes.unlink(self.tree, self._node(parent), name)

    @handler
    def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        changes.remove_directory(self.tree, self._node(parent), name)

    @handler
    def rename(
        self,
        old_parent: int,
        old: bytes,
        new_parent: int,
        new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        changes.rename(self.tree, self._node(old_parent), old, self._node(new_parent), new, flags)

    # Files

    @handler
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        above = self._node(parent)
        mode = self._mode(above, mode, ctx)
        node, seen, file = changes.create(self.tree, above, name, mode, self._owner(ctx))
        if self.enable_writeback_cache:
            file.born = seen.stat.mtime_ns
        handle = FileHandle(node, file, by_root=ctx.uid == 0, appends=self._appends(flags))
        return pyfuse3.FileInfo(fh=self.handles.add_file(handle)), self._attributes(node, seen)

    @async_handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        node = self._node(inode)
        with size_in_doubt(node) if flags & os.O_TRUNC else nullcontext():
            if flags & os.O_TRUNC:
                await self._truncate(node, 0, ctx)
            return self._open(node, flags, ctx)

    def _open(self, node: Node, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        try:
            file = self.tree.open(node, flags & os.O_ACCMODE != os.O_RDONLY)
        except (OSError, FusecryptError) as error:
            self._damage.note(node, error)
            raise
        if self.enable_writeback_cache and node.opens == 1 and node.shown not in (None, file.size):
            # It changed below a moment ago. The kernel looks the name up again, and learns the size.
            self.tree.close_file(node)
            raise stale()
        handle = FileHandle(node, file, by_root=ctx.uid == 0, appends=self._appends(flags))
        info = pyfuse3.FileInfo(fh=self.handles.add_file(handle))
        info.keep_cache = handle.unchanged_since_last_close()
        return info

    @async_handler
    async def read(  # type: ignore[override] # pyfuse3 takes any buffer, and this one costs no copy
        self, fh: int, offset: int, size: int
    ) -> memoryview:
        handle = self.handles.file(fh)
        try:
            return await self._read(handle, offset, size)
        except OSError as error:
            self._damage.note(handle.node, error)
            raise

    async def _read(self, handle: FileHandle, offset: int, size: int) -> memoryview:
        if handle.node not in self._gates:
            try:
                # The reply is sent before anybody else can use the buffer.
                buffer = self._buffer
                return buffer[: handle.read_now(buffer, offset, size, self._remote)]
            except BlockingIOError:
                pass
        self.before_waiting()
        async with self._gates.shared(handle.node):
            buffer = memoryview(bytearray(size))
            n = await trio.to_thread.run_sync(handle.file.read_into, buffer, offset, size)
            return buffer[:n]

    @async_handler
    async def write(self, fh: int, offset: int, data: bytes) -> int:
        handle = self.handles.file(fh)
        if handle.appends:
            offset = handle.file.size
        with size_in_doubt(handle.node):
            if handle.node in self._gates or offset - handle.file.size > _LONG_WRITE:
                await self._alone(handle.node, lambda: handle.file.write(offset, data))
            else:
                handle.file.write(offset, data)
        if not handle.by_root and clear_set_id(handle.file.fd):
            pyfuse3.invalidate_inode(handle.node.number, attr_only=True)
        return len(data)

    async def _truncate(self, node: Node, size: int, ctx: pyfuse3.RequestContext) -> None:
        """Cut or extend; long extensions fill with encrypted zeros, so they run in a thread."""
        file = self.tree.open(node, True)
        try:
            if node in self._gates or size - file.size > _LONG_WRITE:
                await self._alone(node, lambda: file.truncate(size))
            else:
                file.truncate(size)
            node.shown = size
            if ctx.uid != 0:
                clear_set_id(file.fd)
        finally:
            self.tree.close_file(node)

    async def _alone(self, node: Node, work: Callable[[], None]) -> None:
        self.before_waiting()
        async with self._gates.alone(node):
            await trio.to_thread.run_sync(work)

    async def _in_thread(self, work: Callable[[int], None], fd: int) -> None:
        self.before_waiting()
        await trio.to_thread.run_sync(work, fd)

    @async_handler
    async def flush(self, fh: int) -> None:
        if not self._remote:
            # Nothing is deferred here or below: the kernel need not ask again.
            raise pyfuse3.FUSEError(errno.ENOSYS)
        copy = os.dup(self.handles.file(fh).file.fd)
        await self._in_thread(os.close, copy)

    @async_handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._in_thread(os.fdatasync if datasync else os.fsync, self.handles.file(fh).file.fd)

    @handler
    def release(self, fh: int) -> None:
        handle = self.handles.remove_file(fh)
        try:
            handle.note_close()
        finally:
            self.tree.close_file(handle.node)

    # Directories

    @handler
    def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return self.handles.add_directory(
            DirectoryHandle(self.tree.list(self._node(inode)), self._node(inode))
        )

    @handler
    def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        directory = self.handles.directory(fh)
        if start_id == 0:
            directory.rewind()
        dots = directory.dots()
        for position, (name, node) in enumerate(dots[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, dot(node), position):
                return
        for position, entry in directory.entries(max(0, start_id - len(dots))):
            node = self.tree.nodes.acquire(entry.seen.stat, directory.node, entry.lower)
            attr = self._replies.found(node, entry.seen)
            if not pyfuse3.readdir_reply(token, entry.name, attr, position + len(dots)):
                self.tree.forget(node)
                break

    @handler
    def releasedir(self, fh: int) -> None:
        self.handles.remove_directory(fh).listing.close()

    @async_handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._in_thread(os.fsync, self.handles.directory_fd(fh))
