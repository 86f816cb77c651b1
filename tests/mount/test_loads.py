"""Other people's loads that check what they read: stress-ng's file system stressors, and fio."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.mount.support import Mount, mounted

STRESSORS = """
access chdir chmod chown copy-file dentry dir dirdeep dirmany fallocate fcntl filename flock getdent hdd io
iomix link locka lockf lockofd mknod mmap msync open readahead rename revio seek sendfile symlink sync-file
utime xattr
""".split()
"""Those that work in a directory of their own; each of these fails if a call does not do what it should."""

ENGINES = ("psync", "mmap", "libaio")
WAYS = {"write-back": (), "write-through": ("--shared",)}


def stress(mount: Mount, seconds: int) -> None:
    stressors = [word for name in STRESSORS for word in (f"--{name}", "1")]
    limits = ["--hdd-bytes", "8m", "--iomix-bytes", "4m", "--revio-bytes", "4m"]
    limits += ["--dirmany-bytes", "64k", "--dentries", "200", "--mmap-bytes", "4m", "--mmap-file"]
    command = [
        "stress-ng",
        *stressors,
        *limits,
        "-t",
        str(seconds),
        "--verify",
        "--temp-path",
        str(mount.path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10 * seconds + 120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.listdir(mount.path) == []
    assert os.listdir(mount.lower) == []


@pytest.mark.parametrize("way", WAYS)
def test_stressors(tmp_path: Path, way: str) -> None:
    with mounted(tmp_path / "lower", *WAYS[way]) as mount:
        stress(mount, 2)


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
def test_stressors_for_long(tmp_path: Path, way: str) -> None:
    with mounted(tmp_path / "lower", *WAYS[way]) as mount:
        stress(mount, 120)


def fio(mount: Mount, megabytes: int, *more: str) -> None:
    """Random writes of odd sizes to a file for each engine, read again and compared."""
    command = ["fio", f"--directory={mount.path}", "--rw=randwrite", "--bsrange=512-48k", "--bs_unaligned"]
    command += [f"--size={megabytes}m", "--verify=crc32c", "--randseed=7", "--verify_fatal=1"]
    command += ["--fallocate=none", *more]
    for engine in ENGINES:
        command += [f"--name={engine}", f"--ioengine={engine}"]
    cwd = mount.lower.parent  # where it keeps what it has verified
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify" not in done.stderr, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_what_fio_wrote_is_there(tmp_path: Path, way: str) -> None:
    """While it is written, and in the next mount."""
    verified(tmp_path, way, 4)


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
def test_much_of_what_fio_wrote_is_there(tmp_path: Path, way: str) -> None:
    verified(tmp_path, way, 256)


def verified(tmp_path: Path, way: str, megabytes: int) -> None:
    with mounted(tmp_path / "lower", *WAYS[way]) as mount:
        fio(mount, megabytes)
    with mounted(tmp_path / "lower") as mount:
        fio(mount, megabytes, "--verify_only=1")
        with (mount.path / "psync.0.0").open("r+b") as file:  # nothing is verified in vain
            file.seek(megabytes << 19)
            file.write(b"something else")
        with pytest.raises(AssertionError):
            fio(mount, megabytes, "--verify_only=1")
