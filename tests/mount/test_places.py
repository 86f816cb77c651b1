"""Where trees and mount points may be, and the modes in which a tree is shown."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import golden, manifest
from tests.mount.support import PASSPHRASE, PATIENCE, fails, lower_state, mounted, run


@pytest.fixture
def passfile(tmp_path: Path) -> Path:
    path = tmp_path / "pass"
    path.write_bytes(PASSPHRASE + b"\n")
    return path


@contextmanager
def bound(directory: Path, *options: str) -> Iterator[Path]:
    """A bind mount of ``directory``, remounted with options."""
    where = directory.with_name(directory.name + ".bound")
    where.mkdir()
    subprocess.run(["mount", "--bind", directory, where], check=True)
    try:
        if options:
            subprocess.run(["mount", "-o", f"remount,bind,{','.join(options)}", where], check=True)
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def test_over_the_lower_directory(tmp_path: Path) -> None:
    """The eCryptfs habit: LOWER and MOUNTPOINT are the same."""
    lower = tmp_path / "lower"
    with mounted(lower, path=lower):
        (lower / "f").write_bytes(b"contents")
        (lower / "d").mkdir()
        assert sorted(os.listdir(lower)) == ["d", "f"]
    assert all(name.startswith("ECRYPTFS_FNEK_ENCRYPTED.") for name in os.listdir(lower))
    with mounted(lower, path=lower):
        assert (lower / "f").read_bytes() == b"contents"


def test_lower_inside_the_mount_point(tmp_path: Path) -> None:
    """As an old home has it: ~/.Private mounted on the home itself."""
    (tmp_path / "home").mkdir()
    with mounted(tmp_path / "home/.Private", path=tmp_path / "home"):
        (tmp_path / "home/f").write_bytes(b"contents")
        assert os.listdir(tmp_path / "home") == ["f"]
    assert os.listdir(tmp_path / "home") == [".Private"]


def test_mount_point_inside_lower_is_refused(tmp_path: Path, passfile: Path) -> None:
    (tmp_path / "lower/inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to("lower")
    for point in ("lower/inside", "link/inside"):
        words = ("mount", "--passfile", passfile, tmp_path / "lower", tmp_path / point)
        assert "lies inside" in run(*words, status=2).stderr
    assert os.listdir(tmp_path / "lower") == ["inside"]


def test_places_with_odd_names(tmp_path: Path) -> None:
    lower = tmp_path / "a b,c=d\\e\tf\ng #é"
    with mounted(lower) as mount:
        (mount.path / "f").write_bytes(b"contents")


def test_read_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "f").write_bytes(b"contents")
    before = lower_state(tmp_path / "lower")
    with mounted(tmp_path / "lower", "-o", "ro") as mount:
        assert (mount.path / "f").read_bytes() == b"contents"
        for call in (
            lambda p: p.write_bytes(b""), Path.unlink, lambda p: p.chmod(0), lambda p: os.utime(p, (1, 1)),
            lambda p: os.setxattr(p, "user.x", b""), lambda p: p.rename(mount.path / "g"),
            lambda p: os.link(p, mount.path / "g"), lambda p: os.truncate(p, 0),
        ):  # fmt: skip
            fails(errno.EROFS, call, mount.path / "f")
        fails(errno.EROFS, (mount.path / "d").mkdir)
    assert lower_state(tmp_path / "lower") == before


def test_lower_read_only_below(tmp_path: Path) -> None:
    """A backup bound read-only: everything can be read, and writing gives EROFS."""
    tree = golden.tree("aes16-fnek")
    lower = tree.unpack(tmp_path / "lower")
    with bound(lower, "ro") as where:
        for options in ((), ("-o", "ro")):
            with mounted(where, *options, passphrases=tree.passphrases) as mount:
                assert manifest.diff(tree.manifest(), manifest.manifest(mount.path)) == []
                fails(errno.EROFS, (mount.path / "new").write_bytes, b"x")
                fails(errno.EROFS, (mount.path / "hello.txt").write_bytes, b"x")


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_other_lower_file_systems(tmp_path: Path, kind: str) -> None:
    base = tmp_path / "base"
    base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "fusecrypt-test", base], check=True)
    try:
        for name in ("under", "over", "work", "merged"):
            (base / name).mkdir()
        if kind == "overlay":
            layers = f"lowerdir={base}/under,upperdir={base}/over,workdir={base}/work"
            subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", base / "merged"], check=True)
        with mounted(base / "merged", path=tmp_path / "up") as mount:
            (mount.path / "d").mkdir()
            (mount.path / "d/f").write_bytes(b"x" * 100_000)
            (mount.path / "d").rename(mount.path / "e")
            os.setxattr(mount.path / "e", "trusted.note", b"n")
            assert (mount.path / "e/f").read_bytes() == b"x" * 100_000
            os.link(mount.path / "e/f", mount.path / "g")
            assert (mount.path / "g").stat().st_nlink == 2
    finally:
        if kind == "overlay":
            subprocess.run(["umount", base / "merged"], check=True)
        subprocess.run(["umount", base], check=True)


def test_mount_inside_the_lower_tree(tmp_path: Path) -> None:
    """Another file system in the lower tree, whose inode numbers repeat."""
    with mounted(tmp_path / "lower", "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        (mount.path / "there").mkdir()
        (mount.path / "f").touch()
    subprocess.run(["mount", "-t", "tmpfs", "fusecrypt-test", tmp_path / "lower/there"], check=True)
    try:
        with mounted(tmp_path / "lower") as mount:
            for directory in (mount.path, mount.path / "there"):
                (directory / "f").write_bytes(os.fsencode(directory))
            assert (mount.path / "there/f").read_bytes() == os.fsencode(mount.path / "there")
            fails(errno.EXDEV, os.rename, mount.path / "f", mount.path / "there/g")
    finally:
        subprocess.run(["umount", tmp_path / "lower/there"], check=True)


def _write_once_there_is_room(path: Path, data: bytes) -> None:
    """The kernel tells the daemon some time after an unlink that nobody has the file any more."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            path.write_bytes(data)
            return
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_a_full_disk(tmp_path: Path) -> None:
    """ENOSPC, nothing broken, and what was written before can be read."""
    lower = tmp_path / "lower"
    lower.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "fusecrypt-test", lower], check=True)
    try:
        with mounted(lower, path=tmp_path / "up") as mount:
            (mount.path / "before").write_bytes(b"x" * 500_000)
            with (mount.path / "large").open("wb", buffering=0) as file:
                file.write(b"y" * 1_000_000)
                file.write(b"z" * 3_000_000)
                fails(errno.ENOSPC, os.fsync, file.fileno())
            assert (mount.path / "before").read_bytes() == b"x" * 500_000
            assert (mount.path / "large").read_bytes()[:500_000] == b"y" * 500_000
            (mount.path / "large").unlink()
            _write_once_there_is_room(mount.path / "after", b"fits")
        with mounted(lower, path=tmp_path / "up") as mount:
            assert sorted(os.listdir(mount.path)) == ["after", "before"]
            assert (mount.path / "after").read_bytes() == b"fits"
    finally:
        subprocess.run(["umount", lower], check=True)


def test_encrypted_view(tmp_path: Path) -> None:
    """Lower files with their headers in front, wherever the metadata is; copied, they are a tree."""
    with mounted(tmp_path / "lower", "-o", "ecryptfs_xattr_metadata") as mount:
        (mount.path / "f").write_bytes(b"x" * 5000)
    with mounted(tmp_path / "lower", "-o", "ecryptfs_encrypted_view") as mount:
        (name,) = os.listdir(mount.path)
        assert name.startswith("ECRYPTFS_FNEK_ENCRYPTED.")
        assert (mount.path / name).stat().st_size == 8192 + 8192
        assert "user.ecryptfs" in os.listxattr(mount.path / name)
        fails(errno.EROFS, (mount.path / name).write_bytes, b"")
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / name).write_bytes((mount.path / name).read_bytes())
    with mounted(tmp_path / "copy") as mount:
        assert (mount.path / "f").read_bytes() == b"x" * 5000


def test_passthrough(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "plain").write_bytes(b"plain text")
    options = "ecryptfs_passthrough,ecryptfs_enable_filename_crypto=n"
    with mounted(lower, "-o", options) as mount:
        assert (mount.path / "plain").read_bytes() == b"plain text"
        with (mount.path / "plain").open("ab") as file:
            file.write(b" goes on")
        os.truncate(mount.path / "plain", 12)
        (mount.path / "new").write_bytes(b"encrypted")
        assert (mount.path / "new").read_bytes() == b"encrypted"
    assert (lower / "plain").read_bytes() == b"plain text g"
    assert b"encrypted" not in (lower / "new").read_bytes()


@pytest.mark.parametrize("noatime", [True, False])
def test_access_times_are_left_alone_on_request(tmp_path: Path, noatime: bool) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "strictatime", "fusecrypt-test", lower], check=True)
    try:
        with mounted(lower, "-o", "noatime" if noatime else "relatime", path=tmp_path / "up") as mount:
            for name in ("first", "second"):  # the first one in a directory goes another way
                with (mount.path / name).open("w+b", buffering=0) as file:
                    file.write(b"x" * 5000)
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    os.utime(file.fileno(), (5, 5))
                    assert os.pread(file.fileno(), 10, 0) == b"x" * 10
                    assert (below(lower, file.fileno()).st_atime == 5) == noatime
                os.utime(mount.path / name, (5, 5))
                assert (mount.path / name).read_bytes() == b"x" * 5000
                assert (below(lower, mount.path / name).st_atime == 5) == noatime
            os.utime(mount.path, (5, 5))
            assert len(os.listdir(mount.path)) == 2
            assert (lower.stat().st_atime == 5) == noatime
    finally:
        subprocess.run(["umount", lower], check=True)


def below(lower: Path, what: int | Path) -> os.stat_result:
    """The lower object of one seen above: inode numbers are the same."""
    number = os.stat(what).st_ino
    with os.scandir(lower) as entries:
        return next(entry.stat() for entry in entries if entry.inode() == number)


def test_fuse_options(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower", "-o", "noexec,noatime,allow_other") as mount:
        line = next(x for x in Path("/proc/self/mounts").read_text().splitlines() if str(mount.path) in x)
        source, point, kind, options, *_ = line.split()
        assert (source, point, kind) == (str(mount.lower), str(mount.path), "fuse.fusecrypt")
        for word in ("rw", "noexec", "nosuid", "nodev", "noatime", "allow_other", "default_permissions"):
            assert word in options.split(",")
