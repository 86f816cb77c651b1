"""A log from which changes of a lower tree can be undone, kept outside the tree.

JSON lines: a head that says what it is for, then a record of each change, on the disk before the change is
made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from fusecrypt.errors import TreeError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import sync_directory
from fusecrypt.keys.strictjson import Fields, canonical, load


class _Record(Protocol):
    def members(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=_Record)


class UndoLog(Generic[R]):
    """A log that is open. ``records`` are those that were in it."""

    def __init__(
        self, fd: int, path: Path, head: dict[str, Any], parse: Callable[[Fields], R], foreign: TreeError
    ) -> None:
        """Take over the descriptor of a new file, or of a log to go on with; ``path`` is its path.

        Raises OSError, ``foreign`` for a file with another head, TreeError for one that is damaged or that
        others could have written: it says what to do to a tree.
        """
        self._fd = fd
        try:
            _refuse_foreign(fd, path)
            line = canonical(head) + b"\n"
            data = os.pread(fd, os.fstat(fd).st_size, 0)
            first, *lines = data.splitlines(keepends=True) or [b""]
            if first != line and (first.endswith(b"\n") or lines or not line.startswith(first)):
                raise foreign
            self._head = len(line)
            # A record without its end was not flushed, so the change it is for was not made.
            whole = [each for each in lines if each.endswith(b"\n")]
            self.records = [parse(Fields(load(each), "a record")) for each in whole]
            if whole != lines:
                os.ftruncate(fd, data.rindex(b"\n") + 1)
            if first != line:
                os.ftruncate(fd, 0)
                self._append(line)
                sync_directory(path.absolute().parent)
        except KeyFileError as error:
            os.close(fd)
            raise TreeError(f"{path} is damaged: {error}") from error
        except BaseException:
            os.close(fd)
            raise

    def add(self, *records: R) -> None:
        """Put records on the disk. Raises OSError."""
        self._append(b"".join(canonical(record.members()) + b"\n" for record in records))

    def clear(self) -> None:
        """Forget all records: what they are for is on the disk. Raises OSError."""
        os.ftruncate(self._fd, self._head)
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, data: bytes) -> None:
        end = at = os.fstat(self._fd).st_size
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, at)
                at, view = at + written, view[written:]
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, end)  # the next record begins a line
            raise


def _refuse_foreign(fd: int, path: Path) -> None:
    st = os.fstat(fd)
    if st.st_uid != os.geteuid() or st.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise TreeError(
            f"{path} may have been written by others",
            "go on as the user who began, or see what it says and change its owner and mode",
        )
