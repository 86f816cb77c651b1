"""System calls that Python lacks, or makes one object at a time."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from fusecrypt._native import ffi, lib
from fusecrypt.native.base import check

# What a peek at a lower file found (Stat.peek).
PEEK_NONE: int = lib.FC_PEEK_NONE
PEEK_HEADER: int = lib.FC_PEEK_HEADER
PEEK_FOREIGN: int = lib.FC_PEEK_FOREIGN
PEEK_EMPTY: int = lib.FC_PEEK_EMPTY
PEEK_ERROR: int = lib.FC_PEEK_ERROR


class Stat(NamedTuple):
    """What lstat says, times in nanoseconds, and what the first octets of a regular file say."""

    ino: int
    dev: int
    size: int
    blocks: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int
    uid: int
    gid: int
    blksize: int
    error: int
    """errno of the lstat, all else is 0 then; or of the peek, if that is PEEK_ERROR."""
    peek: int
    """PEEK_HEADER: upper_size is valid. PEEK_FOREIGN: no header. PEEK_EMPTY: no octets at all."""
    upper_size: int


_STAT = struct.Struct("@5Q3q5I2iQ")  # fc_stat in native/fusecrypt.h
if _STAT.size != ffi.sizeof("fc_stat"):
    raise ImportError("fusecrypt._native was built from other sources; install fusecrypt again")


def stat_many(dirfd: int, names: Sequence[bytes], peek: bool) -> list[Stat]:
    """lstat of names in one directory, in their order; errors are in the entries.

    With ``peek`` the beginning of regular files is read. Raises OSError (EINVAL) for a NUL in a name.
    """
    count = len(names)
    joined = b"".join([name + b"\0" for name in names])
    out = ffi.new("fc_stat[]", count)
    check(lib.fc_stat_many(dirfd, joined, len(joined), count, peek, out))
    return list(map(Stat._make, _STAT.iter_unpack(ffi.buffer(out))))


def stat_fd(fd: int, peek: bool) -> Stat:
    """The same for an open file, which must be readable for the peek. Raises OSError if it has no stat."""
    out = ffi.new("fc_stat *")
    check(lib.fc_stat_fd(fd, peek, out))
    st = Stat._make(_STAT.unpack(ffi.buffer(out)))
    if st.error and st.peek != PEEK_ERROR:
        raise OSError(st.error, os.strerror(st.error))
    return st


def open_quietly(path: str | bytes | os.PathLike[str], flags: int, dir_fd: int | None = None) -> int:
    """Open to read without a trace in the access time, where we may. Raises OSError."""
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:  # that is for the owner
        return os.open(path, flags, dir_fd=dir_fd)


def acl_is_mode(acl: bytes) -> bool:
    """Whether an NFSv4 ACL (the attribute system.nfs4_acl) is about nobody but owner, group and all: a mode
    says it too then."""
    return bool(lib.fc_nfs4_acl_is_mode(acl, len(acl)))


def renameat2(olddirfd: int, old: bytes, newdirfd: int, new: bytes, flags: int) -> None:
    """renameat2(2) with RENAME_NOREPLACE (1) or RENAME_EXCHANGE (2). Raises OSError."""
    check(lib.fc_renameat2(olddirfd, old, newdirfd, new, flags))


def utimens(
    dirfd: int,
    name: bytes,
    atime_ns: int | None,
    mtime_ns: int | None,
    *,
    atime_now: bool = False,
    mtime_now: bool = False,
) -> None:
    """Set times of ``name`` itself, not of what a link points to; b"" means the descriptor itself.

    None leaves a time alone unless its ``now`` is set. Times before 1677 or after 2262 become the first or
    last that 64 bits of nanoseconds can say. Raises OSError.
    """
    set_atime = 2 if atime_now else int(atime_ns is not None)
    set_mtime = 2 if mtime_now else int(mtime_ns is not None)
    times = [max(-(1 << 63), min(ns or 0, (1 << 63) - 1)) for ns in (atime_ns, mtime_ns)]
    check(lib.fc_utimens(dirfd, name, set_atime, times[0], set_mtime, times[1]))
