"""Requests on a lower file against a model, an array of octets."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fusecrypt.native import FileKey

EXTENT = 4096
HEADER = 8192
LIMIT = 5 * EXTENT

# Positions, often at or next to the boundary of an extent.
near_edges = st.builds(lambda extent, by: max(0, EXTENT * extent + by), st.integers(0, 5), st.integers(-2, 2))
positions = st.one_of(near_edges, st.integers(0, LIMIT))


def extents(size: int) -> int:
    return -(-size // EXTENT)


class LowerFile(RuleBasedStateMachine):
    """Write, fill, truncate and read; the lower file always decrypts to the model, zero-padded."""

    @initialize(
        cipher=st.sampled_from([(0x07, 16), (0x09, 32), (0x04, 16)]), header=st.sampled_from([0, HEADER])
    )
    def start(self, cipher: tuple[int, int], header: int) -> None:
        self.key = FileKey.random(*cipher)
        self.header = header
        self.fd = os.memfd_create("lower")
        self.model = bytearray()

    def teardown(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)

    @rule(offset=positions, n=positions, octet=st.integers(0, 255))
    def write(self, offset: int, n: int, octet: int) -> None:
        offset = min(offset, EXTENT * extents(len(self.model)))
        data = bytes((octet + i) % 256 for i in range(n))
        assert self.key.write(self.fd, self.header, len(self.model), offset, data) == n
        if n:
            self.model.extend(bytes(max(0, offset - len(self.model))))
            self.model[offset : offset + n] = data

    @rule(until=positions, budget=st.integers(0, LIMIT))
    def fill(self, until: int, budget: int) -> None:
        while len(self.model) < until:
            size = self.key.fill(self.fd, self.header, len(self.model), until, budget)
            assert len(self.model) < size <= until
            self.model.extend(bytes(size - len(self.model)))

    @rule(size=positions)
    def truncate(self, size: int) -> None:
        size = min(size, len(self.model))
        self.key.zero_tail(self.fd, self.header, len(self.model), size)
        del self.model[size:]
        os.ftruncate(self.fd, self.header + EXTENT * extents(size))

    @rule(offset=positions, n=positions, misaligned=st.booleans())
    def read(self, offset: int, n: int, misaligned: bool) -> None:
        buffer = memoryview(bytearray(n + misaligned))[misaligned:]
        got = self.key.read(self.fd, self.header, len(self.model), offset, buffer, n)
        assert bytes(buffer[:got]) == self.model[offset : offset + n]

    @invariant()
    def decrypts_to_the_model(self) -> None:
        if hasattr(self, "fd"):
            whole = EXTENT * extents(len(self.model))
            lower = os.pread(self.fd, whole, self.header)
            assert self.key.decrypt_extents(0, lower) == self.model.ljust(whole, b"\0")


LowerFile.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLowerFile = LowerFile.TestCase


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "lower", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def key() -> FileKey:
    return FileKey.random(0x09, 32)


def test_lower_size_is_whole_extents(key: FileKey, fd: int) -> None:
    assert key.write(fd, HEADER, 0, 0, b"abc") == 3
    assert os.fstat(fd).st_size == HEADER + EXTENT


def test_lower_file_too_short(key: FileKey, fd: int) -> None:
    key.write(fd, HEADER, 0, 0, bytes(EXTENT))
    buffer = bytearray(3 * EXTENT)
    assert key.read(fd, HEADER, 3 * EXTENT, 0, buffer, len(buffer)) == EXTENT
    with pytest.raises(OSError, match="error") as caught:
        key.read(fd, HEADER, 3 * EXTENT, EXTENT, buffer, 1)
    assert caught.value.errno == errno.EIO


def test_gap_is_refused(key: FileKey, fd: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        key.write(fd, HEADER, 10, 2 * EXTENT, b"abc")


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_sizes_of_damaged_headers(key: FileKey, fd: int, size: int) -> None:
    with pytest.raises(OSError, match="too large"):
        key.read(fd, HEADER, size, size - 1, bytearray(1), 1)
    with pytest.raises(OSError, match="too large"):
        key.write(fd, HEADER, size, 0, b"abc")
    with pytest.raises(OSError, match="too large"):
        key.fill(fd, HEADER, 0, size, 1)


def test_numbers_that_no_file_has(key: FileKey, fd: int) -> None:
    for number in (-1, 2**64):
        with pytest.raises(OverflowError):
            key.read(fd, HEADER, number, 0, bytearray(1), 1)


def test_buffer_too_small(key: FileKey, fd: int) -> None:
    with pytest.raises(ValueError, match="too small"):
        key.read(fd, HEADER, 10, 0, bytearray(9), 10)
    with pytest.raises((BufferError, ValueError)):
        key.read(fd, HEADER, 10, 0, memoryview(bytes(10)), 10)


def test_nowait(key: FileKey, fd: int) -> None:
    """Fresh data are in the page cache, so they need no disk; not every file system can say so."""
    key.write(fd, HEADER, 0, 0, b"abc")
    buffer = bytearray(3)
    try:
        outcome = key.read(fd, HEADER, 3, 0, buffer, 3, nowait=True)
    except OSError as error:
        outcome = -(error.errno or 0)
    assert (outcome, bytes(buffer)) in [(3, b"abc"), (-errno.EOPNOTSUPP, bytes(3))]


def test_closed_descriptor(key: FileKey) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        key.write(-1, HEADER, 0, 0, b"abc")
