"""POSIX ACLs from the form of their extended attribute to text."""

from __future__ import annotations

import struct

_HEADER = 4
_ENTRY = struct.Struct("<HHI")
_TAGS = {0x01: "user:", 0x02: "user:{}", 0x04: "group:", 0x08: "group:{}", 0x10: "mask:", 0x20: "other:"}


def acl_text(value: bytes) -> str:
    """``user::rw-,user:1000:r--,group::r--,mask::r--,other::---``; unknown entries are left out."""
    entries = _ENTRY.iter_unpack(value[_HEADER : len(value) - (len(value) - _HEADER) % _ENTRY.size])
    return ",".join(f"{_TAGS[tag].format(who)}:{_bits(bits)}" for tag, bits, who in entries if tag in _TAGS)


def _bits(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
