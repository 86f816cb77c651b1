"""A writer of initramfs archives (cpio, format newc)."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

DIRECTORY = stat.S_IFDIR | 0o755
SYMLINK = stat.S_IFLNK | 0o777
EXECUTABLE = stat.S_IFREG | 0o755
PLAIN = stat.S_IFREG | 0o644


class Cpio:
    """Add entries, then close(). Missing parent directories are made; the first of a name wins."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._names: set[str] = set()

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """`data` is a file's contents or a symbolic link's target. Owned by root, time 0."""
        if name in self._names:
            return
        parent = os.path.dirname(name)
        if parent:
            self.add(parent, DIRECTORY)
        self._names.add(name)
        self._write(name, mode, data, device, len(self._names))

    def close(self) -> None:
        self._write("TRAILER!!!", 0, b"", (0, 0), 0)

    def _write(self, name: str, mode: int, data: bytes, device: tuple[int, int], inode: int) -> None:
        encoded = os.fsencode(name) + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
        self._target.write(header + bytes(-len(header) % 4))
        self._target.write(data + bytes(-len(data) % 4))
