"""The undo log of a rekeying: headers as they were, on the disk before they are changed there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusecrypt.errors import TreeError
from fusecrypt.keys.strictjson import Fields
from fusecrypt.offline.undolog import UndoLog

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
    def parse(cls, fields: Fields) -> Record:
        """Raises KeyFileError."""
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


class Journal(UndoLog[Record]):
    """A journal that is open. ``records`` are those that an interrupted run left."""

    def __init__(self, path: Path, tree: int, new_key: str) -> None:
        """Make the file, or go on with the one that is there. ``tree`` is the root's inode number.

        Raises OSError; TreeError for the journal of another tree or of another new key, or a damaged one.
        """
        self._path = path
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        foreign = TreeError(
            f"{path} belongs to the rekeying of another tree, or to another passphrase, or is no journal",
            "end that one first, with the same new passphrase, or name another journal",
        )
        head = {"format": FORMAT, "version": VERSION, "tree": tree, "new": new_key}
        super().__init__(fd, path, head, Record.parse, foreign)

    def remove(self) -> None:
        """The end of a run that left nothing to do."""
        self._path.unlink()
