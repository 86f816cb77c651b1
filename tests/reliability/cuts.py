"""What a power cut may leave of a lower file system, from the log of its changes.

The model is what POSIX and today's file systems allow, as hostile as they get:

* What an fsync of a file returned for is there: its contents, length and attributes. Its name is there once
  its directory was fsynced.
* Names change in the order they were changed, each change whole or not at all: a prefix is there.
* Of each file, length and attributes change in order: a prefix is there, another one for each file.
* Each page of 4096 octets has the contents of some moment since the last fsync, whatever the others have:
  pages are old or new, in any mixture. Only a length never covers a page that was not written.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.reliability.lowerfs import Change

PAGE = 4096
ROOT = 1
_NAMES = ("make", "unlink", "rename")


def cut(log: Sequence[Change], chance: random.Random, place: Path) -> None:
    """Make in ``place``, an empty directory, what a cut after these changes may leave."""
    last = max((at for at, change in enumerate(log) if change[0] == "syncdir"), default=-1)
    names = _tree(log[: chance.randint(last + 1, len(log))])
    changes: dict[int, list[Change]] = {}
    for change in log:
        if change[0] not in (*_NAMES, "syncdir"):
            changes.setdefault(change[1], []).append(change)
    _build(ROOT, place, names, changes, chance)


Tree = dict[int, dict[bytes, tuple[int, int, bytes]]]
"""By directory and name: inode, mode and target."""


def _tree(log: Iterable[Change]) -> Tree:
    tree: Tree = {ROOT: {}}
    for change in log:
        if change[0] == "make":
            _, parent, name, inode, mode, target = change
            tree[parent][name] = (inode, mode, target)
            if stat.S_ISDIR(mode):
                tree[inode] = {}
        elif change[0] == "unlink":
            del tree[change[1]][change[2]]
        elif change[0] == "rename":
            _, old_parent, old, new_parent, new = change
            tree[new_parent][new] = tree[old_parent].pop(old)
    return tree


def _build(
    directory: int, place: Path, tree: Tree, changes: dict[int, list[Change]], chance: random.Random
) -> None:
    for name, (inode, mode, target) in sorted(tree[directory].items()):
        path = place / os.fsdecode(name)
        if stat.S_ISDIR(mode):
            path.mkdir()
            _build(inode, path, tree, changes, chance)
        elif stat.S_ISLNK(mode):
            path.symlink_to(os.fsdecode(target))
        else:
            content, xattrs = _file(changes.get(inode, []), chance)
            path.write_bytes(content)
            for key, value in xattrs.items():
                os.setxattr(path, key, value)


def _file(changes: Sequence[Change], chance: random.Random) -> tuple[bytes, dict[bytes, bytes]]:
    """One file's contents and attributes after a cut."""
    stored = max((at for at, change in enumerate(changes) if change[0] == "sync"), default=-1) + 1
    ordered = chance.randint(stored, len(changes))
    length, xattrs = _metadata(changes[:ordered])
    born = _births(changes[:ordered])
    pages = bytearray()
    for page in range(-(-length // PAGE)):
        earliest, latest = max(stored, born.get(page, 0)), _death(changes, ordered, page)
        pages += _page(changes[: chance.randint(earliest, latest)], page)
    return bytes(pages[:length]), xattrs


def _metadata(changes: Iterable[Change]) -> tuple[int, dict[bytes, bytes]]:
    length, xattrs = 0, {}
    for change in changes:
        if change[0] == "write":
            length = max(length, change[2] + len(change[3]))
        elif change[0] == "truncate":
            length = change[2]
        elif change[0] == "xattr":
            xattrs[change[2]] = change[3]
    return length, xattrs


def _births(changes: Iterable[Change]) -> dict[int, int]:
    """By page: how many changes had to happen for the length to cover it, as it does at the end of these."""
    born: dict[int, int] = {}
    length = 0
    for count, change in enumerate(changes, 1):
        before = length
        if change[0] == "write":
            length = max(length, change[2] + len(change[3]))
        elif change[0] == "truncate":
            length = change[2]
        for page in range(before // PAGE, -(-length // PAGE)):
            born[page] = count
    return born


def _death(changes: Sequence[Change], ordered: int, page: int) -> int:
    """How many changes may happen before one cuts off the page that is still there after the ordered ones:
    what is written to its place later is another page."""
    for count, change in enumerate(changes[ordered:], ordered):
        if change[0] == "truncate" and change[2] <= page * PAGE:
            return count
    return len(changes)


def _page(changes: Iterable[Change], page: int) -> bytes:
    """A page's contents after these changes."""
    start, content = page * PAGE, bytearray(PAGE)
    for change in changes:
        if change[0] == "write":
            _, _, offset, data = change
            first, end = max(offset, start), min(offset + len(data), start + PAGE)
            if first < end:
                content[first - start : end - start] = data[first - offset : end - offset]
        elif change[0] == "truncate" and change[2] < start + PAGE:
            keep = max(0, change[2] - start)
            content[keep:] = bytes(PAGE - keep)
    return bytes(content)
