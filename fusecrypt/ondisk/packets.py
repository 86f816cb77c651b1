"""The packets of a header: tag 3 with tag 11 (passphrase-style keys) and tag 1 (public keys).

Layouts follow RFC 2440's shape with eCryptfs's contents. Anything malformed makes the whole header
unusable, as in the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusecrypt.errors import FormatError
from fusecrypt.ondisk.ciphers import AES, BY_CODE, CipherChoice

TAG_1 = 0x01
TAG_3 = 0x8C
TAG_11 = 0xED

MAX_WRAPPED_FEK = 64
"""Recent kernels refuse a longer encrypted FEK."""
MAX_PUBLIC_WRAPPED = 512

_S2K_VERSION = 4
_S2K_ITERATED_SALTED = 3
_HASH_MD5 = 1  # what the field says; the real derivation is SHA-512
_ITERATIONS_65536 = 0x60
_BEFORE_WRAPPED_FEK = 13  # octets of a tag 3 body
_TAG_11_HEAD = b"\x62\x08_CONSOLE\0\0\0\0"
_TAG_11_BODY = len(_TAG_11_HEAD) + 8
_TAG_1_VERSION = 3
_TAG_1_RSA = 1


@dataclass(frozen=True)
class PassphrasePacket:
    """A tag 3 and its tag 11: the FEK encrypted with the FEKEK that ``signature`` (8 octets) names."""

    cipher: CipherChoice
    wrapped_fek: bytes
    signature: bytes
    salt: bytes

    @property
    def wrapped_at(self) -> int:
        """Where the encrypted FEK stands in the packet's octets."""
        body = _BEFORE_WRAPPED_FEK + len(self.wrapped_fek)
        return 1 + len(encode_length(body)) + _BEFORE_WRAPPED_FEK

    def encode(self) -> bytes:
        body = bytes([_S2K_VERSION, self.cipher.code, _S2K_ITERATED_SALTED, _HASH_MD5])
        body += self.salt + bytes([_ITERATIONS_65536]) + self.wrapped_fek
        return (
            bytes([TAG_3])
            + encode_length(len(body))
            + body
            + bytes([TAG_11, _TAG_11_BODY])
            + _TAG_11_HEAD
            + self.signature
        )


@dataclass(frozen=True)
class PublicKeyPacket:
    """A tag 1: the FEK under a public key of ecryptfsd. Recognised and named; it cannot be opened here."""

    wrapped_fek: bytes
    signature: bytes

    def encode(self) -> bytes:
        body = bytes([_TAG_1_VERSION]) + self.signature + bytes([_TAG_1_RSA]) + self.wrapped_fek
        return bytes([TAG_1]) + encode_length(len(body)) + body


Packet = PassphrasePacket | PublicKeyPacket


def encode_length(n: int) -> bytes:
    """A body length: one octet to 191, two to 8383. Raises ValueError for any other."""
    if 0 <= n < 192:
        return bytes([n])
    if 192 <= n <= 8383:
        return bytes([((n - 192) >> 8) + 192, (n - 192) & 0xFF])
    raise ValueError(f"a packet body of {n} octets has no length encoding")


def decode_length(data: bytes, at: int) -> tuple[int, int]:
    """The length that starts at ``at``, and where its body starts. Raises FormatError."""
    if at >= len(data):
        raise FormatError("a packet is cut short in its length")
    first = data[at]
    if first < 192:
        return first, at + 1
    if first >= 224:
        raise FormatError(f"a packet has the unsupported length octet {first:#04x}")
    if at + 1 >= len(data):
        raise FormatError("a packet is cut short in its length")
    return ((first - 192) << 8) + data[at + 1] + 192, at + 2


def parse_packets(data: bytes) -> tuple[Packet, ...]:
    """All packets up to an octet that is no tag, or the end. Raises FormatError if one is malformed."""
    packets: list[Packet] = []
    at = 0
    while at < len(data):
        if data[at] == TAG_3:
            packet, at = _parse_tag_3_and_11(data, at)
            packets.append(packet)
        elif data[at] == TAG_1:
            public, at = _parse_tag_1(data, at)
            packets.append(public)
        elif data[at] == TAG_11:
            raise FormatError("a tag 11 packet stands alone")
        else:
            break
    return tuple(packets)


def _body(data: bytes, at: int, tag: str) -> tuple[bytes, int]:
    length, start = decode_length(data, at + 1)
    if start + length > len(data):
        raise FormatError(f"a {tag} packet is cut short")
    return data[start : start + length], start + length


def _parse_tag_3_and_11(data: bytes, at: int) -> tuple[PassphrasePacket, int]:
    body, after = _body(data, at, "tag 3")
    if not _BEFORE_WRAPPED_FEK < len(body) <= _BEFORE_WRAPPED_FEK + MAX_WRAPPED_FEK:
        raise FormatError(f"a tag 3 packet of {len(body)} octets holds no usable key")
    if body[0] != _S2K_VERSION or body[2] != _S2K_ITERATED_SALTED or body[3] != _HASH_MD5:
        raise FormatError("a tag 3 packet is of an unknown kind")
    wrapped = body[_BEFORE_WRAPPED_FEK:]
    cipher = _cipher_of(body[1], len(wrapped))
    if after >= len(data) or data[after] != TAG_11:
        raise FormatError("a tag 3 packet lacks the tag 11 packet that names its key")
    literal, end = _body(data, after, "tag 11")
    if len(literal) != _TAG_11_BODY or literal[:2] != _TAG_11_HEAD[:2]:
        raise FormatError("a tag 11 packet is malformed")
    return PassphrasePacket(cipher, wrapped, literal[-8:], body[4:12]), end


def _cipher_of(code: int, wrapped_size: int) -> CipherChoice:
    """The key size comes from the encrypted FEK's length; only AES-192's code says its own."""
    spec = BY_CODE.get(code)
    if spec is None:
        raise FormatError(f"unknown cipher code {code:#04x}")
    choice = CipherChoice(spec, 24 if code == AES.codes[24] else wrapped_size)
    if choice.key_bytes not in spec.codes or choice.wrapped_fek_size != wrapped_size:
        raise FormatError(f"an encrypted key of {wrapped_size} octets does not fit cipher {spec.name}")
    return choice


def _parse_tag_1(data: bytes, at: int) -> tuple[PublicKeyPacket, int]:
    body, end = _body(data, at, "tag 1")
    if not 10 < len(body) <= 10 + MAX_PUBLIC_WRAPPED or body[0] != _TAG_1_VERSION:
        raise FormatError("a tag 1 packet is malformed")
    return PublicKeyPacket(body[10:], body[1:9]), end
