"""Plain files of a tree copied by the dozen without Python: wrappers of native/copy.c."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fusecrypt._native import ffi, lib
from fusecrypt.lane import Lane
from fusecrypt.native import check

COPY_ASIDE: int = lib.FC_COPY_ASIDE
COPIED: int = lib.FC_COPIED
COPIED_AS_OURS: int = lib.FC_COPIED_AS_OURS

_ERRORS_SINCE = (5, 8)
"""The first Linux whose syncfs() tells of files that could not be written."""


def copy_many(
    forms: Lane, dir_fds: Sequence[int], lowers: Sequence[bytes], work_fd: int, first: int, flush: bool
) -> bytes:
    """Copy lower files decrypted to new files in ``work_fd``, named by the numbers from ``first`` on; returns
    what became of each: COPIED, COPIED_AS_OURS (with another owner), or COPY_ASIDE for what is not plain, not
    of a form that ``forms`` was told, or failed, of which nothing is left.

    The native header says what is plain. With ``flush`` each copy is on the disk. Raises OSError.
    """
    joined = _joined(lowers)
    results = ffi.new("uint8_t[]", len(lowers))
    check(
        lib.fc_copy_many(
            forms._lane, list(dir_fds), joined, len(joined), len(lowers), work_fd, first, flush, results
        )
    )
    return bytes(ffi.buffer(results))


def rename_many(
    work_fd: int, numbers: Sequence[int], dir_fd: int, names: Sequence[bytes], flags: int
) -> list[int]:
    """renameat2(2) of files named by numbers to names in one directory; an errno, or 0, for each."""
    joined = _joined(names)
    errors = ffi.new("int32_t[]", len(names))
    check(lib.fc_rename_many(work_fd, list(numbers), dir_fd, joined, len(joined), len(names), flags, errors))
    return list(errors)


def _joined(names: Sequence[bytes]) -> bytes:
    return b"".join([name + b"\0" for name in names])


def flushes_together(fd: int) -> bool:
    """Whether :func:`flush_all` is as good as an fsync of each file, errors included."""
    major, minor = os.uname().release.split(".")[:2]
    told = (int(major), int(minor.partition("-")[0])) >= _ERRORS_SINCE
    return told and bool(lib.fc_flushes_together(fd))


def flush_all(fd: int) -> None:
    """syncfs(2): bring all of a file system to the disk. Raises OSError, also for earlier writes."""
    check(lib.fc_flush_all(fd))
