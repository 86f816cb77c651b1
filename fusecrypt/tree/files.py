"""Open files, and which kind of them a lower file is.

There is one object for each open lower inode, however many handles and hard links share it, so that all
writers know the same size and key. Objects are not locked: a caller with several threads lets writes and
truncations run alone (reads may run beside reads).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Protocol

from fusecrypt.errors import DamagedError, FormatError, KeyNotFoundError, NotEcryptfsError
from fusecrypt.lane import LaneFile
from fusecrypt.native import FileKey
from fusecrypt.ondisk.extents import EXTENT, lower_size, upper_capacity
from fusecrypt.ondisk.header import MAX_SIZE, encode_size, parse_header
from fusecrypt.tree.headers import (
    Found,
    find_header,
    new_header,
    read_xattr,
    unlock,
    write_header,
    write_size,
)
from fusecrypt.tree.nodes import stale
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.raw import LowerFile, RawFile, read_lower
from fusecrypt.tree.view import ViewFile

FILL_BUDGET = 16 << 20
"""Octets of encrypted zeros written in one native call."""


class OpenFile(Protocol):
    """An open file seen decrypted. ``fd`` is the lower descriptor; sizes and offsets are upper octets."""

    fd: int
    writable: bool
    busy: bool
    """Set while requests for the file are in threads."""
    born: int | None
    """The modification time (ns) of a new file as the kernel was told it, until it is another one."""

    @property
    def lane(self) -> LaneFile | None:
        """What the express lane of a mount needs, if it may know the file."""
        ...

    @property
    def size(self) -> int: ...

    def read_into(self, buffer: memoryview, offset: int, n: int, nowait: bool = False) -> int:
        """Read up to ``n`` octets, cut at the end of the file; returns how many.

        Raises OSError: EIO where the lower file ends too early, and with ``nowait`` BlockingIOError
        instead of waiting for a disk.
        """
        ...

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of ``data``; a gap before ``offset`` is filled with encrypted zeros. Raises OSError."""
        ...

    def truncate(self, size: int) -> None:
        """Cut or extend (with encrypted zeros).

        Raises OSError; then size and contents are the old ones, or the file is cut all the same."""
        ...

    def adopt(self, fd: int) -> None:
        """Take a descriptor open for reading and writing in place of a read-only one."""
        ...

    def close(self) -> None: ...


class EncryptedFile(LowerFile):
    """A file with a header and a key, or an empty lower file that gets them with the first write."""

    _shared = False

    def __init__(self, fd: int, writable: bool, policy: Policy) -> None:
        self.lane = LaneFile()
        super().__init__(fd, writable)
        self._policy = policy
        self._key: FileKey | None = None
        self._found: Found | None = None
        self._data_offset = 0
        self._capacity_if_cut: int | None = None

    # What the lane has to know is kept where it sees it.

    @property
    def fd(self) -> int:
        return self.lane.fd

    @fd.setter
    def fd(self, fd: int) -> None:
        self.lane.fd = fd

    @property
    def busy(self) -> bool:
        return self.lane.busy

    @busy.setter
    def busy(self, busy: bool) -> None:
        self.lane.busy = busy

    @property
    def born(self) -> int | None:
        return self.lane.born

    @born.setter
    def born(self, mtime_ns: int | None) -> None:
        self.lane.born = mtime_ns

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
        if size > MAX_SIZE:
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
        self.lane.close()
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

    def _check_room(self, size: int) -> None:
        """Refuse a size that cannot fit before filling the disk with it: the format has no holes.

        Raises OSError: EFBIG if the lower file system could not hold it when empty, or has no files of that
        size, ENOSPC if it has not the room now.
        """
        gap = size - self._size
        if gap <= FILL_BUDGET:
            return
        room = os.fstatvfs(self.fd)
        if room.f_blocks and size > room.f_blocks * room.f_frsize:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        try:  # nothing goes by the position
            os.lseek(self.fd, lower_size(size, self._data_offset), os.SEEK_SET)
        except OSError:  # EINVAL: no file here has an octet there
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from None
        if room.f_blocks and gap // EXTENT * EXTENT > room.f_bfree * room.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SharedFile(EncryptedFile):
    """The same where others write the lower file too: each request goes by what the header says then.

    Two that write the same extent at the same moment, or one that reads it, are not kept apart.
    """

    _shared = True

    @property
    def size(self) -> int:
        self._refresh()
        return self._size

    def read_into(self, buffer: memoryview, offset: int, n: int, nowait: bool = False) -> int:
        self._refresh(nowait)
        while True:
            size = self._size
            try:
                return super().read_into(buffer, offset, n, nowait)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._refresh(nowait)
                if self._size == size:
                    raise  # it was not cut by others between the look and the read

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._refresh()
        super().write(offset, data)

    def truncate(self, size: int) -> None:
        self._refresh()
        super().truncate(size)

    def _refresh(self, nowait: bool = False) -> None:
        """Look at the header again. Raises OSError: ESTALE if it is no longer the one of this file."""
        if self._found is None:
            with suppress(NotEcryptfsError):  # still empty
                found = find_header(self.fd)
                self.use(found, unlock(found.header, self._policy))
            return
        now, known = self._header_now(self._found, nowait), encode_size(self._size)
        if now[len(known) :] != self._found.octets[len(known) :]:
            raise stale()
        if now[: len(known)] != known:
            self._take_size(parse_header(now).size)

    def _header_now(self, found: Found, nowait: bool) -> bytes:
        if found.in_xattr:
            return read_xattr(self.fd) or b""
        octets = bytearray(len(found.octets))
        return bytes(octets[: read_lower(self.fd, memoryview(octets), 0, nowait)])


def encrypted_file(fd: int, writable: bool, policy: Policy) -> EncryptedFile:
    """A file without header and key yet. Beside a read-only mount others may always write."""
    kind = SharedFile if policy.shared or policy.read_only else EncryptedFile
    return kind(fd, writable, policy)


def open_file(fd: int, writable: bool, policy: Policy) -> OpenFile:
    """The file behind an open lower descriptor, which it takes over if it succeeds.

    Raises NotEcryptfsError, FormatError, DamagedError or KeyNotFoundError (all EIO through FUSE) unless
    the policy passes such files through.
    """
    if policy.encrypted_view:
        return ViewFile(fd)
    file = encrypted_file(fd, writable, policy)
    try:
        found = find_header(fd)
        file.use(found, unlock(found.header, policy))
    except (FormatError, KeyNotFoundError, DamagedError) as error:
        if policy.passthrough:
            return RawFile(fd, writable)
        if isinstance(error, NotEcryptfsError) and os.fstat(fd).st_size == 0:
            return file
        raise
    return file
