"""The encrypted view: lower files presented as a tree whose headers are all in the file contents.

A file with xattr metadata appears with its header in front, 8192 octets longer than the lower file; any
other file appears unchanged. Copied out, the result is a valid tree without attributes.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from fusecrypt.errors import FormatError
from fusecrypt.ondisk.header import FLAG_XATTR, MINIMUM_REGION
from fusecrypt.tree.headers import find_header
from fusecrypt.tree.raw import LowerFile, read_lower


def header_in_front(fd: int) -> bytes:
    """The header region to show before the contents of an open lower file, or nothing."""
    try:
        found = find_header(fd)
    except FormatError:
        return b""
    if not found.in_xattr:
        return b""
    return replace(
        found.header, flags=found.header.flags & ~FLAG_XATTR, extent_size=4096, extents=2
    ).encode_region()


def view_size(lower: int, in_xattr: bool) -> int:
    """What a lower file of ``lower`` octets has in the view."""
    return lower + (MINIMUM_REGION if in_xattr else 0)


class ViewFile(LowerFile):
    """One open file of the encrypted view; it cannot be written."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, False)
        self._front = header_in_front(fd)

    @property
    def size(self) -> int:
        return len(self._front) + os.fstat(self.fd).st_size

    def read_into(self, buffer: memoryview, offset: int, n: int, nowait: bool = False) -> int:
        """Read from the header in front and the lower file behind it; returns how many octets."""
        head = self._front[offset : offset + n]
        buffer[: len(head)] = head
        behind = max(0, offset - len(self._front))
        return len(head) + read_lower(self.fd, buffer[len(head) : n], behind, nowait)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def truncate(self, size: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def adopt(self, fd: int) -> None:
        os.close(fd)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
