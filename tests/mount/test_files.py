"""Files through a mount: opening, writing, mapping, sizes and times, as POSIX and the design say."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import subprocess
import time
from pathlib import Path

from tests.mount.support import fails, lower_state, mounted

DATA = random.Random(1).randbytes(300_000)


def test_open_flags(up: Path) -> None:
    path = up / "f"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.write(fd, b"one")
    os.close(fd)
    fails(errno.EEXIST, os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b" two")
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b" three")
    os.close(fd)
    assert path.read_bytes() == b"one two three"
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert path.stat().st_size == 0
    fails(errno.ENOENT, os.open, up / "none", os.O_RDONLY)
    fails(errno.EISDIR, os.open, up, os.O_WRONLY)
    fails(errno.ENOTDIR, os.open, path / "below", os.O_RDONLY)
    fails(errno.EOPNOTSUPP, os.open, up, os.O_TMPFILE | os.O_RDWR)


def test_appenders_share_a_file(up: Path) -> None:
    path = up / "log"
    fds = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for _ in range(3)]
    for n in range(3000):
        os.write(fds[n % 3], b"%06d\n" % n)
    for fd in fds:
        os.close(fd)
    assert path.read_bytes() == b"".join(b"%06d\n" % n for n in range(3000))


def test_random_writes_and_truncations(tmp_path: Path) -> None:
    """Against an ordinary file, and again after a remount."""
    chance, model = random.Random(7), tmp_path / "model"
    model.touch()
    with mounted(tmp_path / "lower") as mount:
        path = mount.path / "f"
        path.touch()
        for _ in range(150):
            offset, n = chance.randrange(60_000), chance.randrange(1, 20_000)
            for file in (path, model):
                if n % 5 == 0:
                    os.truncate(file, offset)
                    continue
                with file.open("r+b", buffering=0) as open_file:
                    open_file.seek(offset)
                    open_file.write(DATA[n : 2 * n])
            if n % 3 == 0:
                assert path.read_bytes() == model.read_bytes()
        expected = model.read_bytes()
        assert path.read_bytes() == expected
    with mounted(tmp_path / "lower") as mount:
        assert (mount.path / "f").read_bytes() == expected


def test_holes_read_as_zeros(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        with (mount.path / "f").open("wb", buffering=0) as file:
            file.write(b"start")
            file.seek(20_000_000)
            file.write(b"end")
        os.truncate(mount.path / "f", 20_100_000)
    with mounted(tmp_path / "lower") as mount:
        expected = b"start".ljust(20_000_000, b"\0") + b"end".ljust(100_000, b"\0")
        assert (mount.path / "f").read_bytes() == expected
        assert (mount.path / "f").stat().st_size == 20_100_000


def test_shared_mapping(tmp_path: Path) -> None:
    """Seen by read() at once, and below after msync, munmap, or an unmount with pages still dirty."""
    with mounted(tmp_path / "lower") as mount:
        path = mount.path / "f"
        path.write_bytes(DATA)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
            mapping[4090:4100] = b"0123456789"
            assert path.read_bytes()[4085:4105] == DATA[4085:4090] + b"0123456789" + DATA[4100:4105]
            mapping.flush()
            mapping[200_000:200_005] = b"DIRTY"
        assert path.stat().st_size == len(DATA)
    expected = bytearray(DATA)
    expected[4090:4100] = b"0123456789"
    expected[200_000:200_005] = b"DIRTY"
    with mounted(tmp_path / "lower") as mount:
        assert (mount.path / "f").read_bytes() == expected


def test_read_only_and_private_mappings(up: Path) -> None:
    path = up / "f"
    path.write_bytes(DATA)
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as shared:
            assert shared[:] == DATA
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as private:
            private[:4] = b"mine"
    assert path.read_bytes() == DATA


def test_programs_run_from_the_mount(up: Path) -> None:
    program = up / "true"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 0


def test_unlinked_file_lives_on(up: Path) -> None:
    path = up / "f"
    with path.open("w+b", buffering=0) as file:
        file.write(b"before")
        path.unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write(b" after")
        os.fchmod(file.fileno(), 0o600)
        os.setxattr(file.fileno(), "user.note", b"still here")
        os.ftruncate(file.fileno(), 100_000)
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b"before after".ljust(100_000, b"\0")
        path.write_bytes(b"another")
        assert os.fstat(file.fileno()).st_size == 100_000
        again = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
        assert os.pread(again, 6, 0) == b"before"
        os.close(again)
    assert path.read_bytes() == b"another"


def test_rename_over_an_open_file(up: Path) -> None:
    old, new = up / "old", up / "new"
    old.write_bytes(b"old" * 5000)
    new.write_bytes(b"new" * 5000)
    with old.open("rb", buffering=0) as reader, new.open("r+b", buffering=0) as writer:
        new.rename(old)
        assert old.read_bytes() == b"new" * 5000
        assert reader.read() == b"old" * 5000
        writer.write(b"NEW")
        assert old.read_bytes()[:6] == b"NEWnew"
        assert not new.exists()


def test_hard_links(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        one, two, three = (mount.path / name for name in ("one", "two", "three"))
        one.write_bytes(b"shared")
        os.link(one, two)
        with two.open("ab") as file:
            file.write(b" by two")
        assert one.read_bytes() == b"shared by two"
        assert one.stat().st_nlink == 2
        assert one.stat().st_ino == two.stat().st_ino
        one.unlink()
        os.link(two, three)
        assert two.stat().st_nlink == 2
        three.rename(two)  # the same file: nothing happens
        assert three.exists()
        fails(errno.EEXIST, os.link, two, three)
    with mounted(tmp_path / "lower") as mount:
        assert (mount.path / "three").read_bytes() == b"shared by two"
        assert sorted(os.listdir(mount.path)) == ["three", "two"]


def test_times(tmp_path: Path) -> None:
    """Nanoseconds are kept, and what a write gave a file stays the same after write-back and remount."""
    with mounted(tmp_path / "lower") as mount:
        path, written = mount.path / "f", mount.path / "written"
        path.write_bytes(DATA)
        os.utime(path, ns=(123_456_789, 1_234_567_890_123_456_789))
        with path.open("r+b") as file:
            file.write(b"cached when the time is set")
            file.flush()
            os.utime(file.fileno(), ns=(5, 987_654_321_123_456_789))
        assert path.stat().st_mtime_ns == 987_654_321_123_456_789
        written.write_bytes(DATA)
        before = written.stat().st_mtime_ns
        assert abs(before - time.time_ns()) < 60e9
        os.symlink("f", mount.path / "link")
        os.utime(mount.path / "link", ns=(7, 8_000_000_009), follow_symlinks=False)
    with mounted(tmp_path / "lower") as mount:
        st = (mount.path / "f").stat()
        assert (st.st_atime_ns, st.st_mtime_ns) == (5, 987_654_321_123_456_789)
        assert (mount.path / "written").stat().st_mtime_ns == before
        assert os.lstat(mount.path / "link").st_mtime_ns == 8_000_000_009


def test_times_move_with_changes(up: Path) -> None:
    path = up / "f"
    path.write_bytes(b"x")
    for directory in (up, up / "d"):
        directory.mkdir(exist_ok=True)
        os.utime(directory, (1, 1))
        (directory / "new").write_bytes(b"")
        assert directory.stat().st_mtime > 1
    os.utime(path, (1, 1))
    with path.open("ab") as file:
        file.write(b"y")
    assert path.stat().st_mtime > 1
    os.utime(path, (1, 1))
    os.truncate(path, 1)
    assert path.stat().st_mtime > 1


def test_a_change_below_is_seen(tmp_path: Path) -> None:
    """After the second for which the kernel may keep attributes."""
    with mounted(tmp_path / "lower", "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        path, other = mount.path / "f", mount.path / "g"
        path.write_bytes(b"old contents" * 1000)
        other.write_bytes(b"new" * 2000)
        assert path.read_bytes() == b"old contents" * 1000
        time.sleep(1.1)
        (mount.lower / "f").write_bytes((mount.lower / "g").read_bytes())
        assert path.stat().st_size == 6000
        assert path.read_bytes() == b"new" * 2000
        (mount.lower / "f").unlink()
        time.sleep(1.1)
        assert not path.exists()


def test_a_change_below_is_seen_at_the_next_open(tmp_path: Path) -> None:
    """At once: appending at the end that a file no longer has would leave a gap."""
    with mounted(tmp_path / "lower", "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        path, other = mount.path / "f", mount.path / "g"
        path.write_bytes(b"x" * 10_000)
        other.write_bytes(b"new")
        assert path.read_bytes() == b"x" * 10_000
        (mount.lower / "f").write_bytes((mount.lower / "g").read_bytes())
        with path.open("ab") as file:
            file.write(b" and more")
        assert path.read_bytes() == b"new and more"


def test_sizes_while_writing(up: Path) -> None:
    path = up / "f"
    with path.open("wb", buffering=0) as file:
        for n in range(1, 40):
            file.write(bytes(1000))
            assert path.stat().st_size == os.fstat(file.fileno()).st_size == 1000 * n
        os.fdatasync(file.fileno())
        time.sleep(1.1)
        assert path.stat().st_size == 39_000
    assert path.stat().st_size == 39_000
    assert {e.name: e.stat().st_size for e in os.scandir(up)} == {"f": 39_000}


def test_direct_io(up: Path) -> None:
    path = up / "f"
    buffer = mmap.mmap(-1, 65536)
    buffer.write(DATA[:65536])
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    try:
        assert os.pwritev(fd, [buffer], 0) == 65536
        assert os.preadv(fd, [buffer], 0) == 65536
        assert buffer[:] == DATA[:65536]
        assert os.pread(fd, 1000, 333) == DATA[333:1333]
    finally:
        os.close(fd)
    buffer.close()


def test_what_applications_see_of_calls_that_do_not_arrive(up: Path) -> None:
    """As docs/design.md says."""
    path, other = up / "f", up / "g"
    path.write_bytes(DATA)
    with path.open("r+b") as file, other.open("w+b") as target:
        fd = file.fileno()
        assert os.copy_file_range(fd, target.fileno(), 5000, 100, 0) == 5000
        assert os.pread(target.fileno(), 5000, 0) == DATA[100:5100]
        assert os.sendfile(target.fileno(), fd, 0, 1000) == 1000
        assert os.lseek(fd, 10, os.SEEK_DATA) == 10
        assert os.lseek(fd, 0, os.SEEK_HOLE) == len(DATA)
        fails(errno.ENXIO, os.lseek, fd, len(DATA), os.SEEK_DATA)
        fails(errno.EOPNOTSUPP, fcntl.ioctl, fd, 0x40049409, target.fileno())  # FICLONE
        fails(errno.ENOTTY, fcntl.ioctl, fd, 0x80086601, bytes(8))  # FS_IOC_GETFLAGS
        os.posix_fallocate(fd, 0, len(DATA) + 10_000)  # glibc writes where the kernel refuses
        assert os.fstat(fd).st_size == len(DATA) + 10_000
    allocated = subprocess.run(["fallocate", "-l", "1000", up / "h"], capture_output=True, text=True)
    assert "not supported" in allocated.stderr
    punched = subprocess.run(["fallocate", "-p", "-l", "4096", path], capture_output=True, text=True)
    assert "unsupported" in punched.stderr


def test_locks(up: Path) -> None:
    path = up / "f"
    with path.open("wb") as one, path.open("wb") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fails(errno.EWOULDBLOCK, fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX)
        fcntl.lockf(one, fcntl.LOCK_EX)


def test_direct_write_moves_the_time(up: Path) -> None:
    path = up / "f"
    path.write_bytes(DATA)
    os.utime(path, (1, 1))
    with mmap.mmap(-1, 4096) as page:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        os.pwritev(fd, [page], 0)
        os.close(fd)
    assert path.stat().st_mtime > 1


def test_too_large(up: Path) -> None:
    with (up / "f").open("wb") as file:
        fails(errno.EFBIG, os.ftruncate, file.fileno(), (1 << 63) - 1)
        fails(errno.EFBIG, os.ftruncate, file.fileno(), 1 << 50)
        assert os.fstat(file.fileno()).st_size == 0


def test_fsync_reaches_below(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        with (mount.path / "f").open("wb", buffering=0) as file:
            file.write(DATA)
            os.fsync(file.fileno())
            (lower,) = mount.lower.iterdir()
            assert lower.stat().st_size == 8192 + -(-len(DATA) // 4096) * 4096
        directory = os.open(mount.path, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def test_a_cut_file_gives_an_error(tmp_path: Path) -> None:
    """Instead of garbage; and what is whole can be read, and the file can be replaced."""
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "f").write_bytes(DATA)
    (lower,) = (tmp_path / "lower").iterdir()
    os.truncate(lower, 8192 + 10 * 4096)
    with mounted(tmp_path / "lower", log_allows=["shorter", "cut", "ends"]) as mount:
        path = mount.path / "f"
        assert path.stat().st_size == len(DATA)
        fails(errno.EIO, path.read_bytes)
        with path.open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 100, 0) == DATA[:100]
        path.write_bytes(b"new")
        assert path.read_bytes() == b"new"


def test_empty_lower_file(tmp_path: Path) -> None:
    """Reads as empty and stays as it is until it is written."""
    with mounted(tmp_path / "lower", "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        (mount.path / "other").write_bytes(b"x")
        (mount.lower / "f").touch()
        path = mount.path / "f"
        before = lower_state(mount.lower)
        assert path.read_bytes() == b""
        with path.open("r+b") as file:
            assert file.read() == b""
        path.chmod(0o644)
        assert [e["size"] for e in lower_state(mount.lower)] == [e["size"] for e in before]
        path.write_bytes(b"contents")
        assert path.read_bytes() == b"contents"
        assert (mount.lower / "f").stat().st_size == 8192 + 4096
