"""Two mounts of one lower tree: refused, or kept in step with --shared."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.support import fails, mounted

DOCUMENTED = 1.0
"""Seconds after which what one shared mount did shows in another."""
SLACK = 1.0
"""Seconds for this machine to come round to it."""

XATTR = ("-o", "ecryptfs_xattr_metadata")


@contextmanager
def two(lower: Path, *options: str) -> Iterator[tuple[Path, Path]]:
    """Mount points of two shared mounts."""
    lower.mkdir()
    with (
        mounted(lower, "--shared", *options) as a,
        mounted(lower, "-o", "shared", *options, path=lower.with_name("b")) as b,
    ):
        yield a.path, b.path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with two(tmp_path_factory.mktemp("shared") / "lower") as places:
        yield places


@pytest.fixture
def here(pair: tuple[Path, Path], request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """The same new directory in both mounts."""
    name = request.node.name
    (pair[0] / name).mkdir()
    return pair[0] / name, pair[1] / name


def shows(look: Callable[[], object], wanted: object) -> None:
    """``look`` must give ``wanted`` within the documented time."""
    deadline = time.monotonic() + DOCUMENTED + SLACK
    seen = look()
    while seen != wanted:
        assert time.monotonic() < deadline, f"{seen!r} instead of {wanted!r}"
        time.sleep(0.02)
        seen = look()


def test_appends_show_while_both_have_the_file_open(here: tuple[Path, Path]) -> None:
    a, b = here
    with open(a / "log", "wb", buffering=0) as writer:
        writer.write(b"first\n")
        with open(b / "log", "rb", buffering=0) as reader:
            shows(lambda: os.pread(reader.fileno(), 100, 0), b"first\n")
            for n in range(3):
                writer.write(b"x" * 5000 + b"\n")
                size = 6 + 5001 * (n + 1)
                shows(lambda: os.fstat(reader.fileno()).st_size, size)
                shows(lambda: os.pread(reader.fileno(), 1 << 20, 0)[-6:], b"xxxxx\n")


def test_nobodys_append_is_overwritten(here: tuple[Path, Path]) -> None:
    """Both have the file open and are told nothing of one another between their appends."""
    a, b = here
    (a / "log").touch()
    flags = os.O_WRONLY | os.O_APPEND
    one, other = os.open(a / "log", flags), os.open(b / "log", flags)
    lines = [f"{n:04}".encode() * 300 + b"\n" for n in range(60)]
    try:
        for n, line in enumerate(lines):
            os.write(other if n % 3 else one, line)
    finally:
        os.close(one)
        os.close(other)
    for place in (a, b):
        shows((place / "log").read_bytes, b"".join(lines))


def test_a_write_into_the_last_extent_keeps_what_the_other_has_added(here: tuple[Path, Path]) -> None:
    a, b = here
    (a / "file").write_bytes(b"a" * 100)
    with open(a / "file", "r+b", buffering=0) as one, open(b / "file", "r+b", buffering=0) as other:
        os.pwrite(other.fileno(), b"b" * 9000, 100)
        os.pwrite(one.fileno(), b"A" * 10, 0)
        os.pwrite(one.fileno(), b"C", 9999)
    expected = b"A" * 10 + b"a" * 90 + b"b" * 9000 + bytes(899) + b"C"
    for place in (a, b):
        shows((place / "file").read_bytes, expected)


def test_truncations_show(here: tuple[Path, Path]) -> None:
    a, b = here
    (a / "file").write_bytes(b"z" * 50_000)
    with open(b / "file", "r+b", buffering=0) as held:
        assert held.read() == b"z" * 50_000
        os.truncate(a / "file", 10)
        shows(lambda: os.fstat(held.fileno()).st_size, 10)
        shows(lambda: os.pread(held.fileno(), 100, 0), b"z" * 10)
        os.truncate(a / "file", 5000)
        shows(lambda: os.pread(held.fileno(), 10_000, 0), b"z" * 10 + bytes(4990))
        os.pwrite(held.fileno(), b"end", 5000)
    shows((a / "file").read_bytes, b"z" * 10 + bytes(4990) + b"end")


def test_contents_of_the_same_size_show(here: tuple[Path, Path]) -> None:
    a, b = here
    (a / "file").write_bytes(b"1" * 10_000)
    with open(b / "file", "rb", buffering=0) as held:
        assert held.read() == b"1" * 10_000
        time.sleep(0.02)  # a tick of the clock that stamps files
        with open(a / "file", "r+b", buffering=0) as writer:
            writer.write(b"2" * 10_000)
        shows(lambda: os.pread(held.fileno(), 10_000, 0), b"2" * 10_000)


def test_names_show(here: tuple[Path, Path]) -> None:
    a, b = here
    (a / "old").write_bytes(b"kept")
    (a / "dir").mkdir()
    assert not (b / "new").exists()  # which the kernel remembers for a while
    assert (b / "old").read_bytes() == b"kept"
    (a / "old").rename(a / "dir" / "new")
    (a / "new").symlink_to("dir/new")
    shows(lambda: (b / "old").exists(), False)
    shows(lambda: os.path.lexists(b / "new"), True)
    assert (b / "new").read_bytes() == b"kept"
    (b / "dir" / "new").unlink()
    (b / "dir").rmdir()
    shows(lambda: sorted(os.listdir(a)), ["new"])


def test_attributes_show(here: tuple[Path, Path]) -> None:
    a, b = here
    (a / "file").touch()
    (b / "file").stat()
    (a / "file").chmod(0o640)
    os.utime(a / "file", ns=(1, 2))
    shows(lambda: ((b / "file").stat().st_mode & 0o777, (b / "file").stat().st_mtime_ns), (0o640, 2))


def test_a_modification_time_is_the_last_write(here: tuple[Path, Path]) -> None:
    a, _ = here
    with open(a / "file", "wb", buffering=0) as file:
        born = os.fstat(file.fileno()).st_mtime_ns
        time.sleep(0.05)
        file.write(b"later")
    assert (a / "file").stat().st_mtime_ns > born


def test_a_file_that_both_saw_empty(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    with two(lower, "-o", "ecryptfs_enable_filename_crypto=n") as (a, b):
        (lower / "empty").touch()
        with open(a / "empty", "r+b", buffering=0) as one, open(b / "empty", "r+b", buffering=0) as other:
            one.write(b"header first")
            shows(lambda: os.pread(other.fileno(), 100, 0), b"header first")
            os.pwrite(other.fileno(), b"HEADER", 0)
        shows((a / "empty").read_bytes, b"HEADER first")


def test_another_file_in_the_same_lower_inode_is_stale(tmp_path: Path) -> None:
    """As rsync --inplace leaves it: neither read with the wrong key nor written to."""
    lower = tmp_path / "lower"
    with two(lower, "-o", "ecryptfs_enable_filename_crypto=n") as (a, _):
        (a / "file").write_bytes(b"one")
        (a / "other").write_bytes(b"two!")
        with open(a / "file", "r+b", buffering=0) as held:
            (lower / "file").write_bytes((lower / "other").read_bytes())
            fails(errno.ESTALE, os.pwrite, held.fileno(), b"lost", 100)
            fails(errno.ESTALE, os.pread, held.fileno(), 4, 50_000)
        shows((a / "file").read_bytes, b"two!")


def test_headers_in_attributes(tmp_path: Path) -> None:
    with two(tmp_path / "lower", *XATTR) as (a, b):
        (a / "file").write_bytes(b"a" * 5000)
        with open(b / "file", "ab", buffering=0) as other, open(a / "file", "ab", buffering=0) as one:
            other.write(b"b" * 5000)
            one.write(b"c")
            other.write(b"d")
        for place in (a, b):
            shows((place / "file").read_bytes, b"a" * 5000 + b"b" * 5000 + b"cd")


def test_a_reader_meets_no_error_while_the_other_truncates(here: tuple[Path, Path]) -> None:
    a, b = here
    (a / "file").write_bytes(b"r" * 300_000)
    stop = threading.Event()

    def cut_and_grow() -> None:
        while not stop.is_set():
            os.truncate(a / "file", 1000)
            os.truncate(a / "file", 300_000)

    writer = threading.Thread(target=cut_and_grow)
    writer.start()
    try:
        with open(b / "file", "rb", buffering=0) as file:
            for _ in range(200):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                assert os.pread(file.fileno(), 300_000, 0)[:1000] == b"r" * 1000
    finally:
        stop.set()
        writer.join()


def test_read_only_mounts_beside(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    with mounted(lower) as mount, mounted(lower, "-o", "ro", path=tmp_path / "ro") as reader:
        (mount.path / "file").write_bytes(b"seen")
        shows((reader.path / "file").exists, True)
        with open(reader.path / "file", "rb", buffering=0) as held:
            assert held.read() == b"seen"
            with open(mount.path / "file", "ab") as file:
                file.write(b" and followed")
                file.flush()
                os.fsync(file.fileno())
            shows(lambda: os.pread(held.fileno(), 100, 0), b"seen and followed")
