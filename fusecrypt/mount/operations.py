"""The request handlers: from FUSE's inode numbers and handles to nodes and open files of a tree.

What can be answered at once is answered on the loop, without a thread. Only what may wait for a disk or
work for long goes to a thread, through the gate of its node (gate.py).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TypeVar

import pyfuse3
import trio

from fusecrypt.errors import FusecryptError, stale
from fusecrypt.mount.directories import DirectoryRequests
from fusecrypt.mount.handles import FileHandle
from fusecrypt.mount.replies import async_handler, handler, size_in_doubt
from fusecrypt.mount.setattr import SetAttributes, clear_set_id, take_setgid_from_others
from fusecrypt.tree import attributes as tree_attributes
from fusecrypt.tree import changes
from fusecrypt.tree.nodes import Node

R = TypeVar("R")
_STATFS_FIELDS = (
    "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail",
)  # fmt: skip
_LONG_WRITE = 4 << 20
"""A write that first has to fill a gap of more than this goes to a thread."""


class Operations(DirectoryRequests):
    """All requests of one mount."""

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

        def write() -> bool:
            handle.file.write(handle.file.size if handle.appends else offset, data)
            return not handle.by_root and clear_set_id(handle.file.fd)

        with size_in_doubt(handle.node):
            if self._waits(handle.node, offset - handle.file.size):
                cleared = await self._alone(handle.node, write)
            else:
                cleared = write()
        if cleared:
            pyfuse3.invalidate_inode(handle.node.number, attr_only=True)
        return len(data)

    def _waits(self, node: Node, gap: int) -> bool:
        """Whether to change a file in a thread: ``gap`` octets behind its end are to be filled."""
        return self._remote or gap > _LONG_WRITE or node in self._gates

    async def _truncate(self, node: Node, size: int, ctx: pyfuse3.RequestContext) -> None:
        """Cut or extend; long extensions fill with encrypted zeros, so they run in a thread."""
        file = self.tree.open(node, True)
        try:
            if self._waits(node, size - file.size):
                await self._alone(node, lambda: file.truncate(size))
            else:
                file.truncate(size)
            node.shown = size
            if ctx.uid != 0:
                clear_set_id(file.fd)
        finally:
            self.tree.close_file(node)

    async def _alone(self, node: Node, work: Callable[[], R]) -> R:
        self.before_waiting()
        async with self._gates.alone(node):
            return await trio.to_thread.run_sync(work)

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

    def _appends(self, flags: int) -> bool:
        """Whether the end of the file is ours to find: with write-back caching the kernel knows it."""
        return bool(flags & os.O_APPEND) and not self.enable_writeback_cache
