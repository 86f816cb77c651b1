"""Files that others write too."""

from __future__ import annotations

import errno
from contextlib import suppress

from fusecrypt.errors import NotEcryptfsError, stale
from fusecrypt.ondisk.header import encode_size, parse_header
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.headers import Found, find_header, read_xattr, unlock
from fusecrypt.tree.raw import read_lower


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
