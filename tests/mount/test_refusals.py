"""What an ordinary user is told where the system does not let fusecrypt mount, each time with a way out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import golden
from tests.mount.support import PATIENCE
from tests.mount.users import User, program_for_others

ME = User(65534, 65534)
_HERE = 'umount -a -l -t fuse.fusecrypt; chmod 666 /dev/fuse; cd "$1"; program=$2; '
_AS_ME = f"setpriv --reuid={ME.uid} --regid={ME.gid} --clear-groups"
MOUNT = f'exec {_AS_ME} env $more "$program" mount --passfile pass $options lower up'
UMOUNT = f'{_AS_ME} "$program" mount --passfile pass lower up; {{before}}; exec {_AS_ME} "$program" umount up'
_NO_MTAB = (
    "mount -t tmpfs none roots && mkdir roots/upper roots/work && "
    "mount -t overlay -o lowerdir=/etc,upperdir=roots/upper,workdir=roots/work none /etc && rm /etc/mtab"
)


@pytest.fixture(scope="module")
def place(open_directory: Path) -> Iterator[tuple[Path, Path]]:
    """A directory with a tree and a mount point of an ordinary user's, and one of root's; and the program."""
    golden.tree("aes32").unpack(open_directory / "lower")
    for name in ("up", "roots"):
        (open_directory / name).mkdir()
    subprocess.run(["chown", "-hR", f"{ME.uid}:{ME.gid}", "lower", "up"], check=True, cwd=open_directory)
    (open_directory / "pass").write_text("cipher aes\n")
    yield open_directory, program_for_others(open_directory)
    subprocess.run(["umount", "-l", open_directory / "checkout"], check=True)


@pytest.mark.parametrize(
    ("before", "status", "message", "hint"),
    [
        ("mount -t tmpfs none /dev", 5, "/dev/fuse is absent", "`modprobe fuse`"),
        (
            "mknod -m 600 roots/fuse c 10 229 && mount --bind roots/fuse /dev/fuse",
            5,
            "open /dev/fuse: Permission denied",
            "`fusecrypt doctor` says how",
        ),
        ("more=PATH=/nowhere", 5, "fusermount3 is not installed", "install the package fuse3"),
        (
            "cp /usr/bin/fusermount3 roots && more=PATH=$PWD/roots",
            1,
            "Operation not permitted",
            "has to be set-user-id",
        ),
        (
            "mount --bind /dev/null /etc/fuse.conf && options='-o allow_other'",
            1,
            "option allow_other only allowed",
            "leave allow_other out",
        ),
        ("mount --bind roots up", 1, "no write access", "choose a mount point that is yours"),
    ],
)
def test_mount(place: tuple[Path, Path], before: str, status: int, message: str, hint: str) -> None:
    """The reason is said once, by whoever it came from, with its own status."""
    said = _attempt(place, f"{before}; {MOUNT}", status)
    assert message in said[0]
    assert hint in said[1]
    assert len(said) == 2


def test_umount_without_a_mount_table(place: tuple[Path, Path]) -> None:
    said = _attempt(place, UMOUNT.format(before=_NO_MTAB), 1)
    assert "open /etc/mtab" in said[0]
    assert "`ln -s ../proc/self/mounts /etc/mtab`" in said[1]


def _attempt(place: tuple[Path, Path], script: str, status: int) -> list[str]:
    """The lines that a script ends with, in a mount namespace that ends with it."""
    shell = ["unshare", "-m", "-p", "--fork", "--kill-child", "--propagation", "private"]
    command = [*shell, "sh", "-c", _HERE + script, "sh", *map(str, place)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    for path in (place[0] / "roots").iterdir():
        path.unlink()
    assert done.returncode == status, done.stderr
    return done.stderr.splitlines()
