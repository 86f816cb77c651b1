"""Random work on one directory, with an oracle that knows what may be found if it ends at any moment."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.reliability.oracle import CELL, Oracle, cells

_NAMES = tuple(f"file {n}" for n in range(6))
_DRAFT = "draft"
_LARGEST = 12_000
"""Cells of the largest file: two dozen extents."""


class Worker:
    """One user of one directory. ``certain`` says that a change of names that has returned is done for good;
    otherwise it is once the directory was fsynced.

    ``tell`` is called with what is told to the oracle, in that order.
    """

    def __init__(
        self,
        path: Path,
        seed: str,
        *,
        certain: bool = True,
        oracle: Oracle | None = None,
        tell: Callable[[str, tuple[object, ...]], None] = lambda name, arguments: None,
    ) -> None:
        self._path = path
        self._random = random.Random(seed)
        self._certain = certain
        self._tell_others = tell
        self.oracle = oracle or Oracle()
        self.version = 0
        self.done = 0

    def run(self, steps: int) -> OSError | None:
        """Take so many steps, or as many as can be: the error that ended it."""
        try:
            for _ in range(steps):
                self._step()
                self.done += 1
        except OSError as error:
            return error
        return None

    def found(self) -> dict[str, bytes]:
        """The directory's files. Raises OSError if one cannot be read."""
        names = [entry.name for entry in os.scandir(self._path) if entry.is_file(follow_symlinks=False)]
        return {name: (self._path / name).read_bytes() for name in names}

    def _tell(self, name: str, *arguments: object) -> None:
        self._tell_others(name, arguments)
        getattr(self.oracle, name)(*arguments)

    def _named(self) -> None:
        """A change of names has returned."""
        if self._certain:
            self._tell("settled")
        elif self._random.random() < 0.5:
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            self._tell("settled")

    def _step(self) -> None:
        if not self._files():
            self._create()
            return
        step = self._random.choices(
            (
                self._write,
                self._append,
                self._truncate,
                self._replace,
                self._create,
                self._remove,
                self._other,
            ),
            (6, 6, 3, 3, 2, 1, 2),
        )[0]
        step()

    def _some_file(self) -> str:
        return self._random.choice(self._files())

    def _files(self) -> list[str]:
        return [name for name in self.oracle.names() if name != _DRAFT]

    def _put(self, name: str, start: int, count: int, flags: int = 0) -> None:
        """Write and close, in several calls, perhaps with fsync."""
        self.version += 1
        fd = os.open(self._path / name, os.O_WRONLY | flags, 0o644)
        try:
            self._tell("write", name, start, count, self.version)
            data = cells(self.oracle.file(name).number, self.version, start, count)
            offset, end = start * CELL, (start + count) * CELL
            while offset < end:
                n = self._random.choice((CELL * 30, 4096, 30_000))
                offset += os.pwrite(fd, data[offset - start * CELL :][:n], offset)
            if self._random.random() < 0.5 or flags & os.O_CREAT:
                os.fsync(fd)
                self._tell("stored", name)
        except OSError:
            with suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)

    def _count(self) -> int:
        return self._random.choice((1, 20, 511, 512, 513, 1024, self._random.randrange(1, 4000)))

    def _write(self) -> None:
        name = self._some_file()
        self._put(name, self._random.randrange(self.oracle.file(name).size + 600), self._count())

    def _append(self) -> None:
        name = self._some_file()
        size = self.oracle.file(name).size
        if size > _LARGEST:
            self._cut(name, 0)
        else:
            self._put(name, size, self._count())

    def _truncate(self) -> None:
        name = self._some_file()
        self._cut(name, self._random.randrange(self.oracle.file(name).size + 600))

    def _cut(self, name: str, size: int) -> None:
        self._tell("truncate", name, size)
        os.truncate(self._path / name, size * CELL)

    def _create(self) -> None:
        name = self._random.choice(_NAMES)
        if name in self.oracle.names():
            return
        self._tell("create", name)
        os.close(os.open(self._path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        self._named()
        self._put(name, 0, self._count())

    def _replace(self) -> None:
        """As editors do: whatever happens, the name has the old contents or the new ones."""
        name = self._some_file()
        if _DRAFT in self.oracle.names():  # a kill came in between
            self._tell("remove", _DRAFT)
            os.unlink(self._path / _DRAFT)
            self._named()
        self._tell("create", _DRAFT)
        self._put(_DRAFT, 0, self._count(), os.O_CREAT | os.O_EXCL)
        self._tell("rename", _DRAFT, name)
        os.rename(self._path / _DRAFT, self._path / name)
        self._named()

    def _remove(self) -> None:
        name = self._some_file()
        self._tell("remove", name)
        os.unlink(self._path / name)
        self._named()

    def _other(self) -> None:
        """What holds no octets: it only has to be readable afterwards."""
        made = self._path / f"other {self._random.randrange(4)}"
        if made.is_symlink():
            made.unlink()
        elif made.is_dir():
            made.rmdir()
        elif self._random.random() < 0.5:
            made.mkdir()
        else:
            made.symlink_to("file 1")
