"""Secrets in locked memory, and what keeps them in this process or hands them to another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from fusecrypt._native import ffi, lib
from fusecrypt.native.base import check


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


def octets_of(secret: Secret, n: int) -> Any:
    """The address of a secret that has at least ``n`` octets."""
    if len(secret) < n:
        raise ValueError(f"the key has {len(secret)} octets, {n} are needed")
    return secret._memory


def memory_locked() -> bool:
    """Whether all key memory so far could be locked; if not, RLIMIT_MEMLOCK is too small."""
    return bool(lib.fc_memory_locked())


def export_memory(secrets: Iterable[Secret]) -> int:
    """A new descriptor that holds the octets of all secrets; :func:`import_memory` takes them out.

    It is closed on exec unless made inheritable. Raises OSError.
    """
    with Secret.join(secrets) as joined:
        return check(lib.fc_memory_export(joined._memory, len(joined)))


def import_memory(fd: int, n: int) -> Secret:
    """The ``n`` octets that :func:`export_memory` put behind ``fd``, wiped there.

    Raises OSError, with EINVAL if the descriptor holds fewer octets.
    """
    secret = Secret(n)
    check(lib.fc_memory_import(fd, secret._memory, n))
    return secret


def harden_process() -> None:
    """No core dumps of this process, and no debugger or /proc/PID/mem for others of the same user."""
    check(lib.fc_harden_process())
