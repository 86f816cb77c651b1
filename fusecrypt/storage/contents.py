"""The contents of one lower file: which of its octets to read for which, and what they decrypt to."""

from __future__ import annotations

import errno
import os

from fusecrypt.errors import DamagedError, FormatError, FusecryptError, KeyNotFoundError, NotEcryptfsError
from fusecrypt.ondisk.extents import EXTENT
from fusecrypt.storage.heads import Head
from fusecrypt.storage.lower import Lower
from fusecrypt.tree.headers import Found, unlock
from fusecrypt.tree.policy import Policy


class Contents:
    """A file that can be read with the keys of a policy. ``size`` in upper octets."""

    def __init__(self, lower: Lower, found: Found | None, size: int) -> None:
        """``found`` is None for what is shown as it is."""
        self.lower = lower
        self.size = size
        self._found = found
        self._data_offset = found.data_offset if found else 0

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The lower range of whole extents that holds an upper one, as far as the file goes."""
        low, high = self._whole(start, end)
        return min(low, self.lower.size), min(high, self.lower.size)

    def _whole(self, start: int, end: int) -> tuple[int, int]:
        if self._found is None:
            return start, end
        first, last = start // EXTENT, -(-end // EXTENT)
        return self._data_offset + first * EXTENT, self._data_offset + last * EXTENT

    def decode(self, policy: Policy, start: int, end: int, octets: bytes) -> bytes:
        """Upper octets from those of their span. Raises OSError (EIO) where there are fewer.

        The FEK is there only for the time of the call.
        """
        low, high = self._whole(start, end)
        if len(octets) != high - low:
            raise OSError(errno.EIO, "the lower file is cut short")
        if self._found is None:
            return octets
        key = unlock(self._found.header, policy)
        try:
            plain = key.decrypt_extents(start // EXTENT, octets)
        finally:
            key.close()
        skip = start % EXTENT
        return bytes(memoryview(plain)[skip : skip + end - start])


def open_contents(lower: Lower, head: Head, policy: Policy, attributes: bool) -> Contents:
    """The contents of a regular file. ``attributes``: the lower file system has some that can be read.

    Raises OSError; NotEcryptfsError, FormatError, DamagedError or KeyNotFoundError, unless the policy passes
    such files through.
    """
    try:
        found = head.header()
        contents = Contents(lower, found, found.header.size)
        unlock(found.header, policy).close()
    except (FormatError, KeyNotFoundError, DamagedError) as error:
        if policy.passthrough or (isinstance(error, NotEcryptfsError) and lower.size == 0):
            return Contents(lower, None, lower.size)
        if isinstance(error, NotEcryptfsError) and not attributes:
            where = "extended attributes, where it may be, cannot be read on this file system"
            raise NotEcryptfsError(f"{error}; {where}") from None
        raise
    return contents


def shown_size(lower: Lower, head: Head, policy: Policy) -> int:
    """The size in a listing. Under passthrough it depends on whether a key opens the file."""
    if not policy.passthrough:
        return head.size
    try:
        return open_contents(lower, head, policy, True).size
    except (FusecryptError, OSError):
        return lower.size


def as_oserror(error: FusecryptError, path: str) -> OSError:
    """The same failure as programs that read files expect it, naming the file."""
    return OSError(error.errno, str(error) or os.strerror(error.errno), path)
