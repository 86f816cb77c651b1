"""Encrypted file names and symlink targets."""

from __future__ import annotations

import errno

from fusecrypt._native import ffi, lib
from fusecrypt.native.base import KEY_BYTES, SIGNATURE_BYTES, check
from fusecrypt.native.secret import Secret, octets_of


class Names:
    """File names and symlink targets under an FNEK, both ways.

    ``code`` and ``key_bytes`` are the cipher's, ``signature`` the FNEK's (8 octets). Raises OSError:
    EINVAL if the cipher's code and key size are no pair. Usable from several threads at once.
    """

    __slots__ = ("_names",)

    def __init__(self, code: int, key_bytes: int, fnek: Secret, signature: bytes) -> None:
        if len(signature) != SIGNATURE_BYTES:
            raise ValueError(f"a signature has {SIGNATURE_BYTES} octets")
        out = ffi.new("fc_names **")
        check(lib.fc_names_new(code, key_bytes, octets_of(fnek, KEY_BYTES), signature, out))
        self._names = ffi.gc(out[0], lib.fc_names_free)

    def length(self, n: int) -> int:
        """Octets of the lower name of ``n`` octets; OSError (ENAMETOOLONG) past what the format holds."""
        return check(lib.fc_name_length(self._names, n))

    def longest(self, limit: int) -> int:
        """The longest upper name whose lower name has at most ``limit`` octets (143 for 255), or 0."""
        return int(lib.fc_name_longest(self._names, limit))

    def encode(self, upper: bytes) -> bytes:
        """The lower name or target. OSError: ENAMETOOLONG, or EINVAL for nothing and for a NUL in it."""
        room = self.length(len(upper))
        out = ffi.new("uint8_t[]", room)
        check(lib.fc_name_encode(self._names, upper, len(upper), out, room))
        return bytes(ffi.buffer(out))

    def decode_target(self, lower: bytes) -> bytes:
        """The reverse. OSError (EINVAL) for what was not encrypted with this FNEK and cipher."""
        room = len(lower)
        out = ffi.new("uint8_t[]", room)
        n = check(lib.fc_name_decode(self._names, lower, room, out, room))
        return bytes(ffi.buffer(out, n))

    def decode(self, lower: bytes) -> bytes | None:
        """The upper name of a directory entry.

        None also for what cannot stand in a directory, and for names that :meth:`encode` makes in
        another form, for no lookup would find them.
        """
        room = len(lower)
        out = ffi.new("uint8_t[]", room)
        n = lib.fc_entry_decode(self._names, lower, room, out, room)
        if n == -errno.EINVAL:
            return None
        return bytes(ffi.buffer(out, check(n)))
