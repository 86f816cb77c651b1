"""The header of a lower file: size, marker, flags, header extents, packets.

It stands in the first 8192 octets of the lower file, or (xattr metadata) without its zero fill in the
extended attribute ``user.ecryptfs``. Only the first 4096 octets are ever looked at. After creation only
the size field changes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fusecrypt.errors import FormatError, NotEcryptfsError
from fusecrypt.ondisk.packets import Packet, PassphrasePacket, parse_packets

XATTR_NAME = "user.ecryptfs"
MARKER_XOR = 0x3C81B7F5
VERSION = 3
READ_SIZE = 4096
"""Octets of a lower file (or attribute) in which the header has to end."""
MINIMUM_REGION = 8192
MAX_SIZE = 2**63 - 1 - 2**49
"""The largest upper size taken for real: with any header region before it, it still fits off_t."""

FLAG_ENCRYPTED = 0x000002
FLAG_XATTR = 0x000004
FLAG_NAMES = 0x000008

_FIXED = struct.Struct(">QIIIIH")  # size, marker, marker, version and flags, extent size, extents
_SHORT = struct.Struct(">QIII")  # version 0 has no extent fields


@dataclass(frozen=True)
class Header:
    """A parsed header. ``size`` is the upper file's, in octets; ``extent_size`` * ``extents`` is the
    length of the header region; ``marker`` is the random first half of the marker."""

    size: int
    marker: int
    packets: tuple[Packet, ...]
    flags: int = FLAG_ENCRYPTED
    version: int = VERSION
    extent_size: int = 4096
    extents: int = 2

    @property
    def region(self) -> int:
        """Octets before the first extent when the header is in the file's contents."""
        return self.extent_size * self.extents

    @property
    def passphrase_packets(self) -> tuple[PassphrasePacket, ...]:
        return tuple(p for p in self.packets if isinstance(p, PassphrasePacket))

    def fek_places(self) -> list[int]:
        """Where the encrypted FEK of each passphrase packet stands in the header's octets."""
        places, at = [], _FIXED.size
        for packet in self.packets:
            if isinstance(packet, PassphrasePacket):
                places.append(at + packet.wrapped_at)
            at += len(packet.encode())
        return places

    def encode(self) -> bytes:
        """The header without its zero fill, as version 3: what an xattr holds."""
        packets = b"".join(packet.encode() for packet in self.packets)
        fixed = _FIXED.pack(
            self.size,
            self.marker,
            self.marker ^ MARKER_XOR,
            VERSION << 24 | self.flags,
            self.extent_size,
            self.extents,
        )
        if len(fixed) + len(packets) > READ_SIZE:
            raise FormatError("the packets of so many keys do not fit the header")
        return fixed + packets

    def encode_region(self) -> bytes:
        """The whole header region, zero-filled: what a lower file starts with."""
        return self.encode().ljust(self.region, b"\0")


def encode_size(size: int) -> bytes:
    """The size field: the first 8 octets of a header, the only ones that change later."""
    return size.to_bytes(8, "big")


def peek_size(data: bytes) -> int | None:
    """The size that the first octets of a lower file say, also where the rest of the header is unusable; None
    without a marker, or for a size that no file can have."""
    if len(data) < _SHORT.size:
        return None
    size, marker, check, _ = _SHORT.unpack_from(data)
    return size if marker ^ check == MARKER_XOR and size <= MAX_SIZE else None


def parse_header(data: bytes) -> Header:
    """Parse the first octets of a lower file or the value of the attribute.

    Raises NotEcryptfsError if the marker is absent, FormatError if the rest is not usable.
    """
    data = data[:READ_SIZE]
    if len(data) < _SHORT.size:
        raise NotEcryptfsError("too short for an eCryptfs header")
    size, marker, check, word = _SHORT.unpack_from(data)
    if marker ^ check != MARKER_XOR:
        raise NotEcryptfsError("no eCryptfs marker")
    version, flags = word >> 24, word & 0xFFFFFF
    if version > VERSION:
        raise FormatError(f"header version {version} is newer than {VERSION}")
    if size > MAX_SIZE:
        raise FormatError(f"the size field says {size} octets, which no file can have")
    if version == 0:
        return Header(size, marker, parse_packets(data[_SHORT.size :]), flags, version)
    if len(data) < _FIXED.size:
        raise FormatError("the header is cut short")
    extent_size, extents = struct.unpack_from(">IH", data, _SHORT.size)
    packets = parse_packets(data[_FIXED.size :])
    return Header(size, marker, packets, flags, version, extent_size, extents)
