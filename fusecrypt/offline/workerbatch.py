"""What a worker of a cluster does about many small files: it copies them to drafts of its own making.

Each attempt takes other numbers for its drafts, so that a batch whose worker died, or was given up, is simply
copied again by another one. Drafts that nobody asks for go with the directory they are in.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from fusecrypt.copies import COPY_ASIDE, copy_many, flush_all, flushes_together
from fusecrypt.native import open_quietly
from fusecrypt.offline.copyfile import Carried, Part
from fusecrypt.offline.lower import opened_directory
from fusecrypt.offline.worker import DIRECTORY, Job, Kept, has_ended, keys_of, open_copy

_AT_ONCE = 64
"""Files, and directories that are open for them, between two looks whether the copy has ended."""


class Batch(NamedTuple):
    """Files of the lower tree, and the absolute path of the directory for their drafts."""

    work: bytes
    parts: Sequence[Part]


def carry_batch(job: Job, batch: Batch) -> Carried:
    """Copy the files, to the disk. To do so again does no harm. Raises TreeError, and as worker.prepare()."""
    kept = keys_of(job)
    try:
        with (
            _closing(open_quietly(job.lower, DIRECTORY)) as root_fd,
            _closing(open_copy(batch.work, DIRECTORY)) as work_fd,
        ):
            attempt = _Attempt(kept, work_fd)
            try:
                for fds, lowers in _some(batch.parts, root_fd):
                    if has_ended(job):
                        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
                    attempt.copy(fds, lowers)
                attempt.flush()
            except BaseException:
                attempt.discard()
                raise
    except OSError as error:
        return Carried(0, b"", error.errno or errno.EIO)
    return Carried(attempt.first, bytes(attempt.results))


class _Attempt:
    """One go at a batch."""

    def __init__(self, kept: Kept, work_fd: int) -> None:
        self._kept = kept
        self._work_fd = work_fd
        self._together = flushes_together(work_fd)
        self.first = secrets.randbits(62)
        self.results = bytearray()

    def copy(self, fds: Sequence[int], lowers: Sequence[bytes]) -> None:
        """Raises OSError."""
        at = len(self.results)
        self.results += bytes([COPY_ASIDE]) * len(lowers)
        self._copy(at, fds, lowers)
        aside = [i for i in range(len(lowers)) if self.results[at + i] == COPY_ASIDE]
        new = [i for i in aside if self._kept.learn(fds[i], lowers[i])]
        if new:
            for i in aside:
                self._copy(at + i, [fds[i]], [lowers[i]])

    def _copy(self, at: int, fds: Sequence[int], lowers: Sequence[bytes]) -> None:
        each = not self._together
        found = copy_many(self._kept.lane, fds, lowers, self._work_fd, self.first + at, each)
        self.results[at : at + len(lowers)] = found

    def flush(self) -> None:
        """Raises OSError."""
        if self._together:
            flush_all(self._work_fd)

    def discard(self) -> None:
        for number in range(self.first, self.first + len(self.results)):
            with suppress(FileNotFoundError):
                os.unlink(b"%d" % number, dir_fd=self._work_fd)


def _some(parts: Sequence[Part], root_fd: int) -> Iterator[tuple[list[int], list[bytes]]]:
    """Some files after the other, with descriptors of their directories: -1 where there is none here."""
    files = [(path, lower) for path, lowers in parts for lower in lowers]
    for start in range(0, len(files), _AT_ONCE):
        some = files[start : start + _AT_ONCE]
        with ExitStack() as opened:
            fds = dict.fromkeys((path for path, _ in some), -1)
            for path in fds:
                with suppress(OSError):
                    fds[path] = opened.enter_context(opened_directory(root_fd, path))
            yield [fds[path] for path, _ in some], [lower for _, lower in some]


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
