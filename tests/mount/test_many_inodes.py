"""More inodes in the kernel's memory than anybody uses, and a kernel that wants its memory back."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.inodes import descriptors, forgotten, inodes, memory
from tests.mount.support import Mount, mounted

PLAIN = ("-o", "ecryptfs_enable_filename_crypto=n")
DIRECTORIES, IN_ONE = 20, 1000
"""How many, and files of each."""
MILLION = 50_000
"""Files of each that make a million."""
MEMORY = 400
"""Octets of the daemon for an inode: a record of the lane's, its name, and places in two tables."""
LEFT = 100
"""What an inode may still take after the kernel has forgotten it: a heap that others have pieces of."""
KEPT = 300
"""Descriptors of directories that a daemon keeps for a while, at most."""
LITTLE = 12 << 20
"""Octets in which a program has room, and 10,000 inodes at most beside it."""


def make(lower: Path, in_one: int) -> None:
    """Empty files, which are valid and cost no room, made below."""
    for n in range(DIRECTORIES):
        (lower / f"directory {n}").mkdir(parents=True)
        for m in range(in_one):
            os.mknod(lower / f"directory {n}/file {n} {m}")


def look_at_all(mount: Mount, *beginning: str | Path) -> None:
    """Ask for the size of every file; those in directories are empty."""
    command = [*beginning, "find", mount.path, "-mindepth", "2", "-size", "+0c"]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout == b""


@pytest.mark.parametrize("in_one", [IN_ONE, pytest.param(MILLION, marks=pytest.mark.full)])
def test_inodes_in_memory(tmp_path: Path, in_one: int) -> None:
    """What they cost, and that it comes back, as do the files."""
    lower = tmp_path / "lower"
    lower.mkdir()
    with mounted(lower, *PLAIN) as mount:  # leaves a header, by which the next one knows the tree at once
        (mount.path / "one").write_bytes(b"x")
    make(lower, in_one)
    with mounted(lower, *PLAIN) as mount:
        (mount.path / "directory 0/file 0 0").stat()
        forgotten(mount)
        before, open_before = memory(mount), descriptors(mount)
        look_at_all(mount)
        number = inodes(mount)
        taken = (memory(mount) - before) / number
        print(f"{number:,} inodes of {taken:.0f} octets")
        assert number == DIRECTORIES * (in_one + 1) + 2  # with the root, and the file with a header
        assert taken < MEMORY
        assert descriptors(mount) <= open_before + KEPT
        forgotten(mount)
        assert descriptors(mount) == open_before
        assert (memory(mount) - before) / number < LEFT
        look_at_all(mount)
        assert inodes(mount) == number


@contextmanager
def little_memory(octets: int) -> Iterator[Path]:
    """A control group whose memory, inodes included, is limited: where to write who is in it."""
    place, limit = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    if not place.exists():
        place, limit = Path("/sys/fs/cgroup"), "memory.max"
        (place / "cgroup.subtree_control").write_text("+memory")
    group = place / f"fusecrypt-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(octets))
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def test_somebody_with_little_memory(tmp_path: Path) -> None:
    """The kernel forgets inodes while it looks up others: all are found, and few are kept."""
    make(tmp_path / "lower", IN_ONE)
    with mounted(tmp_path / "lower", *PLAIN) as mount, little_memory(LITTLE) as group:
        seen: list[int] = []
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                seen.append(inodes(mount))

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            look_at_all(mount, "sh", "-c", 'echo $$ >"$0" && exec "$@"', group)
        finally:
            ended.set()
            watching.join()
        seen.append(inodes(mount))
        print(f"at most {max(seen):,} inodes at once, {seen[-1]:,} in the end")
        assert max(seen) < DIRECTORIES * IN_ONE * 0.8
        forgotten(mount)
