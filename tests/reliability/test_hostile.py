"""The lower directory is the enemy's: nothing leads out of it, nothing hangs, and the daemon lives."""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.mount.support import mounted

SECONDS = 1.5
PLAIN = ("-o", "ecryptfs_enable_filename_crypto=n")
LOGGED = ("cannot be read", "more files")


def _open_and(work: Callable[[int], object], flags: int) -> Callable[[Path], None]:
    def attempt(path: Path) -> None:
        fd = os.open(path, flags | os.O_NONBLOCK)
        try:
            work(fd)
        finally:
            os.close(fd)

    return attempt


def _change(fd: int) -> None:
    os.pwrite(fd, b"changed", 0)
    os.fsync(fd)


ATTEMPTS: list[Callable[[Path], object]] = [
    _open_and(lambda fd: os.pread(fd, 100, 0), os.O_RDONLY),
    _open_and(_change, os.O_RDWR),
    _open_and(lambda fd: None, os.O_WRONLY | os.O_TRUNC),
    lambda path: os.truncate(path, 3),
    lambda path: os.chmod(path, 0o666),
    lambda path: os.setxattr(path, "user.note", b"x"),
    lambda path: os.utime(path, (1, 1)),
    lambda path: path.lstat(),
    lambda path: os.listdir(path.parent),
    lambda path: os.link(path, path.with_name("link")),
    lambda path: path.with_name("link").unlink(),
    lambda path: (path.rename(path.with_name("other")), path.with_name("other").rename(path)),
]


@contextmanager
def swapping(lower: Path, target: Path) -> Iterator[None]:
    """While this lasts the lower name is by turns the file, a symlink to ``target``, a FIFO, a socket, a
    directory and nothing."""
    good, stop = lower.with_name("good"), threading.Event()
    shutil.copy(lower, good)

    def swap() -> None:
        chance = random.Random(1)
        new = lower.with_name("new")
        while not stop.is_set():
            kind = chance.choice(("file", "symlink", "fifo", "socket", "directory", "nothing"))
            if new.is_dir() and not new.is_symlink():
                new.rmdir()
            else:
                new.unlink(missing_ok=True)  # one that could not be moved: a copy would go through a symlink
            with suppress(OSError):
                match kind:
                    case "file":
                        shutil.copy(good, new)
                    case "symlink":
                        new.symlink_to(target)
                    case "fifo":
                        os.mkfifo(new)
                    case "socket":
                        os.mknod(new, stat.S_IFSOCK | 0o666)
                    case "directory":
                        new.mkdir()
                if lower.is_dir() and not lower.is_symlink():
                    lower.rmdir()
                elif kind in ("directory", "nothing"):
                    lower.unlink(missing_ok=True)
                if kind != "nothing":
                    new.rename(lower)
            time.sleep(0.002)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def everything(path: Path) -> tuple[object, ...]:
    st = path.stat()
    times = (st.st_mtime_ns, st.st_ctime_ns)
    return path.read_bytes(), st.st_mode, st.st_nlink, st.st_size, times, os.listxattr(path)


def test_swaps_during_operations_lead_nowhere(tmp_path: Path) -> None:
    """The symlink leads somewhere from below only: whatever is done to its target, the daemon has done."""
    (tmp_path / "deep").mkdir()
    outside = tmp_path / "deep" / "outside"
    with mounted(tmp_path / "deep" / "lower", *PLAIN, path=tmp_path / "mnt", log_allows=LOGGED) as mount:
        file = mount.path / "file"
        file.write_bytes(b"contents" * 1000)
        shutil.copy(mount.lower / "file", outside)  # it would open with the tree's own key
        before = everything(outside)
        done = 0
        with swapping(mount.lower / "file", Path("../outside")):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                for attempt in ATTEMPTS:
                    with suppress(OSError):
                        attempt(file)
                        done += 1
        assert done > 20
        assert everything(outside) == before
        assert mount.process.poll() is None


def header_bombs(good: bytes, chance: random.Random) -> Iterator[bytes]:
    """Headers that promise what is not there, and headers with a few octets changed."""
    for field in (0, 1, 5000, 2**31, 2**62, 2**63 - 1, 2**64 - 1):
        yield field.to_bytes(8, "big") + good[8:]
    for version in range(0, 256, 17):
        yield good[:16] + bytes([version]) + good[17:]
    for size, extents in ((1, 1), (0, 0), (2**32 - 1, 65_535), (4096, 1), (4096, 65_535), (2**31, 2)):
        yield good[:20] + size.to_bytes(4, "big") + extents.to_bytes(2, "big") + good[26:]
    for length in (0, 1, 191, 192, 223, 224, 254, 255):
        yield good[:27] + bytes([length]) + good[28:]
    for _ in range(60):
        octets = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            octets[chance.randrange(200)] = chance.randrange(256)
        yield bytes(octets)
    for cut in (1, 15, 16, 26, 27, 100, 4095, 4096, 8191):
        yield good[:cut]


def test_header_bombs(tmp_path: Path) -> None:
    """Each is read or refused; nothing takes long, and no size is taken for memory or disk to be used."""
    with mounted(tmp_path / "lower", *PLAIN, log_allows=LOGGED) as mount:
        (mount.path / "good").write_bytes(b"contents" * 1000)
        good = (mount.lower / "good").read_bytes()
        bombs = list(header_bombs(good, random.Random(1)))
        start = time.monotonic()
        for number, bomb in enumerate(bombs):
            path = mount.path / f"bomb {number}"
            (mount.lower / path.name).write_bytes(bomb)
            for attempt in ATTEMPTS[:2]:
                with suppress(OSError):
                    attempt(path)
            path.lstat()
            path.unlink()
        assert time.monotonic() - start < 20
        assert os.listdir(mount.path) == ["good"]
        assert (mount.path / "good").read_bytes() == b"contents" * 1000


def test_what_is_no_file_waits_for_nobody(tmp_path: Path) -> None:
    """FIFOs, sockets and devices are shown as what they are; set-id bits and devices have no effect."""
    with mounted(tmp_path / "lower", *PLAIN, log_allows=LOGGED) as mount:
        os.mkfifo(mount.lower / "fifo")
        os.mknod(mount.lower / "socket", stat.S_IFSOCK | 0o666)
        os.mknod(mount.lower / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        (mount.path / "program").write_bytes(b"#!/bin/sh\n")
        (mount.path / "program").chmod(0o6755)
        kinds = {path.name: stat.S_IFMT(path.lstat().st_mode) for path in mount.path.iterdir()}
        assert kinds == {
            "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "device": stat.S_IFCHR, "program": stat.S_IFREG
        }  # fmt: skip
        os.close(os.open(mount.path / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        with pytest.raises(PermissionError):
            os.open(mount.path / "device", os.O_RDONLY)
        flags = os.statvfs(mount.path).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV


def test_files_that_are_exchanged_below(tmp_path: Path) -> None:
    """Nobody can tell that (there is no integrity), but each is read with its own key and size."""
    with mounted(tmp_path / "lower", *PLAIN, log_allows=LOGGED) as mount:
        (mount.path / "a").write_bytes(b"a" * 10_000)
        (mount.path / "b").write_bytes(b"b" * 100)
        for _ in range(20):
            (mount.lower / "a").rename(mount.lower / "c")
            (mount.lower / "b").rename(mount.lower / "a")
            (mount.lower / "c").rename(mount.lower / "b")
            for name in "ab":
                with suppress(OSError):
                    assert (mount.path / name).read_bytes() in (b"a" * 10_000, b"b" * 100)
        time.sleep(1.1)
        assert {(mount.path / name).read_bytes() for name in "ab"} == {b"a" * 10_000, b"b" * 100}
