"""What the lane has made of requests, as its caller gets to see it; the C checks have all the rest."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt import native
from fusecrypt.lane import LANE_BUSY, LANE_GONE, LANE_IDLE, LANE_REQUEST, Hole
from fusecrypt.lanefile import LaneFile
from fusecrypt.native import FileKey, Secret
from tests.lanes import plain_lane

LOOKUP, UNLINK, READ, RELEASE, CREATE, STATFS = 1, 10, 15, 18, 35, 17
FEKEK = Secret.copy(bytes(range(64)))


class Kernel:
    """The other end of a device, and a lane over a lower directory."""

    def __init__(self, lower: Path) -> None:
        self.lane = plain_lane()
        self._socket, self._device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._device.setblocking(False)
        self._socket.setblocking(False)
        self.lane.attach(self._device.fileno())
        self.root_fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY)
        root = os.fstat(self.root_fd)
        self.lane.mark(1, root.st_dev, root.st_ino, stat.S_IFDIR)
        self.lane.directory(1, self.root_fd)

    def close(self) -> None:
        self._socket.close()
        self._device.close()
        os.close(self.root_fd)

    def send(self, opcode: int, node: int, argument: bytes) -> int:
        """Let the lane see a request; returns its state."""
        length = 40 + len(argument)
        gid = os.getegid()
        self._socket.send(struct.pack("=IIQQIIIHH", length, opcode, 7, node, 0, gid, 0, 0, 0) + argument)
        return self.lane.run(0, 0, 1)

    def ask(self, opcode: int, node: int, argument: bytes) -> bytes:
        """The lane's answer."""
        assert self.send(opcode, node, argument) == LANE_BUSY
        reply = self._socket.recv(1 << 16)
        length, error, unique = struct.unpack_from("=IiQ", reply)
        assert (length, error, unique) == (len(reply), 0, 7)
        return reply[16:]

    def lookup(self, name: bytes) -> int:
        (node,) = struct.unpack_from("=Q", self.ask(LOOKUP, 1, name + b"\0"))
        return int(node)

    def create(self, name: bytes) -> tuple[int, int]:
        """Number and handle of a new file."""
        argument = struct.pack("=IIII", os.O_RDWR, stat.S_IFREG | 0o600, 0, 0)
        reply = self.ask(CREATE, 1, argument + name + b"\0")
        node, handle = struct.unpack_from("=Q", reply)[0], struct.unpack_from("=Q", reply, 128)[0]
        return int(node), int(handle)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    form = bytes(16) + os.urandom(84)
    assert kernel.lane.form(form, [Hole(40, 32, FEKEK)], 0, 9, 32)
    kernel.lane.may_create()
    yield kernel
    kernel.close()


def test_an_object_that_a_lookup_found(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    lane, node = kernel.lane, kernel.lookup(b"link")
    st = os.lstat(tmp_path / "link")
    assert (node, len(lane), lane.find(st.st_dev, st.st_ino)) == (st.st_ino, 1, node)
    record = lane.take(node)
    assert record is not None
    assert record[:6] == (node, st.st_dev, node, 1, 1, -1)
    assert (record.kind, record.generation, record.pin, record.name) == (stat.S_IFLNK, 0, -1, b"link")
    assert (record.stamp, record.open) == (None, None)
    assert (len(lane), lane.find(st.st_dev, node), lane.take(node)) == (0, None, None)
    assert lane.give(record)
    assert kernel.lookup(b"link") == node
    assert lane.take(node) == record._replace(lookups=2)


def test_an_open_file_comes_with_its_descriptor(kernel: Kernel, tmp_path: Path) -> None:
    node, handle = kernel.create(b"file")
    record = kernel.lane.take(node)
    assert record is not None
    assert record.open is not None
    fd, opens, writable, born = record.open
    st = os.fstat(fd)
    assert (st.st_ino, opens, writable, born) == (node, 1, True, st.st_mtime_ns)
    os.close(fd)
    assert kernel.lane.handle(handle) == (node, True)
    kernel.lane.close(handle)
    assert kernel.lane.handle(handle) == (0, False)


def test_an_object_without_a_link_comes_with_a_pin(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    node = kernel.lookup(b"link")
    assert kernel.ask(UNLINK, 1, b"link\0") == b""
    record = kernel.lane.take(node)
    assert record is not None
    assert os.fstat(record.pin).st_ino == node
    os.close(record.pin)


def test_a_file_that_is_shared_with_the_lane(kernel: Kernel, tmp_path: Path) -> None:
    node, _ = kernel.create(b"file")
    record = kernel.lane.take(node)
    assert record is not None
    assert record.open is not None
    key = FileKey.random(9, 32)
    file = LaneFile()
    assert (file.size, file.direct, file.busy, file.born) == (0, False, False, None)
    file.fd = record.open.fd
    file.use(key, 8192, bytes(8), False)
    file.direct = True
    file.born = 5
    assert (file.fd, file.direct, file.born) == (record.open.fd, True, 5)
    file.born = None
    assert file.born is None
    key.write(file.fd, 8192, 0, 0, b"some data")
    file.size = 9
    kernel.lane.file(node, file)
    handle = kernel.lane.open(node, file, False)
    read = struct.pack("=QQIIQII", handle, 0, 100, 0, 0, 0, 0)
    assert kernel.ask(READ, node, read) == b"some data"
    file.busy = True
    assert kernel.send(READ, node, read) == LANE_REQUEST
    file.busy = False
    del file  # the lane still knows it
    assert kernel.ask(READ, node, read) == b"some data"
    kernel.lane.file(node, None)
    assert kernel.send(READ, node, read) == LANE_REQUEST, "no longer"
    kernel.lane.close(handle)
    os.close(record.open.fd)


def test_what_run_says(kernel: Kernel) -> None:
    assert kernel.lane.run(1, 1, 5) == LANE_IDLE
    before = kernel.lane.answered
    assert kernel.lookup(b"absent") == 0
    assert kernel.lane.answered == before + 1
    assert kernel.send(STATFS, 1, b"") == LANE_REQUEST
    assert LANE_GONE not in (LANE_BUSY, LANE_IDLE, LANE_REQUEST)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.lane.listing_fd(1 << 31)


def test_a_form_that_has_no_place(kernel: Kernel) -> None:
    hole = Hole(40, 32, FEKEK)
    assert not kernel.lane.form(bytes(4096), [hole], 0, 9, 32)
    assert not kernel.lane.form(bytes(1000), [Hole(40 + 32 * i, 32, FEKEK) for i in range(9)], 0, 9, 32)
    with pytest.raises(OSError, match="Invalid"):
        kernel.lane.form(bytes(100), [Hole(40, 32, None)], 0, 9, 32)
    with pytest.raises(ValueError, match="64 are needed"):
        kernel.lane.form(bytes(100), [Hole(40, 32, Secret(10))], 0, 9, 32)


def test_lower_times_that_do_not_fit_end_at_the_last_that_does(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", ns=(0, 9_300_000_000 * 10**9))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    assert native.stat_fd(fd, False).mtime_ns == 2**63 - 1
    os.close(fd)
