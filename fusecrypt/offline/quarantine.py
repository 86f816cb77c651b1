"""Where repairs keep what they took away, and the log from which they are undone, outside the tree."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusecrypt.errors import TreeError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.strictjson import Fields
from fusecrypt.offline.lower import is_name
from fusecrypt.offline.undolog import UndoLog

FORMAT = "fusecrypt-quarantine"
VERSION = 1
LOG = "undo.log"
_MAX = 2**63 - 1

HEADER, RENAME, MOVE = "header", "rename", "move"


@dataclass(frozen=True)
class Action:
    """One change. ``path`` is the lower object before it, ``ino`` its inode. ``before`` and ``after`` are the
    octets of a header (in an attribute if ``xattr``), or names: of what was moved, its name here."""

    kind: str
    path: bytes
    ino: int
    before: bytes
    after: bytes
    xattr: bool = False

    def members(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "path": os.fsdecode(self.path),
            "ino": self.ino,
            "xattr": int(self.xattr),
            "before": self.before.hex(),
            "after": self.after.hex(),
        }

    @classmethod
    def parse(cls, fields: Fields) -> Action:
        """Raises KeyFileError."""
        fields.only("kind", "path", "ino", "before", "after", "xattr")
        action = cls(
            fields.text("kind", f"{HEADER}|{RENAME}|{MOVE}"),
            fields.octets("path"),
            fields.integer("ino", 0, _MAX),
            fields.hexadecimal("before", 0, 8192),
            fields.hexadecimal("after", 0, 8192),
            bool(fields.integer("xattr", 0, 1)),
        )
        if action.kind != HEADER and not (is_name(action.before) and is_name(action.after)):
            raise KeyFileError("a change names what cannot be a name")
        return action


class Quarantine:
    """The one of the tree whose root has the inode number ``tree``. ``actions`` are those logged so far; the
    last one of a run that was killed, and those that failed, may not have been made."""

    def __init__(self, path: Path, tree: int, *, new: bool) -> None:
        """Make one (``new``; the directory may be there, a log not), or open one.

        Raises OSError, TreeError for one of another tree or a damaged log.
        """
        self.path = path
        if new:
            path.mkdir(mode=0o700, exist_ok=True)
        self.dir_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if new else 0)
        foreign = TreeError(f"{path} is no quarantine of this tree", "name the one that --repair made")
        head = {"format": FORMAT, "version": VERSION, "tree": tree}
        try:
            fd = os.open(LOG, flags, 0o600, dir_fd=self.dir_fd)
            self._log = UndoLog(fd, path / LOG, head, Action.parse, foreign)
        except BaseException as error:
            os.close(self.dir_fd)
            if isinstance(error, OSError):
                error.filename = str(path / LOG)
            raise
        self.actions = self._log.records

    def log(self, action: Action) -> None:
        """Put a change on the disk, before it is made. Raises OSError."""
        self._log.add(action)
        self.actions.append(action)

    def remove(self) -> None:
        """The end of a run that changed nothing."""
        os.unlink(LOG, dir_fd=self.dir_fd)
        with suppress(OSError):  # somebody's directory, with more in it
            self.path.rmdir()

    def close(self) -> None:
        self._log.close()
        os.close(self.dir_fd)
