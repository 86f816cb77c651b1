"""What lower files' headers say: read many at once, kept while the files are the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

from fusecrypt.errors import FormatError
from fusecrypt.ondisk.header import MINIMUM_REGION, READ_SIZE, parse_header, peek_size
from fusecrypt.storage.lower import DIRECTORY, FILE, Lower, LowerStore
from fusecrypt.tree.headers import Found, header_in

LIMIT = 16384
"""Headers that are kept, about a kilobyte each; those that were used longest ago go first. FEKs in them stay
encrypted."""
_BATCH = 512


class Head(NamedTuple):
    """A header, or why there is none; and the upper size that is shown without opening the file."""

    found: Found | None
    error: FormatError | OSError | None
    size: int

    def header(self) -> Found:
        """Raises FormatError if there is none that is usable, OSError if it could not be read."""
        if self.found is None:
            assert self.error is not None
            raise self.error.with_traceback(None)
        return self.found


class Heads:
    """The headers of a lower tree. Usable from several threads."""

    def __init__(self, store: LowerStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[str, Head]] = OrderedDict()
        self._lock = Lock()

    def of(self, lower: Lower) -> Head:
        """Of a regular file."""
        return self.of_many([lower])[0]

    def of_many(self, lowers: Sequence[Lower]) -> list[Head]:
        """Of regular files, in their order."""
        known = {lower.path: self._look_up(lower) for lower in lowers}
        missing = [lower for lower in lowers if known[lower.path] is None]
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            for each, read in zip(part, self._read(part), strict=True):
                known[each.path] = read
                self._keep(each, read)
        return [head for lower in lowers if (head := known[lower.path]) is not None]

    def _read(self, lowers: Sequence[Lower]) -> list[Head]:
        filled = [lower for lower in lowers if lower.size]
        ends = [min(lower.size, READ_SIZE) for lower in filled]
        octets = self._store.read((lower.path, 0, end) for lower, end in zip(filled, ends, strict=True))
        found = dict(zip((lower.path for lower in filled), octets, strict=True))
        return [self._parse(lower, found.get(lower.path, b"")) for lower in lowers]

    def _parse(self, lower: Lower, octets: bytes | OSError) -> Head:
        if isinstance(octets, OSError):
            # The nearest that can be said of its size.
            return Head(None, octets, max(0, lower.size - MINIMUM_REGION))
        value: bytes | None = None

        def attribute() -> bytes | None:
            nonlocal value
            value = self._store.attribute(lower.path)
            return value

        try:
            found = header_in(octets, attribute)
        except (FormatError, OSError) as error:
            size = peek_size(octets)
            if size is None and value is not None:
                with suppress(FormatError):
                    size = parse_header(value).size
            return Head(None, error, lower.size if size is None else size)
        return Head(replace(found, octets=b""), None, found.header.size)

    def _look_up(self, lower: Lower) -> Head | None:
        with self._lock:
            identity, head = self._kept.get(lower.path, ("", None))
            if head is None or identity != lower.identity:
                return None
            self._kept.move_to_end(lower.path)
            return head

    def _keep(self, lower: Lower, head: Head) -> None:
        if isinstance(head.error, OSError):
            return
        with self._lock:
            self._kept[lower.path] = (lower.identity, head)
            self._kept.move_to_end(lower.path)
            while len(self._kept) > LIMIT:
                self._kept.popitem(last=False)

    def forget(self) -> None:
        """Read every header anew."""
        with self._lock:
            self._kept.clear()


class _Entry:
    """As a survey of the tree sees it."""

    def __init__(self, lower: Lower, head: Head | None) -> None:
        self._lower = lower
        self._head = head
        self.name = lower.name
        self.is_directory = lower.kind == DIRECTORY
        self.is_regular = lower.kind == FILE

    def header(self) -> Found:
        assert self._head is not None
        return self._head.header()

    def size(self) -> int:
        return self._lower.size


class StorePlace:
    """A lower tree for a survey."""

    def __init__(self, store: LowerStore, heads: Heads) -> None:
        self._store = store
        self._heads = heads

    @contextmanager
    def directory(self, path: tuple[bytes, ...]) -> Iterator[Iterator[_Entry]]:
        yield self._entries(self._store.below(path))

    def _entries(self, path: str) -> Iterator[_Entry]:
        lowers = self._store.entries(path)
        for start in range(0, len(lowers), _BATCH):
            part = lowers[start : start + _BATCH]
            files = [lower for lower in part if lower.kind == FILE]
            heads = dict(zip((lower.path for lower in files), self._heads.of_many(files), strict=True))
            yield from (_Entry(lower, heads.get(lower.path)) for lower in part)
