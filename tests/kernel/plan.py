"""Plans: lists of file operations, and what carries them out on any directory, mounted or not.

Only the standard library is used, since the guest runs this too. An operation is a list of a method's name
and its arguments, for instance ["write", "a/file", 4090, 12, 7]: it goes through JSON unharmed. Paths are
relative, and strings with surrogate escapes. Octets to write are given by a length and a seed. The outcome
of an operation is a string: "ok", the name of an errno, or a digest of what was read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Operation = list[Any]


def octets(length: int, seed: int) -> bytes:
    """The data that a write with that length and seed writes."""
    return hashlib.shake_128(b"%d" % seed).digest(length)


def digest(data: bytes) -> str:
    """The outcome of an operation that reads."""
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:16]}"


def execute(actor: object, operations: Iterable[Operation]) -> list[str]:
    """Let `actor` (a Directory, or anything with such methods) carry out a plan; one outcome for each."""
    return [perform(actor, operation) for operation in operations]


def perform(actor: object, operation: Operation) -> str:
    name, *arguments = operation
    try:
        outcome: str | None = getattr(actor, name)(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return outcome or "ok"


def run(directory: str, plan: str, outcomes: str) -> None:
    """Execute the plan in one JSON file on a directory and write the outcomes to another."""
    with open(plan) as source:
        operations = json.load(source)
    with open(outcomes, "w") as target:
        json.dump(execute(Directory(directory), operations), target)


class Directory:
    """Carries out operations below a directory. Modes are meant as they are given: set the umask to 0."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.fsencode(root)

    def create(self, path: str, mode: int) -> None:
        with self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode):
            pass

    def write(self, path: str, offset: int, length: int, seed: int) -> None:
        """Into an existing file; a gap is left where `offset` lies behind its end."""
        with self._opened(path, os.O_WRONLY) as fd:
            _whole(os.pwrite(fd, octets(length, seed), offset), length)

    def append(self, path: str, length: int, seed: int) -> None:
        with self._opened(path, os.O_WRONLY | os.O_APPEND) as fd:
            _whole(os.write(fd, octets(length, seed)), length)

    def rewrite(self, path: str, length: int, seed: int) -> None:
        """Cut to nothing on opening, then write."""
        with self._opened(path, os.O_WRONLY | os.O_TRUNC) as fd:
            _whole(os.write(fd, octets(length, seed)), length)

    def truncate(self, path: str, size: int) -> None:
        with self._opened(path, os.O_WRONLY) as fd:
            os.ftruncate(fd, size)

    def read(self, path: str, offset: int, length: int) -> str:
        with self._opened(path, os.O_RDONLY) as fd:
            return digest(os.pread(fd, length, offset))

    def map(self, path: str, offset: int, length: int, seed: int) -> str:
        """Write through a shared mapping, as much as the file's size allows; what the file is then."""
        with self._opened(path, os.O_RDWR) as fd:
            size = os.fstat(fd).st_size
            if size == 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            with mmap.mmap(fd, size) as mapped:
                end = max(offset, min(size, offset + length))
                mapped[offset:end] = octets(end - offset, seed)[: max(0, size - offset)]
            return digest(os.pread(fd, size + 1, 0))

    def orphan(self, path: str, length: int, seed: int) -> str:
        """Remove an open file, write to its end and read it once more."""
        with self._opened(path, os.O_RDWR | os.O_APPEND) as fd:
            os.unlink(self._at(path))
            _whole(os.write(fd, octets(length, seed)), length)
            return digest(os.pread(fd, os.fstat(fd).st_size + 1, 0))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def link(self, path: str, new: str) -> None:
        os.link(self._at(path), self._at(new), follow_symlinks=False)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(os.fsencode(target), self._at(path))

    def readlink(self, path: str) -> str:
        return digest(os.readlink(self._at(path)))

    def mknod(self, path: str, mode: int, major: int, minor: int) -> None:
        os.mknod(self._at(path), mode, os.makedev(major, minor))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid, follow_symlinks=False)

    def times(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: str) -> None:
        """`value` is hex."""
        os.setxattr(self._at(path), name, bytes.fromhex(value), follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name, follow_symlinks=False)

    def _at(self, path: str) -> bytes:
        return os.path.join(self._root, os.fsencode(path))

    @contextmanager
    def _opened(self, path: str, flags: int, mode: int = 0o600) -> Iterator[int]:
        fd = os.open(self._at(path), flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
        try:
            yield fd
        finally:
            os.close(fd)


def _whole(written: int, length: int) -> None:
    if written != length:
        raise OSError(f"only {written} of {length} octets were written")
