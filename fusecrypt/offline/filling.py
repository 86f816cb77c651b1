"""Drafts of files get their contents and attributes, large ones in threads, and are flushed in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from fusecrypt.errors import FusecryptError
from fusecrypt.offline.copyfile import Going, ReadError, StoppedError, Workers, copy_contents
from fusecrypt.offline.items import Item, Tally
from fusecrypt.offline.restore import Lost, Restorer, read_xattrs
from fusecrypt.offline.target import Draft, Target
from fusecrypt.tree.files import OpenFile

_SMALL = 128 << 10
"""Octets of a file that is filled at once: handing it to a thread would take longer."""


@dataclass
class Filling:
    """A file on its way. When it is filled and flushed, ``error`` says what failed and ``lost`` what of its
    attributes is missing."""

    item: Item
    source: OpenFile
    draft: Draft
    lost: list[Lost] = field(default_factory=list)
    error: OSError | FusecryptError | ReadError | None = None
    future: Future[None] | None = None

    @property
    def worth_keeping(self) -> bool:
        return self.error is None or (isinstance(self.error, ReadError) and self.error.saved > 0)


class Fillers:
    """The threads that fill drafts. With ``salvage`` what can be read of a damaged file is worth keeping."""

    def __init__(
        self, target: Target, restorer: Restorer, tally: Tally, salvage: bool, workers: Workers
    ) -> None:
        self._target = target
        self._restorer = restorer
        self._tally = tally
        self._salvage = salvage
        self._carry = workers.carry
        self._pool = ThreadPoolExecutor(workers.at_once)
        self._flusher = ThreadPoolExecutor(1)
        self._stop = False

    def close(self) -> None:
        self._flusher.shutdown()
        self._pool.shutdown()

    def begin(self, item: Item, source: OpenFile, draft: Draft) -> Filling:
        filling = Filling(item, source, draft)
        if item.size <= _SMALL:
            self._fill(filling)
        else:
            filling.future = self._pool.submit(self._fill, filling)
        return filling

    def submit(self, work: Callable[[Going], None]) -> Future[None]:
        """Have something else done by the same threads."""
        return self._pool.submit(work, self._going)

    def flush(self, fillings: Sequence[Filling], others: Sequence[Future[None]]) -> Future[None]:
        """Bring them to the disk, and what ``others`` make, as soon as all is filled. The result raises
        OSError where that failed for all of them."""
        return self._flusher.submit(self._flush, fillings, others)

    def _flush(self, fillings: Sequence[Filling], others: Sequence[Future[None]]) -> None:
        wait(others)
        for filling in fillings:
            if filling.future is not None:
                filling.future.result()
        if self._target.flushes_together:
            self._target.flush()
            return
        for _ in self._pool.map(_flush_one, fillings):
            pass

    def cancel(self, futures: Sequence[Future[None]]) -> None:
        """Wait until no thread does this work any more, which is soon."""
        self._stop = True
        for future in futures:
            future.cancel()
        wait(futures)

    def _fill(self, filling: Filling) -> None:
        item, source, draft = filling.item, filling.source, filling.draft
        assert draft.file is not None
        carry = copy_contents if item.size <= _SMALL else self._carry
        try:
            carry(source, draft.file, self._going, self._salvage)
        except (ReadError, OSError, FusecryptError) as error:
            filling.error = error
        if not filling.worth_keeping:
            return
        try:
            filling.lost = self._restorer.restore(draft.fd, item, read_xattrs(source.fd), path=False)
            # Begin to write it out, so that flushing many files waits once for the disk.
            os.posix_fadvise(draft.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            filling.error = error

    def _going(self, octets: int) -> None:
        if self._stop:
            raise StoppedError
        self._tally.read(octets)


def _flush_one(filling: Filling) -> None:
    if filling.worth_keeping:
        try:
            os.fsync(filling.draft.fd)
        except OSError as error:
            filling.error = error
