"""Random calls on a mount and on a plain directory: each gives the same result, and the trees stay equal.

What the express lane does itself and what it hands over meet here in every order: files that are open in
several ways while they are renamed, linked, truncated and unlinked, directories that come and go.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import manifest
from tests.mount.support import mounted

STEPS = 1500
NAMES = [f"name-{n}" for n in range(7)] + ["ümlaut", "x" * 140]
FLAGS = (os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND)

Step = tuple[str, tuple[Any, ...]]


class Player:
    """Does steps below one root; descriptors are known by slots."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open: dict[int, int] = {}

    def do(self, step: Step) -> object:
        """The result of a call, or the errno that it failed with."""
        name, arguments = step
        call: Callable[..., object] = getattr(self, name)
        try:
            return call(*arguments)
        except OSError as error:
            return error.errno

    def close_all(self) -> None:
        for slot in list(self.open):
            self.close(slot)

    def _fd(self, slot: int) -> int:
        try:
            return self.open[slot]
        except KeyError:
            raise OSError(errno.EBADF, "nothing is open there") from None

    def create(self, slot: int, path: str, mode: int) -> None:
        self._keep(slot, os.open(self.root / path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))

    def reopen(self, slot: int, path: str, flags: int) -> None:
        self._keep(slot, os.open(self.root / path, flags))

    def _keep(self, slot: int, fd: int) -> None:
        with suppress(KeyError):
            os.close(self.open.pop(slot))
        self.open[slot] = fd

    def hold(self, slot: int, path: str) -> None:
        """Refer to an object, whatever becomes of its name."""
        self._keep(slot, os.open(self.root / path, os.O_PATH | os.O_NOFOLLOW))

    def reopen_held(self, slot: int, flags: int) -> None:
        os.close(os.open(f"/proc/self/fd/{self._fd(slot)}", flags))

    def chmod_held(self, slot: int, mode: int) -> None:
        os.chmod(f"/proc/self/fd/{self._fd(slot)}", mode)

    def open_directory(self, slot: int, path: str) -> None:
        self._keep(slot, os.open(self.root / path, os.O_RDONLY | os.O_DIRECTORY))

    def list_open(self, slot: int) -> list[str]:
        os.lseek(self._fd(slot), 0, os.SEEK_SET)
        return sorted(os.listdir(self._fd(slot)))

    def create_below(self, slot: int, name: str) -> None:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640, dir_fd=self._fd(slot)))

    def stat_below(self, slot: int, name: str) -> tuple[object, ...]:
        return self._shown(os.stat(name, dir_fd=self._fd(slot), follow_symlinks=False))

    def unlink_below(self, slot: int, name: str) -> None:
        os.unlink(name, dir_fd=self._fd(slot))

    def close(self, slot: int) -> None:
        with suppress(KeyError):
            os.close(self.open.pop(slot))

    def write(self, slot: int, offset: int, size: int, seed: int) -> int:
        return os.pwrite(self._fd(slot), random.Random(seed).randbytes(size), offset)

    def append(self, slot: int, size: int, seed: int) -> int:
        os.lseek(self._fd(slot), 0, os.SEEK_END)
        return os.write(self._fd(slot), random.Random(seed).randbytes(size))

    def read(self, slot: int, offset: int, size: int) -> bytes:
        return os.pread(self._fd(slot), size, offset)

    def read_whole(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def sync(self, slot: int) -> None:
        os.fsync(self._fd(slot))

    def cut(self, slot: int, size: int) -> None:
        os.ftruncate(self._fd(slot), size)

    def cut_path(self, path: str, size: int) -> None:
        os.truncate(self.root / path, size)

    def stat_open(self, slot: int) -> tuple[object, ...]:
        return self._shown(os.fstat(self._fd(slot)))

    def stat(self, path: str) -> tuple[object, ...]:
        return self._shown(os.lstat(self.root / path))

    @staticmethod
    def _shown(st: os.stat_result) -> tuple[object, ...]:
        size = None if stat.S_ISDIR(st.st_mode) else st.st_size
        links = None if stat.S_ISDIR(st.st_mode) else st.st_nlink
        return st.st_mode, st.st_uid, st.st_gid, size, links

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.root / path, mode)

    def chmod_open(self, slot: int, mode: int) -> None:
        os.fchmod(self._fd(slot), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self.root / path, uid, gid)

    def times(self, path: str, ns: int) -> int:
        os.utime(self.root / path, ns=(ns + 1, ns), follow_symlinks=False)
        return os.lstat(self.root / path).st_mtime_ns

    def times_open(self, slot: int, ns: int) -> int:
        os.utime(self._fd(slot), ns=(ns + 1, ns))
        return os.fstat(self._fd(slot)).st_mtime_ns

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.root / path, mode)

    def masked(self, path: str, mode: int, mask: int) -> None:
        """A new directory that inherits its group or passes it on, and a file in it."""
        before = os.umask(mask)
        try:
            self.mkdir(path, mode)
            (self.root / path / NAMES[0]).touch(mode)
        finally:
            os.umask(before)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.root / path)

    def unlink(self, path: str) -> None:
        os.unlink(self.root / path)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.root / old, self.root / new)

    def link(self, old: str, new: str) -> None:
        os.link(self.root / old, self.root / new)

    def symlink(self, path: str, target: str) -> None:
        os.symlink(target, self.root / path)

    def readlink(self, path: str) -> str:
        return os.readlink(self.root / path)

    def list(self, path: str) -> list[tuple[str, bool, bool]]:
        return sorted(
            (entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink())
            for entry in os.scandir(self.root / path)
        )

    def set_xattr(self, path: str, value: bytes) -> None:
        os.setxattr(self.root / path, "user.note", value, follow_symlinks=False)

    def get_xattr(self, path: str) -> bytes:
        return os.getxattr(self.root / path, "user.note", follow_symlinks=False)


def steps(chance: random.Random) -> list[Step]:
    """Any calls on few names, so that they meet."""
    directories = ["."] + [f"dir-{n}" for n in range(3)]

    def path() -> str:
        return f"{chance.choice(directories)}/{chance.choice(NAMES)}"

    def slot() -> int:
        return chance.randrange(5)

    def size() -> int:
        return chance.choice((0, 1, 100, 4095, 4096, 4097, 20_000, 130_000))

    def offset() -> int:
        return chance.choice((0, 1, 4096, 5000, 30_000, 200_000))

    def seed() -> int:
        return chance.randrange(1 << 30)

    kinds: list[tuple[int, Callable[[], Step]]] = [
        (9, lambda: ("create", (slot(), path(), chance.choice((0o644, 0o600, 0o444, 0o4755))))),
        (9, lambda: ("reopen", (slot(), path(), chance.choice(FLAGS)))),
        (4, lambda: ("close", (slot(),))),
        (9, lambda: ("write", (slot(), offset(), size(), seed()))),
        (4, lambda: ("append", (slot(), size(), seed()))),
        (8, lambda: ("read", (slot(), offset(), size()))),
        (5, lambda: ("read_whole", (path(),))),
        (2, lambda: ("sync", (slot(),))),
        (3, lambda: ("cut", (slot(), size()))),
        (3, lambda: ("cut_path", (path(), size()))),
        (4, lambda: ("stat_open", (slot(),))),
        (6, lambda: ("stat", (path(),))),
        (2, lambda: ("chmod", (path(), chance.choice((0o600, 0o755, 0o2755))))),
        (2, lambda: ("chmod_open", (slot(), chance.choice((0o600, 0o755, 0o6755))))),
        (2, lambda: ("chown", (path(), chance.choice((0, 1000)), -1))),
        (1, lambda: ("chown", (chance.choice(directories[1:]), -1, chance.choice((0, 1000))))),
        (3, lambda: ("hold", (slot(), chance.choice((path(), *directories))))),
        (2, lambda: ("reopen_held", (slot(), chance.choice(FLAGS)))),
        (1, lambda: ("chmod_held", (slot(), chance.choice((0o600, 0o755))))),
        (3, lambda: ("open_directory", (slot(), chance.choice((path(), *directories))))),
        (3, lambda: ("list_open", (slot(),))),
        (2, lambda: ("create_below", (slot(), chance.choice(NAMES)))),
        (2, lambda: ("stat_below", (slot(), chance.choice(NAMES)))),
        (2, lambda: ("unlink_below", (slot(), chance.choice(NAMES)))),
        (2, lambda: ("masked", (chance.choice((path(), *directories[1:])), 0o3777, 0o27))),
        (2, lambda: ("times", (path(), chance.choice((-1_500_000_000, 0, 10**18 + 7))))),
        (2, lambda: ("times_open", (slot(), chance.choice((5, 10**18 + 9))))),
        (3, lambda: ("mkdir", (chance.choice(directories[1:]) if chance.random() < 0.6 else path(), 0o755))),
        (2, lambda: ("rmdir", (chance.choice(directories[1:]) if chance.random() < 0.3 else path(),))),
        (6, lambda: ("unlink", (path(),))),
        (6, lambda: ("rename", (path(), path()))),
        (3, lambda: ("link", (path(), path()))),
        (2, lambda: ("symlink", (path(), path()))),
        (2, lambda: ("readlink", (path(),))),
        (4, lambda: ("list", (chance.choice(directories),))),
        (1, lambda: ("set_xattr", (path(), b"v" * chance.randrange(50)))),
        (2, lambda: ("get_xattr", (path(),))),
    ]
    weights = [weight for weight, _ in kinds]
    return [make() for _, make in chance.choices(kinds, weights, k=STEPS)]


@pytest.mark.parametrize("options", [(), ("-o", "ecryptfs_enable_filename_crypto=n"), ("-o", "allow_other")])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.full) for n in range(2, 20))])
def test_the_same_as_a_plain_directory(seed: int, options: tuple[str, ...], tmp_path: Path) -> None:
    chance = random.Random(f"{seed} {options}")
    plain = Player(tmp_path / "plain")
    plain.root.mkdir()
    for part in range(3):
        with mounted(tmp_path / "lower", *options) as mount:
            ours = Player(mount.path)
            for number, step in enumerate(steps(chance)):
                expected, seen = plain.do(step), ours.do(step)
                assert seen == expected, f"part {part}, step {number}: {step}"
            plain.close_all()
            ours.close_all()
            difference = manifest.diff(
                manifest.manifest(plain.root), manifest.manifest(mount.path), ignore=("mtime_ns",)
            )
            assert not difference
