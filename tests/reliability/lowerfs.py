"""A lower file system in memory that remembers every change in the order it was asked for.

Usage: ``python -m tests.reliability.lowerfs MOUNTPOINT LOG``. It answers until it is unmounted, then stores
the log (pickled). The attribute ``user.position`` of its root tells how many changes there were so far. What
a power cut would have left is made from the log by :mod:`tests.reliability.cuts`.
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyfuse3
import trio

POSITION = b"user.position"
Change = tuple[Any, ...]
"""What was done, to which inode(s), with what; see the calls of ``_note``."""


class Inode:
    """One object. ``content`` is of files, ``entries`` of directories, ``target`` of symlinks."""

    cached_seconds: ClassVar[float] = 3600

    def __init__(self, number: int, mode: int, target: bytes = b"") -> None:
        self.number = number
        self.mode = mode
        self.target = target
        self.content = bytearray()
        self.entries: dict[bytes, int] = {}
        self.xattrs: dict[bytes, bytes] = {}
        self.links = 0
        self.owner = (0, 0)
        self.times = [time.time_ns()] * 3

    def attributes(self) -> pyfuse3.EntryAttributes:
        attr = pyfuse3.EntryAttributes()
        attr.st_ino = self.number
        attr.st_mode = self.mode
        attr.st_nlink = self.links
        attr.st_uid, attr.st_gid = self.owner
        attr.st_size = len(self.target or self.content)
        attr.st_blksize = 4096
        attr.st_blocks = -(-attr.st_size // 512)
        attr.st_atime_ns, attr.st_mtime_ns, attr.st_ctime_ns = self.times
        attr.entry_timeout = attr.attr_timeout = self.cached_seconds
        return attr


class LowerFs(pyfuse3.Operations):
    """What fusecrypt needs of a lower file system, no more."""

    enable_writeback_cache = False

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Change] = []
        self._inodes = {pyfuse3.ROOT_INODE: Inode(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o755)}
        self._next = pyfuse3.ROOT_INODE

    def _note(self, *change: Any) -> None:
        self.log.append(change)

    def _child(self, parent: int, name: bytes) -> Inode:
        try:
            return self._inodes[self._inodes[parent].entries[name]]
        except KeyError:
            raise pyfuse3.FUSEError(errno.ENOENT) from None

    def _make(self, parent: int, name: bytes, mode: int, target: bytes = b"") -> Inode:
        self._next += 1
        inode = self._inodes[self._next] = Inode(self._next, mode, target)
        self._link(parent, name, inode)
        self._note("make", parent, name, inode.number, mode, target)
        return inode

    def _link(self, parent: int, name: bytes, inode: Inode) -> None:
        entries = self._inodes[parent].entries
        if name in entries:
            raise pyfuse3.FUSEError(errno.EEXIST)
        entries[name] = inode.number
        inode.links += 1

    async def lookup(self, parent: int, name: bytes, ctx: Any = None) -> pyfuse3.EntryAttributes:
        return self._child(parent, name).attributes()

    async def getattr(self, inode: int, ctx: Any = None) -> pyfuse3.EntryAttributes:
        return self._inodes[inode].attributes()

    async def setattr(
        self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        node = self._inodes[inode]
        if fields.update_size:
            size = attr.st_size
            del node.content[size:]
            node.content.extend(bytes(size - len(node.content)))
            self._note("truncate", inode, size)
        if fields.update_mode:
            node.mode = attr.st_mode
        if fields.update_mtime:
            node.times[1] = attr.st_mtime_ns
        return node.attributes()

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        inode = self._make(parent, name, mode)
        return pyfuse3.FileInfo(fh=inode.number), inode.attributes()

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._make(parent, name, stat.S_IFDIR | mode).attributes()

    async def symlink(self, parent: int, name: bytes, target: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._make(parent, name, stat.S_IFLNK | 0o777, target).attributes()

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return self._inodes[inode].target

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        child = self._child(parent, name)
        if child.entries:
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        child.links -= 1
        del self._inodes[parent].entries[name]
        self._note("unlink", parent, name)

    async def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        await self.unlink(parent, name, ctx)

    async def rename(
        self, old_parent: int, old: bytes, new_parent: int, new: bytes, flags: int, ctx: Any
    ) -> None:
        moved = self._child(old_parent, old)
        self._inodes[new_parent].entries[new] = moved.number
        del self._inodes[old_parent].entries[old]
        self._note("rename", old_parent, old, new_parent, new)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        return bytes(self._inodes[fh].content[offset : offset + size])

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        content = self._inodes[fh].content
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        self._inodes[fh].times[1] = time.time_ns()
        self._note("write", fh, offset, bytes(data))
        return len(data)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self._note("sync", fh)

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        entries = sorted(self._inodes[fh].entries.items())
        for position, (name, number) in enumerate(entries[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self._inodes[number].attributes(), position):
                break

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._note("syncdir", fh)

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        if name == POSITION:
            return str(len(self.log)).encode()
        try:
            return self._inodes[inode].xattrs[name]
        except KeyError:
            raise pyfuse3.FUSEError(errno.ENODATA) from None

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        self._inodes[inode].xattrs[name] = bytes(value)
        self._note("xattr", inode, name, bytes(value))

    async def listxattr(self, inode: int, ctx: Any) -> Sequence[bytes]:
        return list(self._inodes[inode].xattrs)

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = 1 << 28
        data.f_files = data.f_ffree = data.f_favail = 1 << 20
        data.f_namemax = 255
        return data


def serve(operations: LowerFs, mountpoint: str) -> None:
    """Until it is unmounted."""
    pyfuse3.init(operations, mountpoint, {*pyfuse3.default_options, "fsname=lowerfs", "default_permissions"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


def main(mountpoint: str, log: str) -> None:
    operations = LowerFs()
    serve(operations, mountpoint)
    Path(log).write_bytes(pickle.dumps(operations.log))


if __name__ == "__main__":
    os.umask(0)
    main(*sys.argv[1:])
