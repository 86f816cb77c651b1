"""Encrypted names in plain Python: what strangers could write, and what the native part must agree with."""

from __future__ import annotations

import binascii

from fusecrypt.errors import FormatError, UndecodableNameError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import Cipher, name_prefix
from fusecrypt.ondisk.ciphers import CipherChoice
from fusecrypt.ondisk.names import PREFIX, TAG_70, NamePacket, decode_name
from fusecrypt.ondisk.packets import encode_length

ALPHABET = b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TO_TEXT = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", ALPHABET)


def encode_text(octets: bytes) -> bytes:
    """Three octets to four characters; the last group is filled up with zero octets."""
    padded = octets + bytes(-len(octets) % 3)
    return binascii.b2a_base64(padded, newline=False).translate(_TO_TEXT)


def encode_name(packet: NamePacket) -> bytes:
    """The lower name that carries ``packet``. Raises ValueError if it is too long."""
    body = packet.signature + bytes([packet.code]) + packet.ciphertext
    return PREFIX + encode_text(bytes([TAG_70]) + encode_length(len(body)) + body)


def fill_size(length: int, block: int) -> int:
    """Octets of filling before a name of ``length`` octets: 16, and more up to whole blocks."""
    return 16 + -(17 + length) % block


def seal(token: AuthToken, choice: CipherChoice, plaintext: bytes) -> bytes:
    """A lower name with any plaintext of whole blocks."""
    ciphertext = Cipher(choice.code, choice.key_bytes, token.key).encrypt(plaintext)
    return encode_name(NamePacket(token.signature, choice.code, ciphertext))


def encode(token: AuthToken, choice: CipherChoice, upper: bytes) -> bytes:
    """The lower name of ``upper``. Raises ValueError if it is too long."""
    filling = name_prefix(token.key, fill_size(len(upper), choice.spec.block))
    return seal(token, choice, filling + b"\0" + upper)


def decode_target(token: AuthToken, choice: CipherChoice, lower: bytes) -> bytes:
    """The reverse, whatever the filling. Raises FormatError."""
    packet = decode_name(lower)
    if (packet.signature, packet.code) != (token.signature, choice.code):
        raise UndecodableNameError("another key or cipher")
    if len(packet.ciphertext) % choice.spec.block:
        raise UndecodableNameError("no whole blocks")
    plaintext = Cipher(choice.code, choice.key_bytes, token.key).decrypt(packet.ciphertext)
    _, zero, name = plaintext.partition(b"\0")
    if not zero or not name or b"\0" in name:
        raise UndecodableNameError("no name")
    return name


def decode(token: AuthToken, choice: CipherChoice, lower: bytes) -> bytes | None:
    """The name of a directory entry, or None if a lookup would not find it or it is none."""
    try:
        name = decode_target(token, choice, lower)
    except FormatError:
        return None
    if name in (b".", b"..") or b"/" in name or encode(token, choice, name) != lower:
        return None
    return name
