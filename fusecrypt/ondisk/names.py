"""Encrypted names: tag 70 packets in eCryptfs's own base-64 text behind a fixed prefix.

A name is encrypted on its own, in ECB (whatever the kernel's comments say), after a filling derived from
the FNEK; equal names therefore have equal lower names everywhere in a tree. Symlink targets are encrypted
whole, by the same procedure.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from fusecrypt.errors import UndecodableNameError
from fusecrypt.ondisk.packets import decode_length, encode_length

PREFIX = b"ECRYPTFS_FNEK_ENCRYPTED."
TAG_70 = 0x46
MINIMUM_FILL = 16
"""Octets of filling before the name; more where the block size asks for it."""

_ALPHABET = b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_TEXT = bytes.maketrans(_BASE64, _ALPHABET)
_FROM_TEXT = bytes.maketrans(_ALPHABET, _BASE64)


@dataclass(frozen=True)
class NamePacket:
    """A tag 70 packet: which FNEK (8-octet signature), which cipher code, and the encrypted name."""

    signature: bytes
    code: int
    ciphertext: bytes


def fill_size(length: int, block: int) -> int:
    """Octets of filling before a name of ``length`` octets, so that whole blocks result."""
    return MINIMUM_FILL + -(MINIMUM_FILL + 1 + length) % block


def lower_length(length: int, block: int) -> int:
    """Octets of the lower name of an upper name of ``length`` octets under a cipher of that block size."""
    body = 8 + 1 + fill_size(length, block) + 1 + length
    octets = 1 + len(encode_length(body)) + body
    return len(PREFIX) + 4 * -(-octets // 3)


def longest_name(limit: int, block: int) -> int:
    """The longest upper name whose lower name has at most ``limit`` octets (143 for 255), or 0."""
    length = limit * 3 // 4
    while length > 0 and lower_length(length, block) > limit:
        length -= 1
    return length


def encode_text(octets: bytes) -> bytes:
    """Three octets to four characters; the last group is filled up with zero octets."""
    padded = octets + bytes(-len(octets) % 3)
    return binascii.b2a_base64(padded, newline=False).translate(_TO_TEXT)


def decode_text(text: bytes) -> bytes:
    """The reverse; bits left over are dropped. Raises UndecodableNameError for a foreign character.

    The kernel reads foreign characters as zero bits, lists such a name and then cannot find it.
    """
    if text.translate(None, _ALPHABET):
        raise UndecodableNameError("the lower name has characters that no encrypted name has")
    return binascii.a2b_base64(text.translate(_FROM_TEXT) + b"A" * (-len(text) % 4))


def encode_name(packet: NamePacket) -> bytes:
    """The lower name (or symlink target) that carries ``packet``."""
    body = packet.signature + bytes([packet.code]) + packet.ciphertext
    return PREFIX + encode_text(bytes([TAG_70]) + encode_length(len(body)) + body)


def decode_name(lower: bytes) -> NamePacket:
    """Take a lower name apart. Raises FormatError (UndecodableNameError if it is no encrypted name)."""
    if not lower.startswith(PREFIX) or len(lower) == len(PREFIX):
        raise UndecodableNameError("not an encrypted name")
    octets = decode_text(lower[len(PREFIX) :])
    if octets[0] != TAG_70:
        raise UndecodableNameError("the encrypted name holds no tag 70 packet")
    length, start = decode_length(octets, 1)
    body = octets[start : start + length]
    if length < 10 or len(body) < length:
        raise UndecodableNameError("the encrypted name is cut short")
    return NamePacket(body[:8], body[8], body[9:])


def pad_name(name: bytes, filling: bytes) -> bytes:
    """What is encrypted: the filling (``fill_size`` octets), a zero octet, the name."""
    return filling + b"\0" + name


def unpad_name(plaintext: bytes) -> bytes:
    """The name behind the first zero octet. Raises UndecodableNameError if there is none."""
    filling, zero, name = plaintext.partition(b"\0")
    del filling
    if not zero or not name or b"\0" in name:
        raise UndecodableNameError("the encrypted name holds no name")
    return name


def check_component(name: bytes) -> bytes:
    """Refuse what cannot stand in a directory (UndecodableNameError): names come from strangers."""
    if name in (b".", b"..") or b"/" in name:
        raise UndecodableNameError("the encrypted name is no file name")
    return name
