"""From upper names to lower names and back, for one tree."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from fusecrypt.errors import NameTooLongError, UndecodableNameError
from fusecrypt.native import Names
from fusecrypt.tree.policy import NamePolicy


class NameCodec(Protocol):
    """Names of one tree. ``decode`` gives None for a lower name that is not shown."""

    def encode(self, name: bytes) -> bytes:
        """Raises OSError (EINVAL) for what is no name, such as ``..``; NameTooLongError."""
        ...

    def spellings(self, name: bytes) -> Iterable[bytes]:
        """The lower names by which it may be found; raises as ``encode``."""
        ...

    def decode(self, lower: bytes) -> bytes | None: ...

    def encode_target(self, target: bytes) -> bytes: ...

    def decode_target(self, lower: bytes) -> bytes: ...

    def longest(self, limit: int) -> int: ...

    @property
    def plain(self) -> bool: ...

    @property
    def natives(self) -> tuple[Names, ...]:
        """What encrypts names in native code, in the order of ``spellings``; none where they are plain."""
        ...


def _checked(name: bytes) -> bytes:
    """One name, which cannot lead out of its directory. Raises OSError."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise OSError(errno.EINVAL, "not a file name")
    return name


class PlainNames:
    """Names and targets as they are."""

    plain = True
    natives: tuple[Names, ...] = ()

    def encode(self, name: bytes) -> bytes:
        return _checked(name)

    def spellings(self, name: bytes) -> Iterable[bytes]:
        return (_checked(name),)

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
        token, cipher = policy.token, policy.cipher
        self._names = Names(cipher.code, cipher.key_bytes, token.key, token.signature)

    @property
    def natives(self) -> tuple[Names, ...]:
        return (self._names,)

    def encode(self, name: bytes) -> bytes:
        return self.encode_target(_checked(name))

    def spellings(self, name: bytes) -> Iterable[bytes]:
        return (self.encode(name),)

    def decode(self, lower: bytes) -> bytes | None:
        return self._names.decode(lower)

    def encode_target(self, target: bytes) -> bytes:
        try:
            return self._names.encode(target)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise NameTooLongError(f"{len(target)} octets cannot be encrypted as a name") from None

    def decode_target(self, lower: bytes) -> bytes:
        """Raises UndecodableNameError if this tree's FNEK and cipher did not encrypt ``lower``."""
        try:
            return self._names.decode_target(lower)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise UndecodableNameError("not encrypted with the FNEK and cipher of this tree") from None

    def longest(self, limit: int) -> int:
        return self._names.longest(limit)


class SeveralNames(EncryptedNames):
    """Names under one of several FNEKs, as while a tree is rekeyed; ``policy`` is that of new ones."""

    def __init__(self, policy: NamePolicy, others: Sequence[NamePolicy]) -> None:
        super().__init__(policy)
        self._all = tuple(map(EncryptedNames, (policy, *others)))

    @property
    def natives(self) -> tuple[Names, ...]:
        return tuple(names for codec in self._all for names in codec.natives)

    def spellings(self, name: bytes) -> Iterable[bytes]:
        return (codec.encode(name) for codec in self._all)

    def decode(self, lower: bytes) -> bytes | None:
        return next((name for codec in self._all if (name := codec.decode(lower)) is not None), None)

    def decode_target(self, lower: bytes) -> bytes:
        for codec in self._all:
            with suppress(UndecodableNameError):
                return codec.decode_target(lower)
        raise UndecodableNameError("not encrypted with one of the FNEKs at hand and the cipher of this tree")


def name_codec(policy: NamePolicy | None, others: Sequence[NamePolicy] = ()) -> NameCodec:
    """The codec for a tree's name policy, that reads names under ``others`` too."""
    if policy is None:
        return PlainNames()
    return SeveralNames(policy, others) if others else EncryptedNames(policy)
