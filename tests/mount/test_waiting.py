"""What waits, and for whom: a lower file system that hangs, a daemon that is stopped, limits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mount.callers import OPEN, Caller
from tests.mount.support import PROGRAM, Mount, mounted, outcome, run

PLAIN = ("-o", "ecryptfs_enable_filename_crypto=n")
SIZE = 300_000
FILES = 300


@contextmanager
def stopped(mount: Mount) -> Iterator[None]:
    """Its daemon stands still: for a mount above, a lower file system that hangs."""
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(mount.pid, signal.SIGCONT)


def drop_from_memory(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Mount, Mount]]:
    """A mount, and the one that is its lower file system."""
    with (
        mounted(tmp_path / "lowest", *PLAIN, path=tmp_path / "lower") as below,
        mounted(tmp_path / "lower", *PLAIN, path=tmp_path / "up") as mount,
    ):
        for name in ("waits", "other"):
            (mount.path / name).write_bytes(bytes(SIZE))
            drop_from_memory(mount.path / name)
            drop_from_memory(below.path / name)
        yield mount, below


CALLS = {
    "a read": (OPEN("waits"), f"assert len(os.pread(fd, {SIZE}, 0)) == {SIZE}"),
    "an fsync": (OPEN("other") + "; os.pwrite(fd, b'x', 0)", "os.fsync(fd)"),
    "a lookup": ("", "assert not os.path.exists('absent')"),
    "a new directory": ("", "os.mkdir('new')"),
    "a new file": ("", "os.write(os.open('file', os.O_CREAT | os.O_WRONLY), b'contents')"),
}


def test_all_who_waited_for_a_hanging_lower_file_system_go_on(two: tuple[Mount, Mount]) -> None:
    mount, below = two
    with ExitStack() as stack:
        callers = [stack.enter_context(Caller(mount.path, *steps)) for steps in CALLS.values()]
        with stopped(below):
            for caller in callers:
                caller.call()
            assert all(caller.waits for caller in callers)
        assert all(caller.returns() for caller in callers)
    assert sorted(os.listdir(mount.path)) == ["file", "new", "other", "waits"]
    assert (mount.path / "file").read_bytes() == b"contents"
    assert (mount.path / "other").read_bytes() == b"x" + bytes(SIZE - 1)


def test_a_write_that_waits_leaves_the_daemon_free(tmp_path: Path) -> None:
    """Below, each write goes to the disk before it returns."""
    with (
        mounted(tmp_path / "lowest", *PLAIN, "--shared", path=tmp_path / "lower") as below,
        mounted(tmp_path / "lower", *PLAIN, path=tmp_path / "up") as mount,
    ):
        (mount.path / "file").write_bytes(b"before" * 10)
        with Caller(mount.path, OPEN("file") + "; os.pwrite(fd, b'x', 0)", "os.fsync(fd)") as caller:
            with stopped(below):
                caller.call()
                assert caller.waits
                assert "health    good" in run("status", mount.path).stdout
            assert caller.returns()
        assert (mount.path / "file").read_bytes() == b"xefore" + b"before" * 9


def test_who_waits_for_a_read_can_be_killed(two: tuple[Mount, Mount]) -> None:
    mount, below = two
    with Caller(mount.path, OPEN("waits"), "os.pread(fd, 10, 0)") as caller, stopped(below):
        caller.call()
        assert caller.waits
        assert caller.can_be_killed()
    assert (mount.path / "waits").read_bytes() == bytes(SIZE)


def test_a_stopped_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """Who waits for it can be killed meanwhile, and the others get their answers afterwards."""
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "there").write_bytes(b"x" * SIZE)
        (mount.path / "d").mkdir()
        with (
            Caller(mount.path / "d", "", "os.mkdir('made')") as maker,
            Caller(mount.path, "", "os.mkdir('never made')") as victim,
        ):
            with stopped(mount):
                for caller in (maker, victim):
                    caller.call()
                    assert caller.waits
                assert victim.can_be_killed()
            assert maker.returns()
        assert sorted(os.listdir(mount.path)) == ["d", "there"]
        assert os.listdir(mount.path / "d") == ["made"]
        assert (mount.path / "there").read_bytes() == b"x" * SIZE


@pytest.fixture
def limited(tmp_path: Path) -> Callable[[str], Path]:
    """The program under a limit of the shell's: words for ``ulimit``."""

    def make(words: str) -> Path:
        program = tmp_path / "limited"
        program.write_text(f'#!/bin/sh\nulimit {words} && exec {PROGRAM} "$@"\n')
        program.chmod(0o755)
        return program

    return make


def test_descriptors_that_run_out(tmp_path: Path, limited: Callable[[str], Path]) -> None:
    """A caller is told; what is open goes on, and when something is closed so does the rest."""
    with mounted(tmp_path / "lower", program=limited("-n 400")) as mount:
        for n in range(FILES):
            (mount.path / f"d{n}").mkdir()
            (mount.path / f"d{n}/f").write_bytes(b"%d" % n)
        with ExitStack() as stack:
            held: list[Any] = []

            def hold() -> None:
                for n in range(FILES):
                    held.append(stack.enter_context((mount.path / f"d{n}/f").open("r+b", buffering=0)))

            assert outcome(hold) == "EMFILE"
            assert len(held) > 20
            assert outcome((mount.path / f"d{FILES - 1}/f").read_bytes) == "EMFILE"
            held[0].write(b"still")
            os.fsync(held[0].fileno())
        for n in range(1, FILES):
            assert (mount.path / f"d{n}/f").read_bytes() == b"%d" % n
        assert (mount.path / "d0/f").read_bytes() == b"still"


def test_a_file_size_limit_is_the_callers(tmp_path: Path, limited: Callable[[str], Path]) -> None:
    with mounted(tmp_path / "lower", program=limited("-S -f 8")) as mount:
        (mount.path / "file").write_bytes(bytes(SIZE))
        command = ["sh", "-c", f"ulimit -f 100; trap '' XFSZ; head -c {SIZE} /dev/zero > {mount.path}/mine"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "File too large" in done.stderr
        assert 0 < (mount.path / "mine").stat().st_size <= 100 * 1024


def test_times_that_jump(tmp_path: Path) -> None:
    """Others write with a clock that is ahead and then behind: their contents show all the same."""
    with (
        mounted(tmp_path / "lower", "--shared", path=tmp_path / "a") as a,
        mounted(tmp_path / "lower", "--shared", path=tmp_path / "b") as b,
    ):
        (a.path / "f").write_bytes(b"first")
        for contents, clock in ((b"later", 1 << 33), (b"early", 1), (b"older", -(1 << 31)), (b"again", 1)):
            with (b.path / "f").open("wb") as file:
                file.write(contents)
            os.utime(b.path / "f", (clock, clock))
            time.sleep(1.1)
            assert (a.path / "f").read_bytes() == contents
            assert (a.path / "f").stat().st_mtime == clock
