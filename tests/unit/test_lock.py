"""The lock on a lower root, where the file system has none and beside other holders."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.errors import TreeError
from fusecrypt.mount import lock


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
    assert lock.check(root, "/lower", shared=False) == ""
    lock.hold(other, "/lower", shared=False)


def test_shared_ones_bear_each_other_but_no_exclusive_one(root: int, other: int, tmp_path: Path) -> None:
    lock.hold(root, "/lower", shared=True)
    lock.hold(other, "/lower", shared=True)
    third = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(TreeError, match=rf"^/lower is in use for writing already by process {os.getpid()}$"):
        lock.check(third, "/lower", shared=False)
    os.close(third)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_remark(
    root: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert lock.check(root, "/lower", shared=False).startswith(
        f"/lower cannot be locked ({os.strerror(code)})"
    )


def test_it_waits_for_one_that_ends(root: int, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.hold(root, "/lower", shared=False)
    monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(root, fcntl.LOCK_UN))
    lock.hold(other, "/lower", shared=False)


@pytest.mark.parametrize("shows", [False, True])
def test_a_daemon_whose_mount_is_gone_is_given_longer(
    root: int, other: int, monkeypatch: pytest.MonkeyPatch, shows: bool
) -> None:
    monkeypatch.setattr(lock, "_mounted_on", lambda lower: ["/mnt"] if shows else [])
    lock.hold(root, "/lower", shared=False)
    release = threading.Timer(0.15, fcntl.flock, (root, fcntl.LOCK_UN))
    release.start()
    try:
        if shows:
            with pytest.raises(TreeError, match=r"mounted on /mnt"):
                lock.hold(other, "/lower", shared=False)
        else:
            lock.hold(other, "/lower", shared=False)
    finally:
        release.join()
