"""The lock on a lower root, where the file system has none and beside other holders."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.errors import TreeError
from fusecrypt.mount import lock
from fusecrypt.mount.holders import DAEMON, Holder, may_write
from fusecrypt.mount.lock import Use
from fusecrypt.mount.mounts import FSTYPE, MountPoint
from tests.mount.users import PYTHON, User


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    monkeypatch.setattr(lock, "_ENDING", 0.3)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_look_leaves_no_lock(root: int, other: int) -> None:
    assert lock.check(root, "/lower", Use.WRITE) == ""
    lock.hold(other, "/lower", Use.WRITE)


def test_shared_ones_bear_each_other_but_no_exclusive_one(root: int, other: int, tmp_path: Path) -> None:
    lock.hold(root, "/lower", Use.SHARE)
    lock.hold(other, "/lower", Use.SHARE)
    third = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(TreeError, match=rf"^/lower is in use for writing already by process {os.getpid()}$"):
        lock.check(third, "/lower", Use.WRITE)
    os.close(third)


def test_what_rebuilds_bears_nobody(root: int, other: int) -> None:
    lock.hold(root, "/lower", Use.REBUILD)
    for use in Use:
        with pytest.raises(TreeError, match="in use for writing already by process") as refused:
            lock.check(other, "/lower", use)
        assert refused.value.hint == "wait until it has ended"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_remark(
    root: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert lock.check(root, "/lower", Use.WRITE).startswith(f"/lower cannot be locked ({os.strerror(code)})")


def test_it_waits_for_one_that_ends(root: int, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.hold(root, "/lower", Use.WRITE)
    monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(root, fcntl.LOCK_UN))
    lock.hold(other, "/lower", Use.WRITE)


@pytest.mark.parametrize("shows", [False, True])
def test_a_daemon_whose_mount_is_gone_is_given_longer(
    root: int, other: int, monkeypatch: pytest.MonkeyPatch, shows: bool
) -> None:
    table = [MountPoint("/mnt", FSTYPE, "/lower", "0:0", read_only=False, user=None)] if shows else []
    lock.hold(root, "/lower", Use.WRITE)
    monkeypatch.setattr(lock, "mount_table", lambda: table)
    monkeypatch.setattr(Holder, "words", [DAEMON])
    release = threading.Timer(0.15, lock.release, (root,))
    release.start()
    try:
        if shows:
            with pytest.raises(TreeError, match=r"mounted on /mnt"):
                lock.hold(other, "/lower", Use.WRITE)
        else:
            lock.hold(other, "/lower", Use.WRITE)
    finally:
        release.join()


_LOCKED = """
import ctypes, fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
if sys.argv[2] == "hidden":
    ctypes.CDLL(None).prctl(4, 0)  # what is in /proc is root's then
if sys.argv[2] == "passed on" and os.fork():
    os._exit(0)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by(user: User, directory: Path, how: str = "") -> Iterator[None]:
    """Somebody else has locked a directory."""
    command: list[str | Path] = [PYTHON, "-I", "-S", "-c", _LOCKED, directory, how]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, **user.ids) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        if how == "passed on":
            process.wait()
        yield
        process.stdin.close()


@pytest.mark.parametrize("how", ["", "hidden", "passed on"])
@pytest.mark.parametrize("use", [Use.READ, Use.SHARE, Use.WRITE])
def test_a_stranger_cannot_keep_anybody_off(open_tmp_path: Path, how: str, use: Use) -> None:
    open_tmp_path.chmod(0o755)
    fd = os.open(open_tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with locked_by(User(65534, 65534), open_tmp_path, how):
        assert "which may not write there" in lock.hold(fd, "/lower", use)
    os.close(fd)


@pytest.mark.parametrize("use", [Use.IMPORT, Use.REBUILD])
def test_what_no_mount_shows_needs_the_lock(
    open_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    open_tmp_path.chmod(0o755)
    fd = os.open(open_tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    refused = "is locked by process .* which may not write there"
    with locked_by(User(65534, 65534), open_tmp_path), pytest.raises(TreeError, match=refused):
        lock.hold(fd, "/lower", use)
    lock.hold(fd, "/lower", use)
    os.close(fd)


@pytest.mark.parametrize(
    ("mode", "user"),
    [(0o755, User(1234, 65534)), (0o777, User(65534, 65534)), (0o775, User(65534, 65534, (4321,)))],
)
def test_whoever_may_write_there_keeps_others_off(
    open_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, user: User
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    os.chown(open_tmp_path, 1234, 4321)
    open_tmp_path.chmod(mode)
    fd = os.open(open_tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with locked_by(user, open_tmp_path), pytest.raises(TreeError, match="in use for writing already"):
        lock.hold(fd, "/lower", Use.WRITE)
    os.close(fd)


def test_an_acl_may_let_anybody_write(open_tmp_path: Path) -> None:
    open_tmp_path.chmod(0o755)
    fd = os.open(open_tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert not may_write(fd, 65534, {65534})
    subprocess.run(["setfacl", "-m", "u:65534:rwx", open_tmp_path], check=True)
    assert may_write(fd, 65534, {65534})
    os.close(fd)
