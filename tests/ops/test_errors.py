"""What callers get when something is wrong, and what is logged of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyfuse3
import pytest

from fusecrypt.lane import Storage
from fusecrypt.mount.operations import Operations
from fusecrypt.mount.replies import failures
from tests.ops.support import ROOT, Client, awaited, caller, fields, operations, refused
from tests.watch import ExpectedLog


def test_unexpected_failure_is_eio_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_log: ExpectedLog
) -> None:
    expected_log("request failed unexpectedly")

    async def work(client: Client) -> None:
        def broken(*_: object) -> None:
            raise ValueError("nobody thought of this")

        monkeypatch.setattr(client.handlers.tree, "lookup", broken)
        await refused(errno.EIO, client.handlers.lookup(ROOT, b"f", caller()))
        monkeypatch.undo()
        assert (await client.handlers.lookup(ROOT, b"f", caller())).st_ino == 0

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_expected_failures_are_not_logged(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        handlers = client.handlers
        await refused(errno.ENOENT, handlers.unlink(ROOT, b"none", caller()))
        await refused(errno.ENAMETOOLONG, handlers.mkdir(ROOT, b"n" * 144, 0o755, caller()))
        inode, fh = await client.create(b"f", b"x")
        await refused(errno.EEXIST, handlers.create(ROOT, b"f", 0o644, os.O_RDWR, caller()))
        await refused(errno.ENOTDIR, handlers.lookup(inode, b"x", caller()))
        await refused(errno.EISDIR, handlers.open(ROOT, os.O_RDONLY, caller()))
        await refused(errno.EFBIG, client.resize(inode, (1 << 63) - 1))
        await refused(errno.ENODATA, handlers.getxattr(inode, b"user.none", caller()))
        await client.done(inode, fh)

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_damaged_file_is_eio(tmp_path: Path, expected_log: ExpectedLog) -> None:
    expected_log(r"cannot be read: no eCryptfs marker")

    async def work(client: Client) -> None:
        inode, fh = await client.create(b"f", b"x" * 5000)
        await client.done(inode, fh)
        (lower,) = tmp_path.iterdir()
        lower.write_bytes(b"\0" * 20_000)
        attr = await client.handlers.lookup(ROOT, b"f", caller())
        await refused(errno.EIO, client.handlers.open(attr.st_ino, os.O_RDONLY, caller()))
        await client.handlers.forget([(attr.st_ino, 1)])

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_numbers_that_nobody_knows(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        handlers = client.handlers
        inode, fh = await client.create(b"f")
        await client.done(inode, fh)
        for request in (
            handlers.getattr(inode, caller()),
            handlers.lookup(inode, b"x", caller()),
            handlers.open(inode, os.O_RDONLY, caller()),
            handlers.setattr(inode, pyfuse3.EntryAttributes(), fields("mode"), None, caller()),
            handlers.mkdir(inode, b"d", 0o755, caller()),
        ):
            await refused(errno.ESTALE, request)
        await handlers.forget([(inode, 1), (12345, 1)])  # has no answer

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_references_are_counted(tmp_path: Path) -> None:
    """A number lives as long as the kernel holds as many lookups as it was given."""

    async def work(client: Client) -> None:
        handlers = client.handlers
        inode, fh = await client.create(b"f")
        for _ in range(3):
            assert (await handlers.lookup(ROOT, b"f", caller())).st_ino == inode
        await handlers.release(fh)
        await handlers.forget([(inode, 3)])
        assert (await handlers.getattr(inode, caller())).st_ino == inode
        await handlers.forget([(inode, 1)])
        await refused(errno.ESTALE, handlers.getattr(inode, caller()))

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_unlinked_but_known(tmp_path: Path) -> None:
    """What has no name any more is reached by its number until it is forgotten; its number is not reused."""

    async def work(client: Client) -> None:
        handlers = client.handlers
        inode, fh = await client.create(b"f", b"x" * 100)
        await handlers.release(fh)
        await handlers.unlink(ROOT, b"f", caller())
        other, other_fh = await client.create(b"f", b"other")
        assert other != inode
        attr = await handlers.getattr(inode, caller())
        assert (attr.st_nlink, attr.st_size) == (0, 100)
        info = await handlers.open(inode, os.O_RDWR, caller())
        assert await client.read(info.fh, 0, 200) == b"x" * 100
        await handlers.release(info.fh)
        await handlers.forget([(inode, 1)])
        await client.done(other, other_fh)

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


@pytest.mark.parametrize("storage", [Storage.DISK, Storage.NETWORK])
def test_flush(tmp_path: Path, storage: Storage) -> None:
    """Not needed on a local lower file system, which the kernel is told; passed on elsewhere. None fails."""
    failed = failures.copy()

    async def work(client: Client) -> None:
        inode, fh = await client.create(b"f")
        if storage is Storage.NETWORK:
            await client.handlers.flush(fh)
        else:
            await refused(errno.ENOSYS, client.handlers.flush(fh))
        await client.done(inode, fh)

    with operations(tmp_path) as handlers:
        awaited(Operations(handlers.tree, storage=storage), work)
    assert failures == failed


def test_close_all_leaves_nothing_open(tmp_path: Path) -> None:
    """When the mount went away with files open."""

    async def work(client: Client) -> None:
        inode, _ = await client.create(b"f", b"x")
        await client.handlers.opendir(ROOT, caller())
        client.handlers.handles.close_all()
        await client.handlers.forget([(inode, 1)])

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_read_only(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        await refused(errno.EROFS, client.handlers.mkdir(ROOT, b"d", 0o755, caller()))
        await refused(errno.EROFS, client.handlers.setxattr(ROOT, b"user.x", b"", caller()))
        assert not client.handlers.enable_writeback_cache

    with operations(tmp_path, read_only=True) as handlers:
        awaited(handlers, work)
