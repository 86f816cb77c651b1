"""Requests that list directories or change what is in them."""

from __future__ import annotations

import errno
import os

import pyfuse3
import trio

from fusecrypt.mount.handles import DirectoryHandle
from fusecrypt.mount.replies import async_handler, dot, handler
from fusecrypt.mount.requests import Requests
from fusecrypt.tree import changes

_PAUSE = 0.02
_LOOKS = 50
"""A second, for files that were removed to be closed below."""


class DirectoryRequests(Requests):
    """What is asked of directories, but for looking names up."""

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

    @async_handler
    async def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        for _ in range(_LOOKS):
            try:
                return changes.remove_directory(self.tree, self._node(parent), name)
            except OSError as error:
                held = self._remote and error.errno == errno.ENOTEMPTY
                if not held or not changes.holds_removed(self.tree, self._node(parent), name):
                    raise
            self.before_waiting()
            await trio.sleep(_PAUSE)  # the kernel is about to have us forget what it has removed from there
        return changes.remove_directory(self.tree, self._node(parent), name)

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
