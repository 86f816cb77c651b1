"""Damaged files on a mount: EIO where they are damaged, what is good elsewhere, one line each in the log."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from tests.mount.support import PASSPHRASE, Mount, fails, mounted
from tests.reliability.strace import traced
from tests.tree.support import lower_name, open_tree

EXTENT = 4096
CONTENTS = b"".join(bytes([i]) * EXTENT for i in range(1, 9)) + b"the end"
FILES = ("cut", "cut header", "foreign", "of another", "good")


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "directory").mkdir()
        for name in FILES:
            (mount.path / "directory" / name).write_bytes(CONTENTS)
    return tmp_path / "lower"


def damage(lower: Path) -> dict[str, str]:
    """Damage all but the good one; returns their lower paths."""
    with open_tree(lower, [PASSPHRASE]) as tree:
        paths = {name: str(lower_name(tree, f"directory/{name}")) for name in FILES}
    os.truncate(lower / paths["cut"], 8192 + 3 * EXTENT + 100)
    os.truncate(lower / paths["cut header"], 5000)
    (lower / paths["foreign"]).write_bytes(b"some text" * 1000)
    octets = (lower / paths["of another"]).read_bytes()
    (lower / paths["of another"]).write_bytes(octets[:30] + os.urandom(8) + octets[38:])
    return paths


def read_all(mount: Mount) -> None:
    """Each extent of each file, twice."""
    for _ in range(2):
        fd = os.open(mount.path / "directory" / "cut", os.O_RDONLY)
        try:
            for at in range(0, len(CONTENTS), EXTENT):
                if at < 3 * EXTENT:
                    assert os.pread(fd, EXTENT, at) == CONTENTS[at : at + EXTENT]
                else:
                    fails(errno.EIO, os.pread, fd, EXTENT, at)
        finally:
            os.close(fd)
        for name in ("cut header", "foreign", "of another"):
            fails(errno.EIO, (mount.path / "directory" / name).read_bytes)
        assert (mount.path / "directory" / "good").read_bytes() == CONTENTS
        assert sorted(os.listdir(mount.path / "directory")) == sorted(FILES)


@pytest.mark.parametrize("options", [(), ("-o", "ro"), ("--shared",)])
def test_good_extents_are_read_and_each_file_is_named_once(lower: Path, options: tuple[str, ...]) -> None:
    paths = damage(lower)
    with mounted(lower, *options, log_allows=["cannot be read"]) as mount:
        read_all(mount)
        lines = mount.messages.splitlines()
    for name in ("cut", "cut header", "foreign", "of another"):
        assert len([line for line in lines if f"{paths[name]} cannot be read: " in line]) == 1, lines
    assert len(lines) == 4, lines


def test_what_is_damaged_while_it_is_open(lower: Path) -> None:
    """The lane has the file open by then."""
    with mounted(lower, log_allows=["cannot be read"]) as mount:
        paths = {}
        fd = os.open(mount.path / "directory" / "cut", os.O_RDONLY)
        assert os.pread(fd, EXTENT, 0) == CONTENTS[:EXTENT]
        paths = damage(lower)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for _ in range(3):
            assert os.pread(fd, EXTENT, EXTENT) == CONTENTS[EXTENT : 2 * EXTENT]
            fails(errno.EIO, os.pread, fd, EXTENT, 6 * EXTENT)
        os.close(fd)
        lines = mount.messages.splitlines()
        assert [line for line in lines if "cannot be read" in line] == [
            f"fusecrypt: {paths['cut']} cannot be read: the lower file is cut short"
        ]


def test_a_file_whose_header_cannot_be_read_is_renamed_and_removed(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower", log_allows=["cannot be read"]) as mount:
        for name in ("a", "b"):
            (mount.path / name).write_bytes(CONTENTS)
        time.sleep(1.1)  # until the kernel asks again
        with traced(mount.pid, tmp_path / "log", "pread64", "inject=pread64:error=EBADMSG"):
            assert (mount.path / "a").stat().st_size >= len(CONTENTS)
            fails(errno.EBADMSG, (mount.path / "a").read_bytes)
            (mount.path / "a").rename(mount.path / "c")
            (mount.path / "b").unlink()
        assert os.listdir(mount.path) == ["c"]
        assert (mount.path / "c").read_bytes() == CONTENTS


def test_hostile_names_are_escaped_in_the_log(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    name = b"a\nfusecrypt: \x1b[31mall is well\xff"
    options = ("-o", "ecryptfs_enable_filename_crypto=n")
    with mounted(lower, *options, log_allows=["cannot be read"]) as mount:
        Path(os.fsdecode(os.fsencode(mount.path) + b"/" + name)).write_bytes(CONTENTS)
    os.truncate(os.fsencode(lower) + b"/" + name, 5000)
    with mounted(lower, log_allows=["cannot be read"]) as mount:
        fails(errno.EIO, Path(os.fsdecode(os.fsencode(mount.path) + b"/" + name)).read_bytes)
        (line,) = mount.messages.splitlines()
    assert line.startswith(r"fusecrypt: a\nfusecrypt: \x1b[31mall is well\xff cannot be read: ")
