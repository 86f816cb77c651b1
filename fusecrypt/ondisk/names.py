"""Encrypted names without their key: tag 70 packets in eCryptfs's own base-64 text behind a fixed prefix.

A name is encrypted on its own, in ECB (whatever the kernel's comments say), after a filling derived from
the FNEK; equal names therefore have equal lower names everywhere in a tree. Symlink targets are encrypted
whole, by the same procedure (native/names.c).
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from fusecrypt.errors import UndecodableNameError
from fusecrypt.ondisk.packets import decode_length

PREFIX = b"ECRYPTFS_FNEK_ENCRYPTED."
TAG_70 = 0x46

_ALPHABET = b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FROM_TEXT = bytes.maketrans(_ALPHABET, _BASE64)


@dataclass(frozen=True)
class NamePacket:
    """A tag 70 packet: which FNEK (8-octet signature), which cipher code, and the encrypted name."""

    signature: bytes
    code: int
    ciphertext: bytes


def decode_text(text: bytes) -> bytes:
    """Four characters to three octets; those that the last four lack count as zero bits.

    Raises UndecodableNameError for a foreign character.
    The kernel reads those as zero bits, lists such a name and then cannot find it.
    """
    if text.translate(None, _ALPHABET):
        raise UndecodableNameError("the lower name has characters that no encrypted name has")
    return binascii.a2b_base64(text.translate(_FROM_TEXT) + b"A" * (-len(text) % 4))


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
