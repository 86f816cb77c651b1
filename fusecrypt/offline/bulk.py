"""Small plain files on their way from a tree to a plain directory: native code copies a batch at a time.

What it leaves aside, because it is not plain or fails, goes the long way (filling.py), which can tell why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from fusecrypt.copies import COPIED_AS_OURS, COPY_ASIDE, copy_many
from fusecrypt.native import PEEK_HEADER
from fusecrypt.offline.items import Item, Tally
from fusecrypt.offline.plaintarget import PlainTarget
from fusecrypt.offline.restore import Restorer
from fusecrypt.offline.treesource import TreeSource

_LARGEST = 1 << 20
"""Octets of a file; with larger ones a batch could not be stopped soon."""
_MOST_FILES, _MOST_OCTETS = 512, 16 << 20


@dataclass
class Batch:
    """Files that are copied together, each under a temporary name that is a number, ``first`` or above.

    Once they are copied, ``results`` says what became of each (fusecrypt/copies.py).
    """

    items: list[Item] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    """For each file that of its lower directory."""
    borrowed: list[Item] = field(default_factory=list)
    """The first file in each directory, which is held for it."""
    octets: int = 0
    first: int = 0
    results: bytes = b""

    def close(self) -> None:
        """Close all descriptors."""
        for fd in set(self.fds):
            os.close(fd)
        self.fds.clear()

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
        self, source: TreeSource, target: PlainTarget, tally: Tally, restorer: Restorer, directories: int
    ) -> None:
        """``directories``: the most whose descriptors a batch may hold."""
        self._directories = directories
        self._source = source
        self._target = target
        self._tally = tally
        self._restorer = restorer
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
            or len(batch.borrowed) >= self._directories
        )

    def add(self, item: Item) -> bool:
        """Take a file into the batch, if it seems to be plain. Raises OSError."""
        if item.stat.peek != PEEK_HEADER or item.size > _LARGEST or item.stat.nlink != 1:
            return False
        batch = self._batch
        if not batch.items or batch.items[-1].node is not item.node:
            fd = self._source.borrow(item)
            batch.borrowed.append(item)
        else:
            fd = batch.fds[-1]
        batch.items.append(item)
        batch.fds.append(fd)
        batch.octets += item.size
        return True

    def take(self) -> Batch | None:
        """The batch, to be filled; the next file begins another one."""
        batch, self._batch = self._batch, Batch()
        if not batch.items:
            return None
        batch.first = self._target.reserve(len(batch.items))
        batch.results = bytes([COPY_ASIDE]) * len(batch.items)
        return batch

    def fill(self, batch: Batch) -> None:
        """Copy the files. Raises OSError."""
        lowers = [item.lower for item in batch.items]
        flush = not self._target.flushes_together
        try:
            batch.results = copy_many(
                self._source.lane, batch.fds, lowers, self._target.work_fd, batch.first, flush
            )
        finally:
            batch.close()
        self._tally.read(sum(item.size for _, item in batch.copied()))
        if COPIED_AS_OURS in batch.results:
            self._restorer.owners_lost = True

    def commit(self, batch: Batch, replace: bool, error: OSError | None) -> list[tuple[Item, OSError | None]]:
        """Give the copied files their names; what failed, for each. With an ``error`` none gets its name."""
        drafts = [(number, item.path) for number, item in batch.copied()]
        failures: list[OSError | None] = []
        if error is None:
            failures = self._target.commit_many(drafts, replace)
        else:
            failures += [error] * len(drafts)
            self._discard_drafts(batch)
        return [(item, failure) for (_, item), failure in zip(batch.copied(), failures, strict=True)]

    def end(self, batch: Batch) -> None:
        """Let the directories go."""
        batch.close()
        for item in batch.borrowed:
            self._source.give_back(item)
        batch.borrowed.clear()

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
