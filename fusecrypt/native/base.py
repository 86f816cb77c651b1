"""What all of the native module has in common: sizes in octets, shapes of buffers, failures."""

from __future__ import annotations

import os

from fusecrypt._native import lib

EXTENT_BYTES: int = lib.FC_EXTENT
KEY_BYTES: int = lib.FC_KEY
SALT_BYTES: int = lib.FC_SALT
SIGNATURE_BYTES: int = lib.FC_SIGNATURE

Buffer = bytes | bytearray | memoryview
Room = bytearray | memoryview


def check(result: int) -> int:
    """Raise what a negative return stands for."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
