"""All that is to be copied, directory by directory, with memory that does not grow with the tree."""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, Protocol

from fusecrypt.errors import FusecryptError
from fusecrypt.offline.items import Enter, Item, Leave, Problem
from fusecrypt.offline.patterns import Selection
from fusecrypt.tree.files import OpenFile

Event = Item | Enter | Leave | Problem
Xattrs = list[tuple[bytes, bytes]]

CHUNK = 256
"""Objects of a directory that are looked at together."""


class Source(Protocol):
    """Where objects are copied from. Belongs to one thread; files that it opened are read in others."""

    def root(self) -> Item: ...

    def children(self, directory: Item) -> Generator[Item | Problem, None, None]:
        """What is in a directory; directories are to be released. Failures are problems."""
        ...

    def release(self, directory: Item) -> None: ...

    def open(self, item: Item) -> OpenFile:
        """Raises OSError, FusecryptError."""
        ...

    def close_file(self, item: Item, file: OpenFile) -> None: ...

    def explain(self, path: bytes, file: OpenFile, error: OSError) -> Problem:
        """Why an open file cannot be read."""
        ...

    def readlink(self, item: Item) -> bytes:
        """Raises OSError, FusecryptError."""
        ...

    def xattrs(self, item: Item) -> Xattrs:
        """Those of anything but a regular file. Raises OSError."""
        ...


class _Level(NamedTuple):
    item: Item
    children: Generator[Item | Problem, None, None]
    inside: bool
    """Whether all in it is meant, but for what is excluded."""


class Walk:
    """One walk through a source, as far as ``selection`` goes."""

    def __init__(self, source: Source, selection: Selection) -> None:
        self._source = source
        self._selection = selection
        self._pruned = False

    def prune(self) -> None:
        """Do not go into the directory that was entered last; it is not left either."""
        self._pruned = True

    def events(self) -> Generator[Event, None, None]:
        """Objects in directories, each between its ``Enter`` and ``Leave``; the root comes first and last."""
        source, selection = self._source, self._selection
        stack: list[_Level] = []
        try:
            yield from self._enter(stack, source.root(), selection.includes(b""))
            while stack:
                level = stack[-1]
                found = next(level.children, None)
                if found is None:
                    stack.pop()
                    try:
                        yield Leave(level.item)
                    finally:
                        source.release(level.item)
                elif isinstance(found, Problem):
                    yield found
                elif found.kind != stat.S_IFDIR:
                    meant = level.inside or selection.includes(found.path)
                    if meant and not selection.excludes(found.path):
                        yield found
                elif selection.excludes(found.path):
                    source.release(found)
                else:
                    yield from self._enter(stack, found, level.inside or selection.includes(found.path))
        finally:
            for level in stack:
                level.children.close()
                source.release(level.item)

    def _enter(self, stack: list[_Level], item: Item, inside: bool) -> Iterator[Event]:
        try:
            yield Enter(item, inside)
        except GeneratorExit:
            self._source.release(item)
            raise
        if self._pruned:
            self._pruned = False
            self._source.release(item)
        else:
            stack.append(_Level(item, self._source.children(item), inside))


class LinkTable:
    """Where the first link of each object with several is; forgotten when all have been met."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], tuple[bytes, int]] = {}

    def first(self, item: Item) -> bytes | None:
        """The path of a link that was copied before."""
        found = self._first.get(item.identity) if item.identity is not None else None
        return None if found is None else found[0]

    def note(self, item: Item) -> None:
        """This link is in place, or will be before the next one is made."""
        if item.identity is None:
            return
        path, left = self._first.get(item.identity, (item.path, item.stat.nlink))
        if left > 1:
            self._first[item.identity] = path, left - 1
        else:
            self._first.pop(item.identity)

    def forget(self, item: Item) -> None:
        """It is not in place after all."""
        if item.identity is not None:
            self._first.pop(item.identity, None)


Tell = Callable[[Problem], None]
Failure = OSError | FusecryptError
