"""Names, listings, links, attributes and ACLs through a mount."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import re
import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import pytest

from tests.mount.support import Mount, fails, mounted, outcome

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
AT_FDCWD = -100


def renameat2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_longest_names(tmp_path: Path, tree: Mount, up: Path) -> None:
    assert os.statvfs(up).f_namemax == 143
    (up / ("n" * 143)).write_bytes(b"x")
    (up / ("d" * 143)).mkdir()
    (up / ("n" * 143)).rename(up / ("d" * 143) / ("m" * 143))
    assert os.listdir(up / ("d" * 143)) == ["m" * 143]
    for call in (lambda p: p.write_bytes(b""), Path.mkdir, Path.stat, lambda p: p.symlink_to("x")):
        fails(errno.ENAMETOOLONG, call, up / ("n" * 144))
    fails(errno.ENAMETOOLONG, os.rename, up / ("d" * 143), up / ("n" * 144))
    with mounted(tmp_path / "plain", "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        assert os.statvfs(mount.path).f_namemax == 255
        (mount.path / ("n" * 255)).write_bytes(b"x")
        fails(errno.ENAMETOOLONG, (mount.path / ("n" * 256)).write_bytes, b"x")


def test_names_are_octets(up: Path) -> None:
    names = [b"\xff\xfe", b" ", b"new\nline", b"ECRYPTFS_FNEK_ENCRYPTED.x", b"-rf", "żółw".encode(), b"..."]
    for name in names:
        with open(os.path.join(os.fsencode(up), name), "wb") as file:
            file.write(name)
    assert sorted(os.listdir(os.fsencode(up))) == sorted(names)


def test_symlinks(up: Path) -> None:
    """Targets of any length come back as they were, and lstat gives their decrypted length."""
    for n in (1, 15, 16, 17, 255, 1000, 3007):
        target = "t" * n
        link = up / f"link{n}"
        link.symlink_to(target)
        assert os.readlink(link) == target
        assert link.lstat().st_size == n
    fails(errno.ENAMETOOLONG, os.symlink, "t" * 3200, up / "long")
    (up / "file").write_bytes(b"through a link")
    (up / "to-file").symlink_to("file")
    assert (up / "to-file").read_bytes() == b"through a link"
    os.chown(up / "to-file", 5, 6, follow_symlinks=False)
    assert (up / "to-file").lstat().st_uid == 5
    assert (up / "file").stat().st_uid == 0
    os.link(up / "to-file", up / "hard", follow_symlinks=False)
    assert os.readlink(up / "hard") == "file"
    assert (up / "hard").lstat().st_nlink == 2


def test_special_files(up: Path) -> None:
    os.mkfifo(up / "fifo", 0o640)
    os.mknod(up / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(up / "file", stat.S_IFREG | 0o600)
    with socket.socket(socket.AF_UNIX) as server, chdir(up):  # socket addresses are short
        server.bind("socket")
    kinds = {entry.name: stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) for entry in os.scandir(up)}
    assert kinds == {
        "fifo": stat.S_IFIFO,
        "device": stat.S_IFCHR,
        "file": stat.S_IFREG,
        "socket": stat.S_IFSOCK,
    }
    assert (up / "device").stat().st_rdev == os.makedev(1, 3)
    assert (up / "device").read_bytes() == b""
    with ThreadPoolExecutor() as pool:
        reading = pool.submit((up / "fifo").read_bytes)
        (up / "fifo").write_bytes(b"through the fifo")
        assert reading.result() == b"through the fifo"


def test_rename_flags(up: Path) -> None:
    a, b, d = up / "a", up / "b", up / "d"
    a.write_bytes(b"a")
    b.write_bytes(b"bb")
    d.mkdir()
    (d / "inside").write_bytes(b"i")
    fails(errno.EEXIST, renameat2, a, b, NOREPLACE)
    renameat2(a, b, EXCHANGE)
    assert (a.read_bytes(), b.read_bytes()) == (b"bb", b"a")
    renameat2(a, d, EXCHANGE)
    assert (d.read_bytes(), (a / "inside").read_bytes()) == (b"bb", b"i")
    renameat2(b, up / "c", NOREPLACE)
    assert (up / "c").read_bytes() == b"a"
    fails(errno.ENOENT, renameat2, up / "none", d, EXCHANGE)


def test_whiteout(up: Path) -> None:
    """As below where the kernel passes it on: the old name becomes the device that overlays know."""
    (up / "a").write_bytes(b"a")
    if outcome(renameat2, up / "a", up / "b", WHITEOUT) == "EINVAL":  # a kernel that does not
        assert (up / "a").read_bytes() == b"a"
        return
    assert (up / "b").read_bytes() == b"a"
    st = (up / "a").lstat()
    assert (stat.S_ISCHR(st.st_mode), st.st_rdev) == (True, 0)


def test_rename_of_directories(up: Path) -> None:
    deep = up / "a" / "b" / "c"
    deep.mkdir(parents=True)
    with (deep / "file").open("w+b", buffering=0) as file:
        file.write(b"one")
        (up / "a").rename(up / "z")
        file.write(b" two")
        assert (up / "z/b/c/file").read_bytes() == b"one two"
        (up / "z/b/c/new").write_bytes(b"new")
    fails(errno.ENOENT, deep.stat)
    fails(errno.EINVAL, os.rename, up / "z", up / "z/b/inside")
    (up / "empty").mkdir()
    (up / "z").rename(up / "empty")
    fails(errno.ENOTEMPTY, (up / "empty").rmdir)
    (up / "other").mkdir()
    fails(errno.ENOTEMPTY, os.rename, up / "other", up / "empty")
    fails(errno.EISDIR, os.rename, up / "empty/b/c/new", up / "other")
    fails(errno.ENOTDIR, os.rename, up / "other", up / "empty/b/c/new")


def test_removed_working_directory(up: Path) -> None:
    gone = up / "gone"
    gone.mkdir()
    fd = os.open(gone, os.O_RDONLY)
    try:
        gone.rmdir()
        assert os.fstat(fd).st_nlink == 0
        fails(errno.ENOENT, os.open, "new", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
        assert os.listdir(fd) == []
        gone.mkdir()
        assert gone.stat().st_ino != os.fstat(fd).st_ino
    finally:
        os.close(fd)


class Stream:
    """readdir(3) with its positions."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    for name in ("readdir", "telldir", "seekdir", "rewinddir", "closedir"):
        getattr(libc, name).argtypes = [ctypes.c_void_p, *([ctypes.c_long] if name == "seekdir" else [])]
    libc.telldir.restype = ctypes.c_long

    def __init__(self, path: Path) -> None:
        self.stream = self.libc.opendir(os.fsencode(path))

    def next(self) -> bytes | None:
        entry = self.libc.readdir(self.stream)
        return ctypes.string_at(entry + 19) if entry else None

    def rest(self) -> list[bytes]:
        return list(iter(self.next, None))


def test_listing_positions(up: Path) -> None:
    """A thousand entries: seekdir finds its place, rewinddir looks again, nothing comes twice."""
    names = {b"%04d" % n for n in range(1000)}
    for name in names:
        os.mknod(os.path.join(os.fsencode(up), name))
    directory = Stream(up)
    first = [directory.next() for _ in range(300)]
    place = directory.libc.telldir(directory.stream)
    second = directory.rest()
    assert sorted([*first, *second]) == sorted({*names, b".", b".."})  # type: ignore[type-var]
    directory.libc.seekdir(directory.stream, place)
    assert directory.rest() == second
    for name in second[:500]:
        os.unlink(os.path.join(os.fsencode(up), name))
    (up / "new").touch()
    directory.libc.rewinddir(directory.stream)
    assert sorted(directory.rest()) == sorted({*first, *second[500:], b"new"})  # type: ignore[type-var]
    directory.libc.closedir(directory.stream)


def test_listing_while_entries_go(up: Path) -> None:
    """What rm -r does: whatever was there all the time is listed exactly once."""
    for n in range(700):
        (up / f"{n}").touch()
    seen = []
    with os.scandir(up) as entries:
        for entry in entries:
            seen.append(entry.name)
            if int(entry.name) % 2:
                os.unlink(entry.path)
            else:
                (up / f"{int(entry.name) + 1000}").touch()
    assert {n for n in seen if int(n) < 700} == {str(n) for n in range(700)}
    assert len(seen) == len(set(seen))
    subprocess.run(["rm", "-r", up], check=True)


def test_dots(tree: Mount, up: Path) -> None:
    listed = subprocess.run(["ls", "-ai", up], capture_output=True, text=True, check=True).stdout
    inodes = {name: int(ino) for ino, name in map(str.split, listed.splitlines())}
    assert inodes == {".": up.stat().st_ino, "..": tree.path.stat().st_ino}


def test_creating_and_listing_at_once(up: Path) -> None:
    """Threads create, look up, list, rename and remove beside one another."""

    def busy(seed: int) -> int:
        chance = random.Random(seed)
        for n in range(150):
            path = up / f"{seed}-{n}"
            path.write_bytes(b"%d" % n)
            assert path.read_bytes() == b"%d" % n
            if chance.random() < 0.3:
                assert path.name in os.listdir(up)
            if chance.random() < 0.5:
                path.rename(up / f"{seed}+{n}")
            if chance.random() < 0.2:
                (up / f"{seed}+{n}").unlink(missing_ok=True)
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(busy, range(8))) == list(range(8))
    assert {path.read_bytes() for path in up.iterdir()} <= {b"%d" % n for n in range(150)}


def test_many_requests_wait_at_once(up: Path) -> None:
    """More fsyncs at a time than there are workers."""

    def write(n: int) -> bytes:
        fd = os.open(up / f"{n}", os.O_RDWR | os.O_CREAT)
        try:
            for _ in range(3):
                os.write(fd, bytes([n]) * 5000)
                os.fsync(fd)
            return os.pread(fd, 1, 14_999)
        finally:
            os.close(fd)

    with ThreadPoolExecutor(80) as pool:
        assert list(pool.map(write, range(80))) == [bytes([n]) for n in range(80)]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_directory_lists_what_was_made_after_it_was_opened(up: Path, renamed: bool) -> None:
    """Also one that was renamed, about which the express lane knows nothing."""
    path = up / "d"
    path.mkdir()
    if renamed:
        path = path.rename(up / "renamed")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    (path / "a").touch()
    assert os.listdir(fd) == ["a"]
    (path / "b").touch()
    assert sorted(os.listdir(fd)) == ["a", "b"]
    os.close(fd)


def test_deep_paths(up: Path) -> None:
    """Deeper than PATH_MAX and than the descriptors that are kept."""
    depth, name = 600, "n" * 20
    fd = os.open(up, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open("file", "w+b", opener=lambda path, flags: os.open(path, flags, 0o600, dir_fd=fd)) as file:
        file.write(b"deep down")
    assert os.stat("file", dir_fd=fd).st_size == 9
    os.close(fd)
    found = subprocess.run(["find", up, "-name", "file"], capture_output=True, text=True, check=True).stdout
    assert found.count(f"/{name}") == depth
    subprocess.run(["rm", "-rf", up], check=True)


@pytest.mark.parametrize("kind", ["file", "dir"])
def test_xattrs(up: Path, kind: str) -> None:
    path = up / kind
    path.touch() if kind == "file" else path.mkdir()
    for space in ("user", "trusted", "security"):
        os.setxattr(path, f"{space}.one", b"1")
        os.setxattr(path, f"{space}.empty", b"")
        fails(errno.EEXIST, os.setxattr, path, f"{space}.one", b"2", os.XATTR_CREATE)
        os.setxattr(path, f"{space}.one", b"two", os.XATTR_REPLACE)
        fails(errno.ENODATA, os.setxattr, path, f"{space}.none", b"2", os.XATTR_REPLACE)
        assert os.getxattr(path, f"{space}.one") == b"two"
    assert len([n for n in os.listxattr(path) if n.endswith((".one", ".empty"))]) == 6
    os.removexattr(path, "user.one")
    fails(errno.ENODATA, os.getxattr, path, "user.one")
    fails(errno.ENODATA, os.removexattr, path, "user.one")
    fails(errno.EOPNOTSUPP, os.setxattr, path, "foreign.one", b"1")
    os.setxattr(path, "user.long", b"v" * 3000)
    assert os.getxattr(path, "user.long") == b"v" * 3000


def test_xattrs_of_symlinks(up: Path) -> None:
    link = up / "link"
    link.symlink_to("nowhere")
    os.setxattr(link, "trusted.note", b"of the link", follow_symlinks=False)
    assert os.getxattr(link, "trusted.note", follow_symlinks=False) == b"of the link"
    assert os.listxattr(link, follow_symlinks=False) == ["trusted.note"]
    fails(errno.EPERM, os.setxattr, link, "user.note", b"", follow_symlinks=False)


def test_the_metadata_attribute_is_ours(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower", "-o", "ecryptfs_xattr_metadata") as mount:
        path = mount.path / "f"
        path.write_bytes(b"x" * 5000)
        assert path.stat().st_size == 5000
        (lower,) = mount.lower.iterdir()
        value = os.getxattr(lower, "user.ecryptfs")
        assert os.listxattr(path) == []
        fails(errno.ENODATA, os.getxattr, path, "user.ecryptfs")
        fails(errno.EPERM, os.setxattr, path, "user.ecryptfs", b"x")
        fails(errno.EPERM, os.removexattr, path, "user.ecryptfs")
        subprocess.run(["cp", "-a", path, mount.path / "copy"], check=True)
        assert (mount.path / "copy").read_bytes() == b"x" * 5000
        assert os.getxattr(lower, "user.ecryptfs") == value
    with mounted(tmp_path / "lower") as mount:  # found out from the tree
        assert (mount.path / "copy").stat().st_size == 5000
        (mount.path / "new").write_bytes(b"new")
    assert all("user.ecryptfs" in os.listxattr(path) for path in (tmp_path / "lower").iterdir())


def acl(*arguments: object) -> str:
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=True).stdout


def test_acls(up: Path) -> None:
    path = up / "f"
    path.write_bytes(b"x")
    path.chmod(0o640)
    acl("setfacl", "-m", "u:1234:rw,g:55:r", path)
    assert "user:1234:rw-" in acl("getfacl", "-pn", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660  # the mask shows as the group's
    path.chmod(0o600)
    assert re.search(r"^user:1234:rw-\s+#effective:---$", acl("getfacl", "-pn", path), re.MULTILINE)
    acl("setfacl", "-b", path)
    assert "1234" not in acl("getfacl", "-pn", path)


def test_default_acls_take_the_place_of_the_umask(up: Path) -> None:
    acl("setfacl", "-d", "-m", "u::rwx,g::rwx,o::r,u:1234:rwx", up)
    old = os.umask(0o077)
    try:
        (up / "f").touch(0o666)
        (up / "d").mkdir(0o777)
        os.mkfifo(up / "fifo", 0o666)
    finally:
        os.umask(old)
    assert stat.S_IMODE((up / "f").stat().st_mode) == 0o664
    assert stat.S_IMODE((up / "fifo").stat().st_mode) == 0o664
    assert stat.S_IMODE((up / "d").stat().st_mode) == 0o774
    assert "default:user:1234:rwx" in acl("getfacl", "-pn", up / "d")
    assert "user:1234:rwx" in acl("getfacl", "-pn", up / "f")


def test_statfs_is_that_below(tree: Mount) -> None:
    above, below = os.statvfs(tree.path), os.statvfs(tree.lower)
    assert (above.f_frsize, above.f_blocks, above.f_files) == (below.f_frsize, below.f_blocks, below.f_files)


def test_inode_numbers_are_those_below(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower", "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        (mount.path / "d").mkdir()
        (mount.path / "d/f").touch()
        for name in ("", "d", "d/f"):
            above, below = (mount.path / name).stat(), (mount.lower / name).stat()
            assert (above.st_ino, above.st_nlink) == (below.st_ino, below.st_nlink)
            assert (above.st_blocks, above.st_blksize) == (below.st_blocks, below.st_blksize)


def test_moved_below(tmp_path: Path) -> None:
    """What is renamed in the lower tree is found at its new place, and nothing is confused with it."""
    with mounted(tmp_path / "lower", "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        (mount.path / "a").mkdir()
        (mount.path / "a/f").write_bytes(b"in a")
        (mount.path / "b").mkdir()
        (mount.lower / "a").rename(mount.lower / "b/a")
        (mount.lower / "a").mkdir()
        time.sleep(1.1)
        assert (mount.path / "b/a/f").read_bytes() == b"in a"
        assert os.listdir(mount.path / "a") == []
        (mount.path / "a/f").write_bytes(b"new")
        assert (mount.path / "b/a/f").read_bytes() == b"in a"
        assert sorted(os.listdir(mount.lower / "a")) == ["f"]
