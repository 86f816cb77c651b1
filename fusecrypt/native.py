"""The native module as Python sees it: key memory, ciphers, files, and a few system calls.

The only module that imports ``fusecrypt._native``. Every failure of a native call is an
:class:`OSError` with its errno; wrong shapes are :class:`ValueError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NoReturn

from fusecrypt._native import ffi, lib

KEY_BYTES: int = lib.FC_KEY
SALT_BYTES: int = lib.FC_SALT
SIGNATURE_BYTES: int = lib.FC_SIGNATURE


def _check(result: int) -> int:
    """Raise what a negative return stands for."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


class Secret:
    """Octets in locked memory that is left out of core dumps, wiped when no longer used.

    The length is fixed. A wiped secret has length 0.
    """

    __slots__ = ("_length", "_memory")
    __hash__ = None  # type: ignore[assignment] # a hash would be a shadow of the octets

    def __init__(self, n: int) -> None:
        """``n`` zero octets, to be filled through :meth:`view`. Raises MemoryError."""
        if n < 0:
            raise ValueError("a secret cannot have a negative length")
        memory = lib.fc_alloc(n)
        if memory == ffi.NULL:
            raise MemoryError("no memory for a secret")
        # The collector keeps the memory as long as a view of it is alive.
        self._memory = ffi.gc(ffi.cast("uint8_t *", memory), lib.fc_free, n)
        self._length = n

    @classmethod
    def take(cls, source: bytearray | memoryview) -> Secret:
        """The octets of ``source``, which is wiped."""
        secret = cls(len(source))
        pointer = ffi.from_buffer("uint8_t[]", source, require_writable=True)
        ffi.memmove(secret._memory, pointer, len(source))
        lib.fc_wipe(pointer, len(source))
        return secret

    @classmethod
    def copy(cls, source: bytes) -> Secret:
        """The octets of ``source``, which cannot be wiped: for tests and octets that are no secret."""
        secret = cls(len(source))
        ffi.memmove(secret._memory, source, len(source))
        return secret

    @classmethod
    def join(cls, parts: Iterable[Secret]) -> Secret:
        """A new secret: the octets of all parts, one after the other."""
        parts = list(parts)
        secret = cls(sum(map(len, parts)))
        position = 0
        for part in parts:
            ffi.memmove(secret._memory + position, part._memory, len(part))
            position += len(part)
        return secret

    def part(self, start: int, stop: int) -> Secret:
        """A new secret: octets ``start`` to ``stop``. Raises ValueError where there are none."""
        if not 0 <= start <= stop <= self._length:
            raise ValueError("not a part of the secret")
        secret = Secret(stop - start)
        ffi.memmove(secret._memory, self._memory + start, stop - start)
        return secret

    def view(self) -> memoryview:
        """The locked memory itself, writable; a read into it leaves no copy elsewhere."""
        return memoryview(ffi.buffer(self._memory, self._length)).cast("B")

    def wipe(self) -> None:
        """Overwrite the octets, now, also for those who hold a view; afterwards the length is 0."""
        lib.fc_wipe(self._memory, self._length)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        """Compare in constant time; the length is no secret."""
        if not isinstance(other, Secret):
            return NotImplemented
        if self._length != other._length:
            return False
        return bool(lib.fc_equal(self._memory, other._memory, self._length))

    def __enter__(self) -> Secret:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"<Secret of {self._length} octets>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be copied or pickled")


def _octets(secret: Secret, n: int) -> object:
    """The address of at least ``n`` octets."""
    if len(secret) < n:
        raise ValueError(f"the key has {len(secret)} octets, {n} are needed")
    return secret._memory


def passphrase_key(passphrase: Secret, salt: bytes) -> Secret:
    """The FEKEK or FNEK (64 octets) of a passphrase: 65536 rounds of SHA-512, salt first."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} octets")
    key = Secret(KEY_BYTES)
    _check(lib.fc_passphrase_key(passphrase._memory, len(passphrase), salt, key._memory))
    return key


def signature(key: Secret) -> bytes:
    """The signature (8 octets) that names a FEKEK or FNEK: the beginning of its SHA-512."""
    out = ffi.new("uint8_t[]", SIGNATURE_BYTES)
    _check(lib.fc_signature(_octets(key, KEY_BYTES), out))
    return bytes(ffi.buffer(out))


def name_prefix(key: Secret, n: int) -> bytes:
    """``n`` octets (16 to 64) that stand before an encrypted name: the MD5 chain of the FNEK.

    Zero octets are replaced by 0x42, since the first zero octet marks the beginning of the name.
    """
    out = ffi.new("uint8_t[]", max(n, 0))
    _check(lib.fc_name_prefix(_octets(key, KEY_BYTES), out, n))
    return bytes(ffi.buffer(out))


def memory_locked() -> bool:
    """Whether all key memory so far could be locked; if not, RLIMIT_MEMLOCK is too small."""
    return bool(lib.fc_memory_locked())


def export_memory(secrets: Iterable[Secret]) -> int:
    """A new descriptor that holds the octets of all secrets; :func:`import_memory` takes them out.

    It is closed on exec unless made inheritable. Raises OSError.
    """
    with Secret.join(secrets) as joined:
        return _check(lib.fc_memory_export(joined._memory, len(joined)))


def import_memory(fd: int, n: int) -> Secret:
    """The ``n`` octets that :func:`export_memory` put behind ``fd``, wiped there.

    Raises OSError, with EINVAL if the descriptor holds fewer octets.
    """
    secret = Secret(n)
    _check(lib.fc_memory_import(fd, secret._memory, n))
    return secret
