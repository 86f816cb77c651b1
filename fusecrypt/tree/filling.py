"""The zeros with which a file's last extent is filled up before it is encrypted.

No other key gives them back, so they tell what the format has no check value for: whether a content key is
the one that a tree's files are encrypted with.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from fusecrypt.errors import FormatError, FusecryptError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import FileKey
from fusecrypt.ondisk.extents import EXTENT, round_up
from fusecrypt.ondisk.packets import PassphrasePacket
from fusecrypt.tree.headers import Found, find_header
from fusecrypt.tree.place import LocalEntry, LocalPlace
from fusecrypt.tree.survey import DEEPEST

_TELLING = 16
"""Files that can tell, after which no more are asked. Some may be damaged; one that opens is proof enough."""

_FILES = 4096
_LEAST = 16
"""Octets of zeros, which another key gives for one file in 2^128."""


def opens_files(place: LocalPlace, token: AuthToken) -> bool | None:
    """Whether the files that name the token's signature open with its key; None if none of them can tell.

    Where none has contents there is nothing that another key could not open. What cannot be read, or is
    beyond the files that are looked at, might have some.
    """
    silent, denied = False, 0
    for looked, fd in enumerate(_files(place), 1):
        verdicts = [None] if fd is None else _verdicts(fd, token)
        if True in verdicts:
            return True
        silent = silent or None in verdicts or looked == _FILES
        denied += len(verdicts) - verdicts.count(None)
        if looked == _FILES or denied == _TELLING:
            break
    if denied:
        return False
    return None if silent else True


def _files(place: LocalPlace) -> Iterator[int | None]:
    """Descriptors of all regular files, to be closed; None for what cannot be opened, such as a directory."""
    queue: deque[tuple[bytes, ...]] = deque([()])
    while queue:
        path = queue.popleft()
        try:
            with place.directory(path) as entries:
                for entry in entries:
                    if entry.is_directory and len(path) < DEEPEST:
                        queue.append((*path, entry.name))
                    elif entry.is_regular:
                        yield _opened(entry)
        except OSError:
            yield None


def _opened(entry: LocalEntry) -> int | None:
    try:
        return entry.open()
    except OSError:
        return None


def _verdicts(fd: int, token: AuthToken) -> list[bool | None]:
    """What a file with contents tells, None if nothing; its descriptor is closed."""
    try:
        found = find_header(fd)
        packets = [each for each in found.header.passphrase_packets if each.signature == token.signature]
        if not packets or found.header.size == 0:
            return []
        return [None if -found.header.size % EXTENT < _LEAST else _is_filled(fd, found, packets[-1], token)]
    except FormatError:  # no file of a tree
        return []
    except (OSError, FusecryptError):
        return [None]
    finally:
        os.close(fd)


def _is_filled(fd: int, found: Found, packet: PassphrasePacket, token: AuthToken) -> bool:
    cipher = packet.cipher
    key = FileKey.unwrap(cipher.code, cipher.key_bytes, token.key, packet.wrapped_fek)
    return not any(filling(fd, found, key))


def filling(fd: int, found: Found, key: FileKey) -> bytearray:
    """What the last extent holds after the end of a file; the key is closed. Raises OSError, DamagedError."""
    size = found.header.size
    buffer = bytearray(EXTENT)
    try:
        key.read(fd, found.data_offset, round_up(size), size // EXTENT * EXTENT, buffer, EXTENT)
    finally:
        key.close()
    return buffer[size % EXTENT :]
