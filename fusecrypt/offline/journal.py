"""The undo journal of a rekeying: headers as they were, on the disk before they are changed there.

JSON lines: a head that names the tree and the new key, then a record for each header that is being written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusecrypt.errors import TreeError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import sync_directory
from fusecrypt.keys.strictjson import Fields, canonical, load
from fusecrypt.offline.lower import refuse_foreign

FORMAT = "fusecrypt-rekey"
VERSION = 1
_MAX = 2**63 - 1


@dataclass(frozen=True)
class Record:
    """A lower file, by path from the root and inode, its mode, times (ns) and size, and the header octets
    that will change."""

    path: bytes
    ino: int
    mode: int
    times: tuple[int, int]
    size: int
    in_xattr: bool
    before: bytes

    def members(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": os.fsdecode(self.path),
            "ino": self.ino,
            "mode": self.mode,
            "atime": self.times[0],
            "mtime": self.times[1],
            "size": self.size,
            "xattr": int(self.in_xattr),
            "before": self.before.hex(),
        }

    @classmethod
    def parse(cls, line: bytes) -> Record:
        """Raises KeyFileError."""
        fields = Fields(load(line), "a record")
        fields.only("path", "ino", "mode", "atime", "mtime", "size", "xattr", "before")
        return cls(
            fields.octets("path"),
            fields.integer("ino", 0, _MAX),
            fields.integer("mode", 0, 0o7777),
            (fields.integer("atime", -_MAX, _MAX), fields.integer("mtime", -_MAX, _MAX)),
            fields.integer("size", 0, _MAX),
            bool(fields.integer("xattr", 0, 1)),
            fields.hexadecimal("before", 16, 4096),
        )


class Journal:
    """A journal that is open. ``records`` are those that an interrupted run left."""

    def __init__(self, path: Path, tree: int, new_key: str) -> None:
        """Make the file, or go on with the one that is there. ``tree`` is the root's inode number.

        Raises OSError; TreeError for the journal of another tree or of another new key.
        """
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            refuse_foreign(self._fd, path)
            head = canonical({"format": FORMAT, "version": VERSION, "tree": tree, "new": new_key}) + b"\n"
            first, *lines = os.pread(self._fd, os.fstat(self._fd).st_size, 0).splitlines(keepends=True) or [
                b""
            ]
            if first != head and (first.endswith(b"\n") or lines or not head.startswith(first)):
                raise TreeError(
                    f"{path} belongs to the rekeying of another tree, or to another passphrase",
                    "end that one first, with the same new passphrase, or name another journal",
                )
            self._head = len(head)
            # A record without its end was not flushed, so the header it is for was not touched.
            self.records = [Record.parse(line) for line in lines if line.endswith(b"\n")]
            if not first.endswith(b"\n"):
                os.ftruncate(self._fd, 0)
                self._append(head)
                sync_directory(path.absolute().parent)
        except KeyFileError as error:
            os.close(self._fd)
            raise TreeError(f"{path} is no journal, or is damaged: {error}") from error
        except BaseException:
            os.close(self._fd)
            raise

    def keep(self, records: Iterable[Record]) -> None:
        """Put records on the disk. Raises OSError."""
        self._append(b"".join(canonical(record.members()) + b"\n" for record in records))

    def clear(self) -> None:
        """Forget all records: what they are for is on the disk. Raises OSError."""
        os.ftruncate(self._fd, self._head)
        os.fsync(self._fd)

    def remove(self) -> None:
        """The end of a run that left nothing to do."""
        self.path.unlink()

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, data: bytes) -> None:
        at = os.fstat(self._fd).st_size
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, at)
            at, view = at + written, view[written:]
        os.fsync(self._fd)
