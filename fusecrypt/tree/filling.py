"""The zeros with which a file's last extent is filled up before it is encrypted.

No other key gives them back, so they tell what the format has no check value for: whether a content key is
the one that a tree's files are encrypted with.
"""

from __future__ import annotations

import os
from collections import deque

from fusecrypt.errors import FusecryptError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import FileKey
from fusecrypt.ondisk.extents import EXTENT, round_up
from fusecrypt.tree.headers import Found, find_header
from fusecrypt.tree.place import LocalPlace
from fusecrypt.tree.survey import DEEPEST

_TELLING = 16
"""Files that can tell, after which no more are asked: some may be damaged, so the most of them decide."""

_FILES = 4096
_LEAST = 16
"""Octets of zeros, which another key gives for one file in 2^128."""


def opens_files(place: LocalPlace, token: AuthToken) -> bool | None:
    """Whether the files that name the token's signature open with its key; None if none of them can tell.

    Where none has contents there is nothing that another key could not open. What cannot be read is passed
    over.
    """
    looked = silent = 0
    told: list[bool] = []
    queue: deque[tuple[bytes, ...]] = deque([()])
    while queue and len(told) < _TELLING and looked < _FILES:
        path = queue.popleft()
        try:
            with place.directory(path) as entries:
                for entry in entries:
                    if entry.is_directory and len(path) < DEEPEST:
                        queue.append((*path, entry.name))
                    elif entry.is_regular and len(told) < _TELLING:
                        verdicts = _verdicts(entry.open(), token)
                        looked, silent = looked + 1, silent + verdicts.count(None)
                        told += [verdict for verdict in verdicts if verdict is not None]
        except OSError:
            continue
    if told:
        return 2 * sum(told) > len(told)
    return None if silent else True


def _verdicts(fd: int, token: AuthToken) -> list[bool | None]:
    """What a file with contents tells, None if nothing; its descriptor is closed."""
    try:
        found = find_header(fd)
        packets = [each for each in found.header.passphrase_packets if each.signature == token.signature]
        if not packets or found.header.size == 0:
            return []
        if -found.header.size % EXTENT < _LEAST:
            return [None]
        cipher, wrapped = packets[-1].cipher, packets[-1].wrapped_fek
        key = FileKey.unwrap(cipher.code, cipher.key_bytes, token.key, wrapped)
        return [not any(filling(fd, found, key))]
    except (OSError, FusecryptError):
        return []
    finally:
        os.close(fd)


def filling(fd: int, found: Found, key: FileKey) -> bytearray:
    """What the last extent holds after the end of a file; the key is closed. Raises OSError, DamagedError."""
    size = found.header.size
    buffer = bytearray(EXTENT)
    try:
        key.read(fd, found.data_offset, round_up(size), size // EXTENT * EXTENT, buffer, EXTENT)
    finally:
        key.close()
    return buffer[size % EXTENT :]
