"""Awaiting request handlers without FUSE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio

from fusecrypt.lane import Storage
from fusecrypt.mount.operations import Operations
from tests.tree.support import opened, policy

ROOT = pyfuse3.ROOT_INODE


def caller(uid: int = 0, gid: int = 0, umask: int = 0o022) -> Any:
    """Who asks; pyfuse3's own contexts cannot be made."""
    return SimpleNamespace(uid=uid, gid=gid, umask=umask, pid=1)


def fields(*names: str) -> Any:
    """Which attributes a setattr is to change: "size", "mode" …"""
    known = ("atime", "mtime", "ctime", "mode", "uid", "gid", "size")
    return SimpleNamespace(**{f"update_{name}": name in names for name in known})


@contextmanager
def operations(lower: Path, *, storage: Storage = Storage.MEMORY, **modes: Any) -> Iterator[Operations]:
    """The handlers over a fresh tree. At the end every handle must be released and every node forgotten."""
    with opened(lower, policy(**modes)) as tree:
        yield Operations(tree, storage=storage)


class Client:
    """Requests as the kernel sends them, for tests that care for few of them."""

    def __init__(self, handlers: Operations) -> None:
        self.handlers = handlers

    async def create(self, name: bytes, data: bytes = b"", flags: int = 2) -> tuple[int, int]:
        """Inode number and handle of a new file."""
        info, attr = await self.handlers.create(ROOT, name, 0o644, flags, caller())
        if data:
            await self.handlers.write(info.fh, 0, data)
        return attr.st_ino, info.fh

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        return bytes(await self.handlers.read(fh, offset, size))

    async def resize(self, inode: int, size: int) -> int:
        attr = pyfuse3.EntryAttributes()
        attr.st_size = size
        return (await self.handlers.setattr(inode, attr, fields("size"), None, caller())).st_size

    async def done(self, inode: int, fh: int) -> None:
        await self.handlers.release(fh)
        await self.handlers.forget([(inode, 1)])


def awaited(handlers: Operations, work: Callable[[Client], Awaitable[None]]) -> None:
    """Run ``work``, but no longer than a minute."""

    async def main() -> None:
        with trio.fail_after(60):
            await work(Client(handlers))

    trio.run(main)


async def refused(code: int, request: Awaitable[object]) -> None:
    """The request must be answered with this errno."""
    with pytest.raises(pyfuse3.FUSEError) as answer:
        await request
    assert answer.value.errno == code, answer.value
