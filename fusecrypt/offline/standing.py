"""What stands already where an object is to be copied to."""

from __future__ import annotations

import stat
from enum import Enum

from fusecrypt.offline.items import Item
from fusecrypt.offline.target import Target
from fusecrypt.offline.walk import Source

_SECOND = 1_000_000_000


class Standing(Enum):
    """``DONE``: a copy of it, from an earlier run."""

    FREE = "nothing"
    DONE = "the same"
    OTHER = "something else"


def standing(source: Source, target: Target, item: Item) -> Standing:
    """Compare kind, and size and modification time, or symlink target, or device number. Raises OSError,
    and FusecryptError for a target that does not decode."""
    seen = target.find(item.path)
    if seen is None:
        return Standing.FREE
    if stat.S_IFMT(seen.stat.mode) != item.kind:
        return Standing.OTHER
    if item.kind == stat.S_IFREG:
        same = seen.size == item.size and same_time(item.stat.mtime_ns, seen.stat.mtime_ns)
    elif item.kind == stat.S_IFLNK:
        same = source.readlink(item) == target.readlink(item.path)
    else:
        same = not item.is_device or seen.stat.rdev == item.stat.rdev
    return Standing.DONE if same else Standing.OTHER


def same_time(original: int, kept: int) -> bool:
    """Whether a time (ns) is what a file system may have made of another one: some keep whole seconds, FAT
    even ones."""
    return kept in (original, original // _SECOND * _SECOND, original // (2 * _SECOND) * (2 * _SECOND))
