"""From upper names to lower names and back, for one tree."""

from __future__ import annotations

import errno
from typing import Protocol

from fusecrypt.errors import FormatError, NameTooLongError
from fusecrypt.native import Cipher, name_prefix
from fusecrypt.ondisk import names
from fusecrypt.ondisk.names import NamePacket
from fusecrypt.tree.policy import NamePolicy

_CACHE_LIMIT = 65536
"""Names kept each way; the whole cache is dropped when it is full."""
_LONGEST_FILLING = 31


class NameCodec(Protocol):
    """Names of one tree. ``decode`` gives None for a lower name that is not shown."""

    def encode(self, name: bytes) -> bytes:
        """Raises OSError (EINVAL) for what is no name, such as ``..``; NameTooLongError."""
        ...

    def decode(self, lower: bytes) -> bytes | None: ...

    def encode_target(self, target: bytes) -> bytes: ...

    def decode_target(self, lower: bytes) -> bytes: ...

    def longest(self, limit: int) -> int: ...

    @property
    def plain(self) -> bool: ...


def _checked(name: bytes) -> bytes:
    """One name, which cannot lead out of its directory. Raises OSError."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise OSError(errno.EINVAL, "not a file name")
    return name


class PlainNames:
    """Names and targets as they are."""

    plain = True

    def encode(self, name: bytes) -> bytes:
        return _checked(name)

    def decode(self, lower: bytes) -> bytes | None:
        return lower

    def encode_target(self, target: bytes) -> bytes:
        return target

    def decode_target(self, lower: bytes) -> bytes:
        return lower

    def longest(self, limit: int) -> int:
        return limit


class EncryptedNames:
    """Names under an FNEK. Lower names that would not be found again by their upper name (foreign ones,
    other FNEKs, not the form that we and the kernel write) decode to None."""

    plain = False

    def __init__(self, policy: NamePolicy) -> None:
        self._signature = policy.token.signature
        self._choice = policy.cipher
        self._cipher = Cipher(policy.cipher.code, policy.cipher.key_bytes, policy.token.key)
        self._filling = name_prefix(policy.token.key, _LONGEST_FILLING)
        self._lower: dict[bytes, bytes] = {}
        self._upper: dict[bytes, bytes | None] = {}

    def encode(self, name: bytes) -> bytes:
        lower = self._lower.get(name)
        if lower is None:
            lower = self.encode_target(_checked(name))
            if len(self._lower) >= _CACHE_LIMIT:
                self._lower.clear()
            self._lower[name] = lower
        return lower

    def decode(self, lower: bytes) -> bytes | None:
        try:
            return self._upper[lower]
        except KeyError:
            name = self._decode(lower)
            if len(self._upper) >= _CACHE_LIMIT:
                self._upper.clear()
            self._upper[lower] = name
            return name

    def _decode(self, lower: bytes) -> bytes | None:
        try:
            name = names.check_component(self.decode_target(lower))
        except FormatError:
            return None
        return name if self.encode(name) == lower else None

    def encode_target(self, target: bytes) -> bytes:
        filling = self._filling[: names.fill_size(len(target), self._choice.spec.block)]
        ciphertext = self._cipher.encrypt(names.pad_name(target, filling))
        try:
            return names.encode_name(NamePacket(self._signature, self._choice.code, ciphertext))
        except ValueError:
            raise NameTooLongError(f"{len(target)} octets cannot be encrypted as a name") from None

    def decode_target(self, lower: bytes) -> bytes:
        """Raises FormatError if ``lower`` was not encrypted with this tree's FNEK and cipher."""
        packet = names.decode_name(lower)
        if packet.signature != self._signature or packet.code != self._choice.code:
            raise FormatError("the name is encrypted with another key or cipher")
        if len(packet.ciphertext) % self._choice.spec.block:
            raise FormatError("the encrypted name is cut short")
        return names.unpad_name(self._cipher.decrypt(packet.ciphertext))

    def longest(self, limit: int) -> int:
        return names.longest_name(limit, self._choice.spec.block)


def name_codec(policy: NamePolicy | None) -> NameCodec:
    """The codec for a tree's name policy."""
    return PlainNames() if policy is None else EncryptedNames(policy)
