"""Open files, and which kind of them a lower file is.

There is one object for each open lower inode, however many handles and hard links share it, so that all
writers know the same size and key. Objects are not locked: a caller with several threads lets writes and
truncations run alone (reads may run beside reads).
"""

from __future__ import annotations

import os
from typing import Protocol

from fusecrypt.errors import DamagedError, FormatError, KeyNotFoundError, NotEcryptfsError
from fusecrypt.lanefile import LaneFile
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.headers import find_header, unlock
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.raw import RawFile
from fusecrypt.tree.shared import SharedFile
from fusecrypt.tree.view import ViewFile


class OpenFile(Protocol):
    """An open file seen decrypted. ``fd`` is the lower descriptor; sizes and offsets are upper octets."""

    fd: int
    writable: bool
    busy: bool
    """Set while requests for the file are in threads."""
    born: int | None
    """The modification time (ns) of a new file as the kernel was told it, until it is another one."""

    @property
    def lane(self) -> LaneFile:
        """What the express lane of a mount knows of it."""
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
