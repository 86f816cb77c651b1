"""Encrypted extents of lower files."""

from __future__ import annotations

from typing import Any

from fusecrypt._native import ffi, lib
from fusecrypt.native.base import EXTENT_BYTES, KEY_BYTES, Buffer, Room, check
from fusecrypt.native.secret import Secret, octets_of


class FileKey:
    """A file's FEK with its root IV, and what can be done with it on the lower file.

    Usable from several threads at once. In the methods that take a lower file, ``fd`` is its
    descriptor, ``data_offset`` the octets of its header region, ``size`` the size of the upper file as
    it is known before the call; positions and sizes are octets of the upper file. They raise OSError:
    EIO if the lower file ends too early, EFBIG where offsets do not fit, and what the system reports.
    """

    __slots__ = ("_key", "code", "key_bytes")

    def __init__(self, code: int, key_bytes: int, key: Any) -> None:
        """For the class methods, which are the way to make one."""
        self.code = code
        self.key_bytes = key_bytes
        self._key = ffi.gc(key, lib.fc_file_key_free)

    @classmethod
    def random(cls, code: int, key_bytes: int) -> FileKey:
        """A new FEK, never one that its cipher counts as weak."""
        out = ffi.new("fc_file_key **")
        check(lib.fc_file_key_random(code, key_bytes, out))
        return cls(code, key_bytes, out[0])

    @classmethod
    def from_secret(cls, code: int, key_bytes: int, fek: Secret) -> FileKey:
        """A FEK that is known."""
        out = ffi.new("fc_file_key **")
        check(lib.fc_file_key_new(code, key_bytes, octets_of(fek, key_bytes), out))
        return cls(code, key_bytes, out[0])

    @classmethod
    def unwrap(cls, code: int, key_bytes: int, fekek: Secret, wrapped: bytes) -> FileKey:
        """The FEK of a tag 3 packet: ECB under the first ``key_bytes`` octets of the FEKEK.

        ``wrapped`` has ``key_bytes`` octets, or 32 for AES-192 (8 of padding); OSError (EINVAL)
        otherwise. A wrong FEKEK is not noticed: the format has no check value.
        """
        out = ffi.new("fc_file_key **")
        pointer = octets_of(fekek, KEY_BYTES)
        check(lib.fc_file_key_unwrap(code, key_bytes, pointer, wrapped, len(wrapped), out))
        return cls(code, key_bytes, out[0])

    def wrap(self, fekek: Secret, n: int) -> bytes:
        """The ``n`` octets that :meth:`unwrap` takes."""
        out = ffi.new("uint8_t[]", n)
        check(lib.fc_file_key_wrap(self._key, octets_of(fekek, KEY_BYTES), out, n))
        return bytes(ffi.buffer(out))

    def close(self) -> None:
        """Give the key up; it is wiped once calls in other threads have returned.

        Using it afterwards is a TypeError.
        """
        self._key = None

    def extent_iv(self, extent: int) -> bytes:
        """16 octets: MD5 of the root IV and the extent's number in decimal."""
        out = ffi.new("uint8_t[16]")
        check(lib.fc_extent_iv(self._key, extent, out))
        return bytes(ffi.buffer(out))

    def encrypt_extents(self, first: int, data: Buffer) -> bytearray:
        """Whole extents, the first numbered ``first``. Raises ValueError if they are not whole."""
        result = bytearray(len(data))
        self.encrypt_into(first, data, result)
        return result

    def decrypt_extents(self, first: int, data: Buffer) -> bytearray:
        """The reverse of :meth:`encrypt_extents`."""
        result = bytearray(len(data))
        self.decrypt_into(first, data, result)
        return result

    def encrypt_into(self, first: int, data: Buffer, result: Room) -> None:
        """The same into ``result``, which may be ``data``. Raises ValueError if they differ in length."""
        self._transform(lib.fc_extents_encrypt, first, data, result)

    def decrypt_into(self, first: int, data: Buffer, result: Room) -> None:
        """The reverse of :meth:`encrypt_into`."""
        self._transform(lib.fc_extents_decrypt, first, data, result)

    def _transform(self, function: Any, first: int, data: Buffer, result: Room) -> None:
        count, rest = divmod(len(data), EXTENT_BYTES)
        if rest:
            raise ValueError("not a whole number of extents")
        if len(result) != len(data):
            raise ValueError("the result has another length")
        with ffi.from_buffer("uint8_t[]", data) as source, ffi.from_buffer("uint8_t[]", result) as out:
            check(function(self._key, first, source, out, count))

    def read(
        self,
        fd: int,
        data_offset: int,
        size: int,
        offset: int,
        buffer: bytearray | memoryview,
        n: int,
        nowait: bool = False,
    ) -> int:
        """Read up to ``n`` octets at ``offset`` into ``buffer``; returns how many, 0 from the end on.

        What follows them in the buffer, up to ``n``, is undefined. Lower data that ends too early is
        EIO, after the whole extents before that have been returned. With ``nowait`` a read that
        would wait for a disk is a BlockingIOError (or EOPNOTSUPP, if the lower file system cannot tell).
        """
        # Released at once: an error's traceback that kept it could be collected in an order that crashes.
        with ffi.from_buffer("uint8_t[]", buffer, True) as out:
            if n > len(out):
                raise ValueError("the buffer is too small")
            # cffi makes a C structure of the tuple for the time of the call.
            return check(lib.fc_read(self._key, ((fd, data_offset, size),), offset, out, n, nowait))

    def write(self, fd: int, data_offset: int, size: int, offset: int, data: Buffer) -> int:
        """Write at ``offset``, which lies in or right after the last extent (:meth:`fill` gets it there).

        Returns how many octets; fewer than asked for only if the lower file took no more. The size
        field in the header is the caller's business, after this.
        """
        lower = ((fd, data_offset, size),)
        with ffi.from_buffer("uint8_t[]", data) as source:
            return check(lib.fc_write(self._key, lower, offset, source, len(source)))

    def fill(self, fd: int, data_offset: int, size: int, until: int, budget: int) -> int:
        """Extend with encrypted zeros towards ``until``, about ``budget`` octets at a time.

        Returns the size that is now backed by data, at most ``until``: call again from there.
        """
        return check(lib.fc_fill(self._key, ((fd, data_offset, size),), until, budget))

    def zero_tail(self, fd: int, data_offset: int, old_size: int, size: int) -> None:
        """Before a truncation to ``size``: zero what follows it in its extent."""
        check(lib.fc_zero_tail(self._key, ((fd, data_offset, old_size),), size))
