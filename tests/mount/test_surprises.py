"""What happens behind the mount's back, and mounts in unusual places: nothing may be lost."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mount.support import mounted, run
from tests.mount.users import User
from tests.watch import unmount_below


def test_a_new_file_on_a_reused_inode_number_starts_empty(tmp_path: Path) -> None:
    plain = ("-o", "ecryptfs_enable_filename_crypto=n")
    with mounted(tmp_path / "lower", *plain) as mount:
        for _ in range(20):  # the lower file system decides which number it gives
            (mount.path / "a").write_bytes(bytes(100_000))
            os.unlink(tmp_path / "lower" / "a")
            with open(mount.path / "b", "ab") as file:
                file.write(b"hi\n")
            assert (mount.path / "b").stat().st_size == 3
            with open(mount.path / "b", "ab") as file:
                file.write(b"more\n")
            assert (mount.path / "b").read_bytes() == b"hi\nmore\n"
            os.unlink(mount.path / "b")


def _write_and_sync(fd: int, data: bytes) -> int:
    """The errno of the first failure, or 0."""
    try:
        os.write(fd, data)
        os.fsync(fd)
    except OSError as error:
        return error.errno or 0
    return 0


def test_a_header_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "empty").touch()
    with mounted(lower, "-o", "ecryptfs_enable_filename_crypto=n") as mount:
        (mount.path / "full").write_bytes(b"x" * 5000)
        held = os.open(mount.path / "empty", os.O_RDWR)
        try:
            (lower / "empty").write_bytes((lower / "full").read_bytes())
            code = _write_and_sync(held, b"0123456789")
            assert code in (errno.ESTALE, errno.EIO)
        finally:
            with suppress(OSError):  # the failed write may be told again
                os.close(held)
        assert (mount.path / "empty").read_bytes() == b"x" * 5000


def test_a_moved_mount_is_written_and_unmounted_by_a_signal(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    with mounted(tmp_path / "lower", path=above / "m") as mount:
        (mount.path / "file").write_bytes(b"kept" * 2000)
        above.rename(tmp_path / "elsewhere")
        mount.process.terminate()
        assert mount.process.wait(20) == 0
        assert not os.path.ismount(tmp_path / "elsewhere" / "m")
        (tmp_path / "elsewhere").rename(above)
    with mounted(tmp_path / "lower", path=above / "m") as mount:
        assert (mount.path / "file").read_bytes() == b"kept" * 2000


@pytest.mark.parametrize("name", ["wide\u3000space", "hash#and back\\slash", "tab\tand\x0bmore"])
def test_unusual_mount_points_are_unmounted(tmp_path: Path, name: str) -> None:
    with mounted(tmp_path / "lower", path=tmp_path / name) as mount:
        (mount.path / "file").touch()


def test_set_id_bits_go_with_every_foreign_write(open_tmp_path: Path) -> None:
    with mounted(open_tmp_path / "lower", "-o", "allow_other,suid") as mount:
        file = mount.path / "program"
        file.touch()
        file.chmod(0o777)
        held = "f = open('program', 'ab', buffering=0); f.write(b'a'); input(); f.write(b'b')"
        command = ["/usr/bin/python3", "-c", f"print('ready', flush=True); {held}"]
        somebody = User(65534, 65534)
        with subprocess.Popen(
            command,
            cwd=mount.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **somebody.ids,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            while file.stat().st_size < 1:
                pass
            file.chmod(0o4777)
            process.communicate(b"\n", timeout=20)
        assert file.read_bytes() == b"ab"
        assert stat.S_IMODE(file.stat().st_mode) == 0o777


def test_auto_unmount_leaves_the_callers_streams_alone(tmp_path: Path) -> None:
    for name in ("lower", "up"):
        (tmp_path / name).mkdir()
    (tmp_path / "pass").write_bytes(b"secret\n")
    # run() reads both streams to their end, which is when the last process that has them lets go.
    words = ("-o", "auto_unmount,relatime", "--passfile", tmp_path / "pass")
    run("mount", *words, tmp_path / "lower", tmp_path / "up")
    assert os.path.ismount(tmp_path / "up")
    run("umount", tmp_path / "up")
    unmount_below(tmp_path)
