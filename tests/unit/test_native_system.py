"""Directory batches and the system calls that Python lacks."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt import native

HEADER = bytes.fromhex("00000001000000056fc3573b5342e0ce03000006")
NO_REPLACE, EXCHANGE = 1, 2


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "header").write_bytes(HEADER)
    (tmp_path / "short").write_bytes(HEADER[:15])
    (tmp_path / "foreign").write_bytes(b"not a header, but long enough")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("header")
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_stat_many(directory: int) -> None:
    names = [b"header", b"short", b"foreign", b"empty", b"link", b"pipe", b"absent", b""]
    found = native.stat_many(directory, names, True)
    assert [entry.peek for entry in found] == [
        native.PEEK_HEADER, native.PEEK_FOREIGN, native.PEEK_FOREIGN, native.PEEK_EMPTY,
        native.PEEK_NONE, native.PEEK_NONE, native.PEEK_NONE, native.PEEK_NONE,
    ]  # fmt: skip
    assert found[0].upper_size == 0x100000005
    assert [entry.error for entry in found] == [0, 0, 0, 0, 0, 0, errno.ENOENT, 0]
    assert stat.S_ISLNK(found[4].mode)
    assert stat.S_ISDIR(found[7].mode)


def test_stat_agrees_with_python(directory: int) -> None:
    (ours,) = native.stat_many(directory, [b"header"], False)
    theirs = os.stat("header", dir_fd=directory)
    for field in ("ino", "dev", "size", "blocks", "rdev", "mode", "nlink", "uid", "gid", "blksize"):
        assert getattr(ours, field) == getattr(theirs, f"st_{field}")
    assert (ours.atime_ns, ours.mtime_ns, ours.ctime_ns) == (
        theirs.st_atime_ns,
        theirs.st_mtime_ns,
        theirs.st_ctime_ns,
    )
    assert (ours.error, ours.peek, ours.upper_size) == (0, native.PEEK_NONE, 0)


def test_peek_leaves_the_access_time(directory: int) -> None:
    os.utime("header", ns=(1, 1), dir_fd=directory)
    assert native.stat_many(directory, [b"header"], True)[0].atime_ns == 1
    assert native.stat_many(directory, [b"header"], True)[0].atime_ns == 1


def test_no_names(directory: int) -> None:
    assert native.stat_many(directory, [], True) == []


def test_nul_in_a_name(directory: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        native.stat_many(directory, [b"head\0er"], True)


def test_stat_fd(directory: int) -> None:
    descriptor = os.open("header", os.O_RDONLY, dir_fd=directory)
    assert native.stat_fd(descriptor, True).upper_size == 0x100000005
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        native.stat_fd(descriptor, True)


def test_renameat2(directory: int) -> None:
    with pytest.raises(FileExistsError):
        native.renameat2(directory, b"header", directory, b"empty", NO_REPLACE)
    native.renameat2(directory, b"header", directory, b"empty", EXCHANGE)
    assert [entry.size for entry in native.stat_many(directory, [b"header", b"empty"], False)] == [
        0,
        len(HEADER),
    ]


def test_utimens(directory: int) -> None:
    native.utimens(directory, b"header", -1, 1_500_000_000_123_456_789)
    native.utimens(directory, b"link", None, 5)
    header, link = native.stat_many(directory, [b"header", b"link"], False)
    assert (header.atime_ns, header.mtime_ns, link.mtime_ns) == (-1, 1_500_000_000_123_456_789, 5)
    native.utimens(directory, b"header", None, None, mtime_now=True)
    (header,) = native.stat_many(directory, [b"header"], False)
    assert header.atime_ns == -1
    assert header.mtime_ns > 1_600_000_000_000_000_000
    native.utimens(directory, b"", 7, None)
    assert os.fstat(directory).st_atime_ns == 7
    native.utimens(directory, b"header", 10**20, 10**11)
    assert os.stat("header", dir_fd=directory).st_atime_ns > 2 * 10**18  # as late as the file system can
    native.utimens(directory, b"header", 0, -(10**20))
    assert os.stat("header", dir_fd=directory).st_mtime_ns < 0


def test_harden_process() -> None:
    """In a process of its own: it cannot be undone."""
    program = (
        "import ctypes, resource\n"
        "from fusecrypt import native\n"
        "native.harden_process()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "(0, 0) 0\n"  # PR_GET_DUMPABLE is 3
