"""Small plain files on their way from a tree to a plain directory: native code copies a batch at a time, here
or at the workers of a cluster.

What it leaves aside, because it is not plain or fails, goes the long way (filling.py), which can tell why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from fusecrypt.copies import COPIED_AS_OURS, COPY_ASIDE, copy_many
from fusecrypt.native import PEEK_HEADER, Stat, stat_many
from fusecrypt.offline.copyfile import CarryMany, Going
from fusecrypt.offline.items import Item
from fusecrypt.offline.plaintarget import PlainTarget
from fusecrypt.offline.restore import Restorer
from fusecrypt.offline.standing import same_time
from fusecrypt.offline.treesource import TreeSource

_LARGEST = 1 << 20
"""Octets of a file; with larger ones a batch could not be stopped soon."""
_MOST_FILES, _MOST_OCTETS = 512, 16 << 20


@dataclass
class Part:
    """The files of a batch that are in one lower directory, which is held for ``first``, one of them.

    It is known by a descriptor here, and by its path from the lower root at workers.
    """

    first: Item
    fd: int = -1
    path: bytes = b""
    lowers: list[bytes] = field(default_factory=list)


@dataclass
class Batch:
    """Files that are copied together, each under a temporary name that is a number, ``first`` or above.

    Once they are copied, ``results`` says what became of each (fusecrypt/copies.py).
    """

    items: list[Item] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    octets: int = 0
    first: int = 0
    results: bytes = b""
    filled: Future[None] | None = None
    named: list[OSError | None] | None = None
    """What failed, for each copied file, when they were to get their names; None before."""

    @property
    def descriptors(self) -> int:
        """How many it holds open."""
        return sum(part.fd >= 0 for part in self.parts)

    def close(self) -> None:
        """Close all descriptors."""
        for part in self.parts:
            if part.fd >= 0:
                os.close(part.fd)
                part.fd = -1

    @property
    def aside(self) -> list[Item]:
        """The files that are to go the long way."""
        return [item for item, result in zip(self.items, self.results, strict=True) if result == COPY_ASIDE]

    def copied(self) -> Iterator[tuple[int, Item]]:
        """The others, with their numbers."""
        for number, (item, result) in enumerate(zip(self.items, self.results, strict=True), self.first):
            if result != COPY_ASIDE:
                yield number, item


class Bulk:
    """Makes batches. Belongs to one thread, but for :meth:`fill`."""

    def __init__(
        self,
        source: TreeSource,
        target: PlainTarget,
        restorer: Restorer,
        directories: int,
        replace: bool,
        carry_many: CarryMany | None,
    ) -> None:
        """``directories``: the most whose descriptors a batch may hold; with ``carry_many`` it needs none.
        ``replace``: what is in the way of a file is."""
        self._directories = directories if carry_many is None else _MOST_FILES
        self._source = source
        self._target = target
        self._restorer = restorer
        self._replace = replace
        self._carry_many = carry_many
        self._batch = Batch()

    @property
    def empty(self) -> bool:
        return not self._batch.items

    @property
    def full(self) -> bool:
        batch = self._batch
        return (
            len(batch.items) >= _MOST_FILES
            or batch.octets >= _MOST_OCTETS
            or len(batch.parts) >= self._directories
        )

    def add(self, item: Item) -> bool:
        """Take a file into the batch, if it seems to be plain. Raises OSError."""
        if item.stat.peek != PEEK_HEADER or item.size > _LARGEST or item.stat.nlink != 1:
            return False
        batch = self._batch
        if not batch.items or batch.items[-1].node is not item.node:
            batch.parts.append(self._part(item))
        batch.parts[-1].lowers.append(item.lower)
        batch.items.append(item)
        batch.octets += item.size
        return True

    def _part(self, item: Item) -> Part:
        if self._carry_many is None:
            return Part(item, fd=self._source.borrow(item))
        return Part(item, path=self._source.hold(item))

    def take(self) -> Batch | None:
        """The batch, to be filled; the next file begins another one."""
        batch, self._batch = self._batch, Batch()
        if not batch.items:
            return None
        batch.results = bytes([COPY_ASIDE]) * len(batch.items)
        if self._carry_many is None:
            batch.first = self._target.reserve(len(batch.items))
        return batch

    def fill(self, batch: Batch, going: Going) -> None:
        """Copy the files; those that workers copied are on the disk, and get their names too. Raises OSError,
        and what ``carry_many`` raises."""
        if self._carry_many is None:
            self._fill_here(batch)
        else:
            self._have_filled(batch, self._carry_many, going)
        if COPIED_AS_OURS in batch.results:
            self._restorer.owners_lost = True
        going(sum(item.size for _, item in batch.copied()))

    def _fill_here(self, batch: Batch) -> None:
        fds = [part.fd for part in batch.parts for _ in part.lowers]
        lowers = [item.lower for item in batch.items]
        flush = not self._target.flushes_together
        try:
            batch.results = copy_many(
                self._source.lane, fds, lowers, self._target.work_fd, batch.first, flush
            )
        finally:
            batch.close()

    def _have_filled(self, batch: Batch, carry_many: CarryMany, going: Going) -> None:
        """Have workers copy the files. What they made counts if it is here, and of the file that is meant."""
        parts = [(part.path, tuple(part.lowers)) for part in batch.parts]
        carried = carry_many(self._target.work, parts, going)
        batch.first = carried.first
        names = [b"%d" % number for number in range(batch.first, batch.first + len(batch.items))]
        results = bytearray(carried.results)
        for i, st in enumerate(stat_many(self._target.work_fd, names, False)):
            if results[i] != COPY_ASIDE and not _is_copy(st, batch.items[i]):
                results[i] = COPY_ASIDE
                if not st.error:
                    self._target.discard_number(batch.first + i)
        batch.results = bytes(results)
        self._name(batch)

    def _name(self, batch: Batch) -> None:
        drafts = [(number, item.path) for number, item in batch.copied()]
        batch.named = self._target.commit_many(drafts, self._replace)

    def commit(self, batch: Batch, error: OSError | None) -> list[tuple[Item, OSError | None]]:
        """Give the copied files their names; what failed, for each. With an ``error`` none gets its name that
        has none yet."""
        if batch.named is None and error is None:
            self._name(batch)
        elif batch.named is None:
            self._discard_drafts(batch)
        failures = batch.named or [error for _ in batch.copied()]
        return [(item, failure) for (_, item), failure in zip(batch.copied(), failures, strict=True)]

    def end(self, batch: Batch) -> None:
        """Let the directories go."""
        batch.close()
        for part in batch.parts:
            self._source.give_back(part.first)
        batch.parts.clear()

    def discard(self, batch: Batch) -> None:
        """Leave nothing of a batch that nobody copies any more."""
        try:
            self._discard_drafts(batch)
        finally:
            self.end(batch)

    def _discard_drafts(self, batch: Batch) -> None:
        for number, _ in batch.copied():
            with suppress(FileNotFoundError):  # it has its name
                self._target.discard_number(number)

    def close(self) -> None:
        """Forget what was collected last."""
        self.end(self._batch)


def _is_copy(st: Stat, item: Item) -> bool:
    """Whether a draft is there, with the size and time of a file."""
    return not st.error and st.size == item.size and same_time(item.stat.mtime_ns, st.mtime_ns)
