"""Promises of the README that no other test here keeps."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from tests.mount.support import PASSPHRASE, mounted
from tests.tree.support import User, open_tree

THEN = 1_000_000_000_123_456_789


@pytest.mark.parametrize("end", ["fsync", "close", "SIGTERM"])
def test_no_deferred_write_moves_a_time_that_was_set(tmp_path: Path, end: str) -> None:
    """Octets that the kernel has kept back, of calls and of a mapping, are written after the time was set."""
    with mounted(tmp_path / "lower", log_allows=["in use"]) as mount:
        fd = os.open(mount.path / "f", os.O_RDWR | os.O_CREAT)
        os.write(fd, bytes(300_000))
        mapping = mmap.mmap(fd, 0)
        mapping[100_000:100_005] = b"dirty"
        os.pwrite(fd, b"last", 250_000)
        os.utime(fd, ns=(THEN, THEN))
        if end == "fsync":
            os.fsync(fd)
            mapping.flush()
        mapping.close()
        os.close(fd)
        time.sleep(0.05)
        assert (mount.path / "f").stat().st_mtime_ns == THEN
        if end == "SIGTERM":
            mount.process.send_signal(signal.SIGTERM)
            mount.wait()
    with open_tree(mount.lower, [PASSPHRASE]) as tree:
        user = User(tree)
        assert user.read("f", 100_000, 5) == b"dirty"
        assert user.read("f", 250_000, 4) == b"last"
        assert user.stat("f").stat.mtime_ns == THEN


def test_sigterm_writes_everything_before_the_mount_goes(tmp_path: Path) -> None:
    """Dirty pages of calls and of a mapping that still exists."""
    with mounted(tmp_path / "lower") as mount:
        fd = os.open(mount.path / "f", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"x" * 3_000_000)
        mapping = mmap.mmap(fd, 0)
        mapping[2_000_000:2_000_005] = b"dirty"
        mount.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while os.path.ismount(mount.path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # The mount is gone from here while the file is still open: all is below already.
        with open_tree(mount.lower, [PASSPHRASE]) as tree:
            data = User(tree).read("f")
        assert data == b"x" * 2_000_000 + b"dirty" + b"x" * 999_995
        mapping.close()
        os.close(fd)
        mount.wait()


def test_an_error_reaches_close_where_nobody_has_asked_for_fsync(tmp_path: Path) -> None:
    """A file size limit of the daemon's own makes lower writes short, then fail with EFBIG. The kernel calls
    that EIO, as it does with all failures but ENOSPC of what it has kept back."""
    with mounted(tmp_path / "lower", log_allows=["File too large"]) as mount:
        (mount.path / "stored").write_bytes(b"s" * 50_000)
        resource.prlimit(mount.pid, resource.RLIMIT_FSIZE, (8192 + 3 * 4096 + 1000, resource.RLIM_INFINITY))
        fd = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
        assert os.write(fd, b"y" * 60_000) == 60_000
        with pytest.raises(OSError, match="Input/output error"):
            os.close(fd)
        resource.prlimit(mount.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (mount.path / "f").read_bytes() == b"y" * (mount.path / "f").stat().st_size
        assert (mount.path / "f").stat().st_size <= 3 * 4096
        assert (mount.path / "stored").read_bytes() == b"s" * 50_000
