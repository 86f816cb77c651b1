"""Files with a header and a key, seen decrypted."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from fusecrypt.errors import DamagedError, stale
from fusecrypt.native import FileKey
from fusecrypt.ondisk.extents import EXTENT, lower_size, upper_capacity
from fusecrypt.ondisk.header import MAX_SIZE
from fusecrypt.tree.headers import (
    Found,
    new_header,
    write_header,
    write_size,
)
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.raw import LowerFile

FILL_BUDGET = 16 << 20
"""Octets of encrypted zeros written in one native call."""


class EncryptedFile(LowerFile):
    """A file with a header and a key, or an empty lower file that gets them with the first write."""

    _shared = False

    def __init__(self, fd: int, writable: bool, policy: Policy) -> None:
        super().__init__(fd, writable)
        self._policy = policy
        self._key: FileKey | None = None
        self._found: Found | None = None
        self._data_offset = 0
        self._capacity_if_cut: int | None = None

    @property
    def _size(self) -> int:
        return self.lane.size

    @_size.setter
    def _size(self, size: int) -> None:
        self.lane.size = size

    @property
    def size(self) -> int:
        return self._size

    def use(self, found: Found, key: FileKey) -> None:
        """Set the header and key of this file. Raises DamagedError for an impossible header region."""
        self._data_offset = found.data_offset
        self._found = found
        self._key = key
        self.lane.use(key, found.data_offset, found.octets[8:16], self._shared)
        self._take_size(found.header.size)

    def _take_size(self, size: int) -> None:
        """Go by a size that the header says."""
        capacity = upper_capacity(os.fstat(self.fd).st_size, self._data_offset)
        self._capacity_if_cut = capacity if capacity < size else None
        self._size = size
        self._set_direct()

    @property
    def found(self) -> Found | None:
        """The header, or None while the lower file is empty."""
        return self._found

    def _set_direct(self) -> None:
        """Let the lane read and write what is whole and has its header in front."""
        assert self._found is not None
        self.lane.direct = self._capacity_if_cut is None and not self._found.in_xattr

    def initialise(self, key: FileKey | None = None, marker: int | None = None) -> None:
        """Give an empty lower file its header. Key and marker are random unless given (for tests).

        Raises OSError: ESTALE if somebody else gave it contents or a header meanwhile.
        """
        if os.fstat(self.fd).st_size:
            raise stale()
        if key is None:
            key = FileKey.random(self._policy.cipher.code, self._policy.cipher.key_bytes)
        header = new_header(self._policy, key, marker=marker)
        try:
            write_header(self.fd, header)
        except FileExistsError:
            raise stale() from None
        except OSError:
            os.ftruncate(self.fd, 0)  # a header cut short could be opened by nobody
            raise
        self.use(Found(header, self._policy.xattr_metadata, header.encode()), key)

    def read_into(self, buffer: memoryview, offset: int, n: int, nowait: bool = False) -> int:
        if self._key is None:
            return 0
        size = self._size
        got = self._key.read(self.fd, self._data_offset, size, offset, buffer, n, nowait)
        if got < min(n, size - offset):
            # Anything shorter would be taken for the end of the file, or for zeros.
            raise OSError(errno.EIO, "the lower file is cut short")
        return got

    def write(self, offset: int, data: bytes | memoryview) -> None:
        if not data:
            return
        if offset + len(data) > MAX_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._check_whole()
        key = self._ready_key()
        try:
            backed = self._fill(key, offset) if offset > self._size else self._size
            view = memoryview(data)
            while view:
                written = key.write(self.fd, self._data_offset, backed, offset, view)
                offset += written
                view = view[written:]
                backed = max(backed, offset)
                if offset > self._size:
                    self._set_size(offset)
        except OSError:
            self._cut_back()
            raise

    def truncate(self, size: int) -> None:
        if size == self._size:
            return
        if size > MAX_SIZE or (size - self._size > FILL_BUDGET and size > self._most()):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._check_whole(size)
        key = self._ready_key()
        if size > self._size:
            try:
                self._fill(key, size)
                self._set_size(size)
            except OSError:
                self._cut_back()
                raise
            return
        old = self._size
        self._set_size(size)  # first: cleared octets below the old size would be contents
        key.zero_tail(self.fd, self._data_offset, old, size)
        self._capacity_if_cut = None
        self._set_direct()
        os.ftruncate(self.fd, lower_size(size, self._data_offset))

    def close(self) -> None:
        super().close()
        if self._key is not None:
            self._key.close()
            self._key = None

    def _ready_key(self) -> FileKey:
        if self._key is None:
            self.initialise()
        assert self._key is not None
        return self._key

    def _check_whole(self, size: int | None = None) -> None:
        """A lower file that is cut short can only be truncated, to ``size`` octets that are there: anything
        else would leave a lower hole. Raises DamagedError."""
        capacity = self._capacity_if_cut
        if capacity is not None and (size is None or size > capacity):
            raise DamagedError(
                f"the lower file is cut short: {capacity} of {self._size} octets are there",
                f"restore it from a backup, or truncate it to at most {capacity} octets",
            )

    def _cut_back(self) -> None:
        """After a failure: no lower octets but those that the size needs, so that a full disk is freed."""
        with suppress(OSError):
            os.ftruncate(self.fd, lower_size(self._size, self._data_offset))

    def _set_size(self, size: int) -> None:
        assert self._found is not None
        write_size(self.fd, self._found, size)
        self._size = size

    def _fill(self, key: FileKey, until: int) -> int:
        """Back the octets from the size to ``until`` with encrypted zeros; the size stays."""
        self._check_room(until)
        backed = self._size
        while backed < until:
            backed = key.fill(self.fd, self._data_offset, backed, until, FILL_BUDGET)
        return backed

    def _most(self) -> int:
        """Octets that the lower file system could hold if it were empty."""
        room = os.fstatvfs(self.fd)
        return room.f_blocks * room.f_frsize or MAX_SIZE

    def _check_room(self, size: int) -> None:
        """Refuse a size that cannot fit before filling the disk with it: the format has no holes.

        Raises OSError: EFBIG if the lower file system has no files of that size, ENOSPC if there is no room.
        """
        gap = size - self._size
        if gap <= FILL_BUDGET:
            return
        try:  # nothing goes by the position
            os.lseek(self.fd, lower_size(size, self._data_offset), os.SEEK_SET)
        except OSError:  # EINVAL: no file here has an octet there
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from None
        room = os.fstatvfs(self.fd)
        if room.f_blocks and gap // EXTENT * EXTENT > room.f_bfree * room.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
