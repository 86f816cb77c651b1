"""A daemon whose clock jumps, by years and to and fro: nothing waits, ends or expires by it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.support import PROGRAM, mounted, run

LIBRARY = "/usr/lib/*/faketime/libfaketime.so.1"
"""Debian's package faketime: another CLOCK_REALTIME for a program, by a file that may change."""
JUMPS = ("+10y", "-30y", "+60")
YEAR = 365 * 86400


@pytest.fixture
def clock(tmp_path: Path) -> Callable[[str], None]:
    """Sets the clock of ``jumping``'s daemons, from the true one."""

    def turn(words: str) -> None:
        (tmp_path / "clock").write_text(words)

    return turn


@pytest.fixture
def jumping(tmp_path: Path, clock: Callable[[str], None]) -> Path:
    """The program with that clock; what it reads of files' times is true."""
    (library,) = Path("/").glob(LIBRARY[1:])
    words = f"LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={tmp_path}/clock FAKETIME_NO_CACHE=1"
    words += " FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1"
    program = tmp_path / "jumping"
    program.write_text(f'#!/bin/sh\nexport {words}\nexec {PROGRAM} "$@"\n')
    program.chmod(0o755)
    return program


def shows_soon(change: Callable[[], None], look: Callable[[], bool], expected: bool) -> None:
    """What others do below shows within a second; a busy machine may take longer."""
    change()
    begun = time.monotonic()
    while look() != expected:
        assert time.monotonic() < begun + 6
        time.sleep(0.05)


@pytest.mark.parametrize("options", [(), ("--shared",)], ids=["write-back", "write-through"])
def test_a_mount(
    tmp_path: Path, clock: Callable[[str], None], jumping: Path, options: tuple[str, ...]
) -> None:
    clock("+10y")
    plain = ("-o", "ecryptfs_enable_filename_crypto=n")
    with mounted(tmp_path / "lower", *plain, *options, program=jumping) as mount:
        since = json.loads(run("status", "--json", mount.path).stdout)["since"]
        assert since > time.time() + 9 * YEAR  # the daemon has this clock
        held = (mount.path / "held").open("w+b", buffering=0)
        with held:
            for n, jump in enumerate(JUMPS):
                clock(jump)
                file = mount.path / f"file{n}"
                assert not file.exists()
                shows_soon((tmp_path / f"lower/file{n}").touch, file.exists, True)
                for path in (file, mount.path / f"new{n}"):
                    path.write_bytes(b"x" * 10_000)
                    assert path.read_bytes() == b"x" * 10_000
                    assert abs(path.stat().st_mtime - time.time()) < YEAR  # the kernel's clock
                held.write(b"%d" % n)
                os.fsync(held.fileno())
                os.utime(file, (n, n))
                assert file.stat().st_mtime == n
                (mount.path / f"new{n}").rename(mount.path / f"old{n}")
                shows_soon((tmp_path / f"lower/file{n}").unlink, file.exists, False)
                assert json.loads(run("status", "--json", mount.path).stdout)["problems"] == []
        assert (mount.path / "held").read_bytes() == b"012"


def test_an_idle_mount(tmp_path: Path, clock: Callable[[str], None], jumping: Path) -> None:
    """It ends so long after its last use, by no clock that anybody sets."""
    clock("+0")
    with mounted(tmp_path / "lower", "--idle", "2s", program=jumping) as mount:
        begun = time.monotonic()
        for n, jump in enumerate(JUMPS * 2):  # used all the while, for longer than that
            clock(jump)
            (mount.path / f"{n}").mkdir()
            time.sleep(0.5)
        assert mount.process.poll() is None
        clock("-30y")
        mount.wait()
        assert time.monotonic() - begun > 0.5 * 6 + 1.5
