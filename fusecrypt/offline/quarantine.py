"""Where repairs keep what they took away, and the log from which they are undone, outside the tree.

``undo.log`` holds JSON lines: a head that names the tree, then each change, flushed before it is made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.errors import TreeError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import sync_directory
from fusecrypt.keys.strictjson import Fields, canonical, load
from fusecrypt.offline.lower import is_name, refuse_foreign

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

    def encode(self) -> bytes:
        """A line of the log."""
        members = {
            "kind": self.kind,
            "path": os.fsdecode(self.path),
            "ino": self.ino,
            "xattr": int(self.xattr),
        }
        return canonical({**members, "before": self.before.hex(), "after": self.after.hex()}) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Action:
        """Raises KeyFileError."""
        fields = Fields(load(line), "a change").only("kind", "path", "ino", "before", "after", "xattr")
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
    """The one of the tree whose root has the inode number ``tree``. ``actions`` are those logged so far."""

    def __init__(self, path: Path, tree: int, *, new: bool) -> None:
        """Make one (``new``; the directory may be there, a log not), or open one.

        Raises OSError, TreeError for one of another tree or a damaged log.
        """
        self.path = path
        if new:
            path.mkdir(mode=0o700, exist_ok=True)
        self.dir_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(LOG, flags | (os.O_CREAT | os.O_EXCL if new else 0), 0o600, dir_fd=self.dir_fd)
        except OSError as error:
            os.close(self.dir_fd)
            error.filename = str(path / LOG)
            raise
        self.actions: list[Action] = []
        head = canonical({"format": FORMAT, "version": VERSION, "tree": tree}) + b"\n"
        try:
            refuse_foreign(self._fd, path / LOG)
            if new:
                self._append(head)
                sync_directory(path.absolute())
            else:
                self._read(head)
        except BaseException:
            self.close()
            raise

    def log(self, action: Action) -> None:
        """Put a change on the disk, before it is made. Raises OSError."""
        self._append(action.encode())
        self.actions.append(action)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self.dir_fd)

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fsync(self._fd)

    def _read(self, head: bytes) -> None:
        first, *lines = os.pread(self._fd, os.fstat(self._fd).st_size, 0).splitlines(keepends=True) or [b""]
        if first != head:
            raise TreeError(f"{self.path} is no quarantine of this tree", "name the one that --repair made")
        try:
            # A change without its end was not flushed, so it was not made.
            self.actions = [Action.parse(line) for line in lines if line.endswith(b"\n")]
        except KeyFileError as error:
            raise TreeError(f"{self.path / LOG} is damaged: {error}") from error
