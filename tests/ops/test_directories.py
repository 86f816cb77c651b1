"""Directories that are removed while the lower file system keeps files there that are about to go."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio

from fusecrypt.lane import Storage
from tests.ops.support import ROOT, Client, awaited, caller, operations, refused


@pytest.mark.parametrize("kept", [".nfs00000001", ".fuse_hidden0001"])
def test_what_is_removed_but_open_is_waited_for(kept: str, tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        made = await client.handlers.mkdir(ROOT, b"d", 0o755, caller())
        hidden = tmp_path / "d" / kept
        hidden.touch()

        async def close() -> None:
            await trio.sleep(0.2)
            hidden.unlink()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            await client.handlers.rmdir(ROOT, b"d", caller())
        assert handed_over  # or what closes it below is not heard meanwhile
        assert not (tmp_path / "d").exists()
        await client.handlers.forget([(made.st_ino, 1)])

    handed_over: list[bool] = []
    with operations(tmp_path, storage=Storage.NETWORK, names=False) as handlers:
        handlers.before_waiting = lambda: handed_over.append(True)
        awaited(handlers, work)


def test_anything_else_is_refused_at_once_and_what_stays_in_the_end(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        made = await client.handlers.mkdir(ROOT, b"d", 0o755, caller())
        (tmp_path / "d/.nfs1").touch()
        (tmp_path / "d/file").touch()
        with trio.fail_after(0.5):
            await refused(errno.ENOTEMPTY, client.handlers.rmdir(ROOT, b"d", caller()))
        (tmp_path / "d/file").unlink()
        await refused(errno.ENOTEMPTY, client.handlers.rmdir(ROOT, b"d", caller()))
        await client.handlers.forget([(made.st_ino, 1)])

    with operations(tmp_path, storage=Storage.NETWORK, names=False) as handlers:
        awaited(handlers, work)


def test_on_a_disk_nobody_waits(tmp_path: Path) -> None:
    """There a file with such a name is a file."""

    async def work(client: Client) -> None:
        made = await client.handlers.mkdir(ROOT, b"d", 0o755, caller())
        (tmp_path / "d/.nfs1").touch()
        with trio.fail_after(0.5):
            await refused(errno.ENOTEMPTY, client.handlers.rmdir(ROOT, b"d", caller()))
        await client.handlers.forget([(made.st_ino, 1)])

    with operations(tmp_path, storage=Storage.DISK, names=False) as handlers:
        awaited(handlers, work)
