"""One file, read and written in every way there is, beside what it should hold.

Writes, mappings, truncations, copies within the file, direct writes, and the file closed, dropped from memory
and opened again in between, in an order that a seed decides.
"""

from __future__ import annotations

import mmap
import os
import random
from pathlib import Path

import pytest

from tests.mount.support import mounted

LONGEST = 150_000
WAYS = {
    "write-back": (),
    "write-through": ("--shared",),
    "attributes": ("-o", "ecryptfs_xattr_metadata"),
    "attributes write-through": ("--shared", "-o", "ecryptfs_xattr_metadata"),
}


class File:
    """A file and a model of it; each step does the same to both, or compares them."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.held = bytearray()
        self.chance = random.Random(seed)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def place(self) -> tuple[int, int]:
        """Somewhere in the file: an offset and a size, which is not 0."""
        at = self.chance.randrange(len(self.held))
        return at, self.chance.randint(1, min(20_000, len(self.held) - at))

    def put(self, at: int, data: bytes) -> None:
        self.held.extend(bytes(max(0, at + len(data) - len(self.held))))
        self.held[at : at + len(data)] = data

    def write(self) -> None:
        at = self.chance.randrange(LONGEST - 20_000)
        data = self.chance.randbytes(self.chance.randint(1, 20_000))
        assert os.pwrite(self.fd, data, at) == len(data)
        self.put(at, data)

    def write_direct(self) -> None:
        at = self.chance.randrange(0, LONGEST - 20_000, 512)
        with mmap.mmap(-1, 8192) as page:
            page[:] = self.chance.randbytes(8192)
            fd = os.open(self.path, os.O_RDWR | os.O_DIRECT)
            assert os.pwritev(fd, [page], at) == 8192
            os.close(fd)
            self.put(at, page[:])

    def append(self) -> None:
        data = self.chance.randbytes(self.chance.randint(1, LONGEST - len(self.held)))
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        assert os.write(fd, data) == len(data)
        os.close(fd)
        self.put(len(self.held), data)

    def truncate(self) -> None:
        size = self.chance.randrange(LONGEST)
        os.ftruncate(self.fd, size)
        self.held[size:] = bytes(max(0, size - len(self.held)))

    def map_write(self) -> None:
        at, n = self.place()
        data = self.chance.randbytes(n)
        with mmap.mmap(self.fd, 0) as view:
            view[at : at + n] = data
        self.put(at, data)

    def map_read(self) -> None:
        at, n = self.place()
        with mmap.mmap(self.fd, 0, prot=mmap.PROT_READ) as view:
            assert view[at : at + n] == self.held[at : at + n]
            end = len(view)
            assert end == len(self.held)

    def read(self) -> None:
        at, n = self.place()
        assert os.pread(self.fd, n, at) == self.held[at : at + n]

    def copy(self) -> None:
        at, n = self.place()
        to = self.chance.randrange(LONGEST - 20_000)
        if at + n <= to or to + n <= at:
            assert os.copy_file_range(self.fd, self.fd, n, at, to) == n
            self.put(to, bytes(self.held[at : at + n]))

    def sync(self) -> None:
        os.fsync(self.fd)

    def reopen(self) -> None:
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)
        assert os.fstat(self.fd).st_size == len(self.held)

    def step(self) -> None:
        steps = [self.write, self.truncate, self.write_direct, self.sync, self.reopen]
        if self.held:
            steps += [self.read, self.map_read, self.map_write, self.copy]
        if len(self.held) < LONGEST:
            steps.append(self.append)
        self.chance.choice(steps)()


def exercise(tmp_path: Path, way: str, seed: int, steps: int) -> None:
    with mounted(tmp_path / "lower", *WAYS[way]) as mount:
        file = File(mount.path / "f", seed)
        for _ in range(steps):
            file.step()
        os.close(file.fd)
        assert file.path.read_bytes() == file.held
    with mounted(tmp_path / "lower") as mount:
        assert (mount.path / "f").read_bytes() == file.held


@pytest.mark.parametrize("way", WAYS)
def test_a_file_in_every_way(tmp_path: Path, way: str) -> None:
    exercise(tmp_path, way, 1, 1000)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("way", WAYS)
def test_a_file_in_every_way_for_long(tmp_path: Path, way: str, seed: int) -> None:
    exercise(tmp_path, way, seed + 100, 100_000)
