"""A lower file system that hangs, for a name, for as long as a test wants.

Usage: ``python -m tests.mount.hangfs MOUNTPOINT FILE``. What hangs stands in FILE, one call on each line:
``lookup NAME``, ``read NAME`` or, of a directory, ``list NAME``. It lets the kernel keep names for a moment
only, and no contents.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from tests.reliability.lowerfs import Inode, LowerFs, serve

KEPT = 0.2
"""Seconds for which names and attributes are in memory."""


class HangFs(LowerFs):
    def __init__(self, hangs: Path) -> None:
        super().__init__()
        self._hangs = hangs

    async def _wait(self, call: bytes) -> None:
        while call in self._hangs.read_bytes().splitlines():
            await trio.sleep(0.02)

    async def lookup(self, parent: int, name: bytes, ctx: Any = None) -> pyfuse3.EntryAttributes:
        await self._wait(b"lookup " + name)
        return await super().lookup(parent, name, ctx)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode, keep_cache=False)

    def _names(self, inode: int) -> list[bytes]:
        entries = [entry for each in self._inodes.values() for entry in each.entries.items()]
        return [name for name, number in entries if number == inode]

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        for name in self._names(fh):
            await self._wait(b"read " + name)
        return await super().read(fh, offset, size)

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        for name in self._names(fh):
            await self._wait(b"list " + name)
        await super().readdir(fh, start_id, token)


if __name__ == "__main__":
    os.umask(0)
    Inode.cached_seconds = KEPT
    serve(HangFs(Path(sys.argv[2])), sys.argv[1])
