"""Requests that wait in threads, and those that come meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from fusecrypt.lane import Storage
from fusecrypt.mount.gate import Gates
from fusecrypt.mount.handles import FileHandle
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.nodes import Node
from tests.ops.support import ROOT, Client, awaited, caller, operations

LARGE = 32 << 20
"""So long an extension goes to a thread."""


class Brake:
    """Holds EncryptedFile's method in its thread until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        original = getattr(EncryptedFile, method)

        def held(file: EncryptedFile, *arguments: object) -> object:
            if threading.current_thread() is not threading.main_thread():
                self.entered.set()
                assert self.release.wait(30)
            return original(file, *arguments)

        monkeypatch.setattr(EncryptedFile, method, held)

    async def reached(self) -> None:
        await trio.to_thread.run_sync(self.entered.wait, 30)


def test_others_are_served_beside_a_long_truncation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brake = Brake(monkeypatch, "truncate")
    order = []

    async def work(client: Client) -> None:
        inode, fh = await client.create(b"f", b"start")
        other, other_fh = await client.create(b"other", b"other")

        async def extend() -> None:
            assert await client.resize(inode, LARGE) == LARGE
            order.append("extended")

        async def read() -> None:
            data = await client.read(fh, 0, 8)
            order.append(f"read {data!r}")

        async def write() -> None:
            await client.handlers.write(fh, LARGE, b"end")
            order.append("written")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(extend)
            await brake.reached()
            nursery.start_soon(read)
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert order == []  # this file's have to wait
            assert await client.read(other_fh, 0, 9) == b"other"  # others' have not
            assert (await client.handlers.getattr(inode, caller())).st_size == 5
            assert (await client.handlers.lookup(ROOT, b"other", caller())).st_ino == other
            brake.release.set()
        assert order[0] == "extended"
        assert sorted(order[1:]) == ["read b'start\\x00\\x00\\x00'", "written"]
        assert await client.read(fh, LARGE - 2, 9) == b"\0\0end"
        await client.handlers.forget([(other, 1)])
        await client.done(inode, fh)
        await client.done(other, other_fh)

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_others_are_served_beside_a_read_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a disk: it is read again in a thread, and what is in memory is not."""
    brake = Brake(monkeypatch, "read_into")
    there = FileHandle.read_now

    def not_in_memory(handle: FileHandle, buffer: memoryview, offset: int, n: int, remote: bool) -> int:
        if offset >= 4096:
            raise BlockingIOError
        return there(handle, buffer, offset, n, remote)

    monkeypatch.setattr(FileHandle, "read_now", not_in_memory)
    order = []

    async def work(client: Client) -> None:
        inode, fh = await client.create(b"f", b"x" * 5000)
        other, other_fh = await client.create(b"other", b"other")

        async def wait() -> None:
            order.append(await client.read(fh, 4990, 100))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await brake.reached()
            assert await client.read(other_fh, 0, 9) == b"other"
            await client.handlers.write(other_fh, 5, b" two")
            assert (await client.handlers.lookup(ROOT, b"other", caller())).st_ino == other
            assert order == []
            brake.release.set()
        assert order == [b"x" * 10]
        await client.handlers.forget([(other, 1)])
        await client.done(inode, fh)
        await client.done(other, other_fh)

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


@pytest.mark.parametrize("change", ["write", "truncate"])
def test_others_are_served_beside_a_change_on_a_slow_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """However small: where the lower file system may hang, only the file that is changed waits."""

    async def work(client: Client) -> None:
        inode, fh = await client.create(b"f", b"start")
        other, other_fh = await client.create(b"other", b"other")
        brake = Brake(monkeypatch, change)
        order = []

        async def change_it() -> None:
            if change == "write":
                await client.handlers.write(fh, 5, b"ed")
            else:
                await client.resize(inode, 7)
            order.append("changed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change_it)
            await brake.reached()
            assert await client.read(other_fh, 0, 9) == b"other"
            assert (await client.handlers.lookup(ROOT, b"other", caller())).st_ino == other
            assert order == []
            brake.release.set()
        assert await client.read(fh, 0, 9) == b"start" + (b"ed" if change == "write" else bytes(2))
        await client.handlers.forget([(other, 1)])
        await client.done(inode, fh)
        await client.done(other, other_fh)

    with operations(tmp_path, storage=Storage.NETWORK) as handlers:
        awaited(handlers, work)


def test_two_long_writes_to_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other: a gap is filled once, and the size only grows."""
    brake = Brake(monkeypatch, "write")

    async def work(client: Client) -> None:
        inode, fh = await client.create(b"f")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.handlers.write, fh, LARGE, b"last")
            await brake.reached()
            nursery.start_soon(client.handlers.write, fh, LARGE // 2, b"middle")
            await trio.testing.wait_all_tasks_blocked(0.05)
            brake.release.set()
        assert await client.read(fh, LARGE, 10) == b"last"
        assert await client.read(fh, LARGE // 2 - 1, 8) == b"\0middle\0"
        await client.done(inode, fh)

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


def test_a_waiting_request_hands_the_lead_over(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        calls = []
        client.handlers.before_waiting = lambda: calls.append("waits")
        inode, fh = await client.create(b"f", b"x")
        await client.read(fh, 0, 1)
        assert calls == []  # answered at once
        await client.handlers.fsync(fh, True)
        await client.resize(inode, LARGE)
        assert calls == ["waits"] * 2
        await client.done(inode, fh)

    with operations(tmp_path) as handlers:
        awaited(handlers, work)


class _Key:
    """Stands for a node that no file is open behind."""

    file = None


def test_gates() -> None:
    """Readers together, everybody else alone, and no gate stays when nobody waits."""
    gates, log = Gates(), []
    node: Node = _Key()  # type: ignore[assignment] # any key serves

    async def use(name: str, alone: bool) -> None:
        async with gates.alone(node) if alone else gates.shared(node):
            log.append(f"+{name}")
            assert node in gates
            await trio.sleep(0.01)
            log.append(f"-{name}")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(use, f"r{number}", False)
                nursery.start_soon(use, f"w{number}", True)
        assert node not in gates
        with trio.move_on_after(0.005):
            await use("cancelled", True)
        assert node not in gates
        await use("after", True)

    trio.run(main)
    for number in range(4):
        start = log.index(f"+w{number}")
        assert log[start + 1] == f"-w{number}"
    assert log[-2:] == ["+after", "-after"]
