"""What encrypts extents on this machine."""

from __future__ import annotations

from fusecrypt._native import ffi, lib
from fusecrypt.native.base import EXTENT_BYTES, Buffer, Room, check


def engine() -> str:
    """Return what encrypts AES extents in this process, "ipsec-mb" or "portable"."""
    name: bytes = ffi.string(lib.fc_engine())
    return name.decode()


def set_engine(name: str) -> None:
    """Choose the engine; OSError with ENOTSUP if this build or CPU lacks it, EINVAL for other names."""
    check(lib.fc_set_engine(name.encode()))


def raw_cbc(key_bytes: int, decrypt: bool, data: Buffer, result: Room, rounds: int) -> None:
    """AES-CBC of whole extents, ``rounds`` times, by ipsec-mb alone: the machine's limit, for measuring.

    Key (16, 24 or 32 octets) and IVs are zeros. Raises OSError with ENOTSUP without the library.
    """
    count = len(data) // EXTENT_BYTES
    source, out = ffi.from_buffer("uint8_t[]", data), ffi.from_buffer("uint8_t[]", result)
    if not 0 < count * EXTENT_BYTES <= len(out):
        raise ValueError("no whole extents, or no room for them")
    check(lib.fc_raw_cbc(key_bytes, decrypt, source, out, count, rounds))
