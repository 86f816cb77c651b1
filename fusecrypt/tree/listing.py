"""The entries of an open directory, by their upper names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from fusecrypt.native import stat_many
from fusecrypt.tree.sizes import is_there

if TYPE_CHECKING:
    from fusecrypt.tree.tree import Seen, Tree


class Entry(NamedTuple):
    """A directory entry: upper and lower name, and its attributes."""

    name: bytes
    lower: bytes
    seen: Seen


class Listing:
    """A snapshot of the names in a directory, taken when it is first looked at; attributes are read when
    asked for."""

    def __init__(self, tree: Tree, fd: int) -> None:
        """Take over ``fd``, a readable descriptor of the directory."""
        self._tree = tree
        self.fd = fd
        self._read: list[tuple[bytes, bytes]] | None = None

    @property
    def _names(self) -> list[tuple[bytes, bytes]]:
        if self._read is None:
            decode = self._tree.codec.decode
            lowers = map(os.fsencode, os.listdir(self.fd))
            self._read = [(name, lower) for lower in lowers if (name := decode(lower)) is not None]
        return self._read

    def rewind(self) -> None:
        """Take another snapshot when it is next looked at."""
        self._read = None

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> list[bytes]:
        """All upper names, in the order of the lower directory."""
        return [name for name, _ in self._names]

    def entries(self, start: int, count: int) -> list[tuple[int, Entry]]:
        """Up to ``count`` entries from position ``start``, each with the position after it.

        What has been removed meanwhile is left out. Raises OSError.
        """
        part = self._names[start : start + count]
        stats = stat_many(self.fd, [lower for _, lower in part], True)
        see = self._tree.see
        return [
            (position, Entry(name, lower, see(st, self.fd, lower)))
            for position, ((name, lower), st) in enumerate(zip(part, stats, strict=True), start + 1)
            if is_there(st)
        ]

    def close(self) -> None:
        os.close(self.fd)
