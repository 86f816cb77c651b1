"""A header of a lower file replaced in place, with its times and mode kept, and undone."""

from __future__ import annotations

import os
import stat

from fusecrypt.native import open_quietly
from fusecrypt.offline.journal import Record
from fusecrypt.offline.lower import FILE
from fusecrypt.ondisk.header import XATTR_NAME, Header
from fusecrypt.tree.headers import Found, read_xattr
from fusecrypt.tree.tree import by_descriptor

_SIZE = 8
"""Octets of the size field, which is left as it is."""
_MARKER = slice(8, 16)


class HeaderChange:
    """One header that is to be changed. The lower file stays open until :meth:`close`."""

    def __init__(self, fd: int, path: bytes, found: Found, header: Header) -> None:
        """Take over a readable descriptor. Raises FormatError if the packets do not fit."""
        self._fd = fd
        st = os.fstat(fd)
        self._after = header.encode()
        length = max(len(self._after), len(found.header.encode()))
        before = found.octets
        if not found.in_xattr:
            before, self._after = before[:length], self._after.ljust(length, b"\0")
        mode, times = stat.S_IMODE(st.st_mode), (st.st_atime_ns, st.st_mtime_ns)
        self.record = Record(path, st.st_ino, mode, times, st.st_size, found.in_xattr, before)

    def write(self) -> None:
        """Write the new header and flush it. Raises OSError."""
        _write(self._fd, self._after, self.record)
        os.utime(self._fd, ns=self.record.times)
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def undo(record: Record, name: bytes, dir_fd: int) -> bool:
    """Put a header back as it was before; False if the file is no longer the one that was meant.

    Raises OSError.
    """
    fd = open_quietly(name, os.O_RDONLY | FILE, dir_fd)
    try:
        st = os.fstat(fd)
        octets = (read_xattr(fd) or b"") if record.in_xattr else os.pread(fd, len(record.before), 0)
        if st.st_ino != record.ino or octets[_MARKER] != record.before[_MARKER]:
            return False
        _write(fd, octets[:_SIZE] + record.before[_SIZE:], record)
        # Times that tell of a change by somebody else stay, as far as that shows.
        ours = st.st_size == record.size and octets[:_SIZE] == record.before[:_SIZE]
        os.utime(fd, ns=record.times if ours else (st.st_atime_ns, st.st_mtime_ns))
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def _write(fd: int, octets: bytes, record: Record) -> None:
    """Write header octets. A file that its owner may not write is made writable for the moment, and what the
    kernel clears of a mode at a write is set again."""
    writable = record.mode | stat.S_IWUSR
    if writable != record.mode:
        os.fchmod(fd, writable)
    try:
        if record.in_xattr:
            os.setxattr(fd, XATTR_NAME, octets, os.XATTR_REPLACE)
        else:
            _overwrite(fd, octets)
    finally:
        if stat.S_IMODE(os.fstat(fd).st_mode) != record.mode:
            os.fchmod(fd, record.mode)


def _overwrite(fd: int, octets: bytes) -> None:
    lower = os.open(by_descriptor(fd), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(lower, octets[_SIZE:], _SIZE)
    finally:
        os.close(lower)
