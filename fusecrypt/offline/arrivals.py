"""What is begun and not yet in place, brought there in groups.

A file is made under a temporary name, gets contents and attributes, is flushed, and only then renamed; a
directory gets its attributes after all in it. So what stands under its name is whole, whenever a run ends.
While one group is flushed, the next one is begun.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from fusecrypt.errors import FusecryptError
from fusecrypt.offline.bulk import Batch, Bulk
from fusecrypt.offline.copyfile import ReadError, Workers
from fusecrypt.offline.filling import Fillers, Filling
from fusecrypt.offline.items import Item, Problem, Tally, problem_of
from fusecrypt.offline.plaintarget import PlainTarget
from fusecrypt.offline.restore import Restorer
from fusecrypt.offline.rules import FULL, PARTIAL, Judge, Rules
from fusecrypt.offline.target import Target
from fusecrypt.offline.treesource import TreeSource
from fusecrypt.offline.walk import LinkTable, Source, Xattrs

_DESCRIPTORS = 64
"""The most files, and directories of batches, that are open for one group."""
_OBJECTS, _OCTETS = 4096, 64 << 20
"""The most objects in a group, and octets in its batches, for each ``_FEW`` that are copied at once."""
_FEW = 16


@dataclass
class _Leaving:
    """A directory that waits for what is in it."""

    item: Item
    xattrs: Xattrs | None


@dataclass
class _Group:
    """What is flushed together, in its order."""

    entries: deque[Filling | Batch | _Leaving] = field(default_factory=deque)
    descriptors: int = 0
    objects: int = 0
    octets: int = 0
    flushed: Future[None] | None = None

    @property
    def fillings(self) -> list[Filling]:
        return [each for each in self.entries if isinstance(each, Filling)]

    @property
    def filled(self) -> list[Future[None]]:
        """Of each batch."""
        return [each.filled for each in self.entries if isinstance(each, Batch) and each.filled is not None]


class Arrivals:
    """Belongs to the thread that walks. Its methods raise UnfinishedError, and TreeError where the target
    takes no more."""

    def __init__(
        self,
        source: Source,
        target: Target,
        rules: Rules,
        judge: Judge,
        restorer: Restorer,
        links: LinkTable,
        tally: Tally,
        workers: Workers,
    ) -> None:
        self._source = source
        self._target = target
        self._rules = rules
        self._judge = judge
        self._restorer = restorer
        self._links = links
        self._tally = tally
        self._fillers = Fillers(target, restorer, tally, rules.keep_going, workers)
        # Each file that is begun has two descriptors; a tree's directories may take a quarter of all.
        self._most = min(_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16)
        self._bulk: Bulk | None = None
        if isinstance(source, TreeSource) and isinstance(target, PlainTarget) and source.by_header:
            directories = max(1, self._most // 2)
            self._bulk = Bulk(source, target, restorer, directories, rules.overwrite, workers.carry_many)
        self._scale = max(1, workers.at_once // _FEW)
        self._left: list[_Leaving] = []
        """Directories that wait for the batch that is being collected."""
        self._group = _Group()
        self._flushing = _Group()
        self._aside = _Group()

    def begin(self, item: Item) -> None:
        """Begin to copy a regular file. Raises OSError, FusecryptError too."""
        if self._bulk is not None and self._bulk.add(item):
            if self._bulk.full:
                self._submit()
        else:
            self._group.entries.append(self._fill(item))
            self._group.descriptors += 1
        self._advance_if_due()

    def leave(self, item: Item, xattrs: Xattrs | None) -> None:
        """Give a directory its attributes once all that was begun is in place."""
        self._left.append(_Leaving(item, xattrs))
        if self._bulk is None or self._bulk.empty or len(self._left) >= _OBJECTS:
            self._submit()
        self._advance_if_due()

    def expects(self, path: bytes) -> bool:
        """Whether a file with several links is on its way there."""
        fillings = self._flushing.fillings + self._group.fillings
        return any(filling.item.path == path for filling in fillings)

    def settle(self) -> None:
        """Bring all that was begun to its end."""
        self._advance()
        self._advance()

    def close(self) -> None:
        """End the threads' work, and leave nothing of what is not in place."""
        groups = (self._aside, self._flushing, self._group)
        futures = [each.future for group in groups for each in group.fillings if each.future is not None]
        self._fillers.cancel([*futures, *self._flushing.filled, *self._group.filled])
        self._fillers.close()
        for group in groups:
            for entry in group.entries:
                with suppress(OSError, FusecryptError):
                    self._abandon(entry)
        if self._bulk is not None:
            self._bulk.close()

    def _abandon(self, entry: Filling | Batch | _Leaving) -> None:
        if isinstance(entry, Batch):
            assert self._bulk is not None
            self._bulk.discard(entry)
        elif isinstance(entry, Filling):
            try:
                self._target.discard(entry.draft)
            finally:
                self._source.close_file(entry.item, entry.source)

    def _fill(self, item: Item) -> Filling:
        source = self._source.open(item)
        try:
            draft = self._target.begin(item)
        except BaseException:
            self._source.close_file(item, source)
            raise
        return self._fillers.begin(item, source, draft)

    def _submit(self) -> None:
        """Have the batch copied; behind it come the directories that waited for it."""
        group, bulk = self._group, self._bulk
        batch = None if bulk is None else bulk.take()
        if bulk is not None and batch is not None:
            group.descriptors += batch.descriptors
            batch.filled = self._fillers.submit(partial(bulk.fill, batch))
            group.entries.append(batch)
            group.objects += len(batch.items)
            group.octets += batch.octets
        group.entries.extend(self._left)
        group.objects += len(self._left)
        self._left = []

    def _advance_if_due(self) -> None:
        group = self._group
        objects, octets = _OBJECTS * self._scale, _OCTETS * self._scale
        if group.descriptors >= self._most or group.objects >= objects or group.octets >= octets:
            self._advance()

    def _advance(self) -> None:
        """Bring the group to its end that is being flushed, and have the next one flushed."""
        self._finish_all(self._flushing)
        self._submit()
        self._flushing, self._group = self._group, _Group()
        self._flush(self._flushing)

    def _flush(self, group: _Group) -> None:
        if group.filled or group.fillings:
            group.flushed = self._fillers.flush(group.fillings, group.filled)

    def _finish_all(self, group: _Group) -> None:
        error = None if group.flushed is None else group.flushed.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
        while group.entries:
            entry = group.entries.popleft()
            if isinstance(entry, _Leaving):
                self._leave(entry)
            elif isinstance(entry, Batch):
                self._finish_batch(entry, error)
            else:
                self._finish_file(entry, error)

    def _leave(self, leaving: _Leaving) -> None:
        try:
            lost = self._target.leave(leaving.item, leaving.xattrs, self._restorer)
        except (OSError, FusecryptError) as error:
            self._judge.failure(leaving.item.path, error)
        else:
            self._judge.lost(leaving.item, lost)

    def _finish_batch(self, batch: Batch, error: OSError | None) -> None:
        """Give the files of a batch their names, and send the long way what was left aside."""
        assert self._bulk is not None
        assert batch.filled is not None
        not_filled = batch.filled.exception()
        try:
            if not_filled is not None:
                self._fail(batch, not_filled)
            for item, failure in self._bulk.commit(batch, error):
                if failure is None:
                    self._tally.objects += 1
                else:
                    self._judge.failure(item.path, failure)
            aside = batch.aside
            for start in range(0, len(aside), self._most):
                self._go_the_long_way(aside[start : start + self._most])
        except BaseException:
            self._bulk.discard(batch)
            raise
        self._bulk.end(batch)

    def _fail(self, batch: Batch, error: BaseException) -> None:
        """Nobody could copy a batch."""
        if not isinstance(error, OSError | FusecryptError):
            raise error
        for item in batch.items:
            self._judge.failure(item.path, error)
        batch.items, batch.results = [], b""

    def _go_the_long_way(self, items: Sequence[Item]) -> None:
        for item in items:
            try:
                self._aside.entries.append(self._fill(item))
            except (OSError, FusecryptError) as error:
                self._judge.failure(item.path, error)
        self._flush(self._aside)
        self._finish_all(self._aside)

    def _finish_file(self, filling: Filling, flushed: OSError | None) -> None:
        """Give a file its name, or do away with it."""
        item, error, problem = filling.item, filling.error or flushed, None
        try:
            if isinstance(error, ReadError):
                problem = self._rescue(filling, error)
            elif error is None:
                self._target.commit(filling.draft, item.path, self._rules.overwrite)
            else:
                self._target.discard(filling.draft)
        except (OSError, FusecryptError) as failure:
            error = failure
        finally:
            self._source.close_file(item, filling.source)
        if error is None:
            self._tally.objects += 1
            self._judge.lost(item, filling.lost)
            return
        self._links.forget(item)
        if problem is not None:
            self._judge.problem(problem)
        elif not isinstance(error, ReadError):
            self._judge.failure(item.path, error)

    def _rescue(self, filling: Filling, error: ReadError) -> Problem:
        """Keep what could be read of a damaged file, under another name. Raises OSError for a full disk."""
        item = filling.item
        problem = self._source.explain(item.path, filling.source, error.cause)
        if not error.saved:
            self._target.discard(filling.draft)
            return problem
        path = item.path + PARTIAL
        try:
            self._target.commit(filling.draft, path, False)
        except (OSError, FusecryptError) as failure:
            if failure.errno in FULL:
                raise
            reason = problem_of(path, failure).reason
            text = f"what can be read was not copied to {os.fsdecode(path)}: {reason}"
        else:
            text = f"the {error.saved} octets that can be read are in {os.fsdecode(path)}"
        return problem._replace(reason=f"{problem.reason}; {text}")
