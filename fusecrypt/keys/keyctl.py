"""add_key(2), request_key(2) and keyctl(2), which neither Python nor the C library offers.

The calls are made by number through the C library's syscall(); there is nothing to install.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

from fusecrypt.keys.errors import KeyringError
from fusecrypt.native import Secret

SESSION = -3
"""The session keyring, ``@s``."""

USER = -4
"""The user keyring, ``@u``: where ecryptfs-utils keeps auth tokens."""

# add_key; request_key and keyctl follow it. The generic table serves every newer architecture.
_FIRST = {"x86_64": 248, "i386": 286, "i686": 286, "armv7l": 309, "ppc64le": 269, "s390x": 278}
_GENERIC = 217

_UNLINK, _LINK, _SEARCH, _READ = 9, 8, 10, 11

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def add_key(kind: str, description: str, payload: Secret, keyring: int) -> int:
    """Add a key, or replace one of the same type and description; its serial number.

    Raises OSError with the kernel's errno: EDQUOT, EACCES, ENODEV for a type that is missing, …
    """
    return _call(0, kind.encode(), os.fsencode(description), _address(payload), len(payload), keyring)


def request_key(kind: str, description: str) -> int:
    """The serial number of a key in the thread, process or session keyring; OSError (ENOKEY) if none."""
    return _call(1, kind.encode(), os.fsencode(description), None, 0)


def search(keyring: int, kind: str, description: str) -> int:
    """The serial number of a key in a keyring or in those linked below it; OSError (ENOKEY) if none."""
    return _call(2, _SEARCH, keyring, kind.encode(), os.fsencode(description), 0)


def link(key: int, keyring: int) -> None:
    """Link a key or keyring into a keyring."""
    _call(2, _LINK, key, keyring)


def unlink(key: int, keyring: int) -> None:
    """Remove a key's link from a keyring; OSError (ENOENT) if there is none."""
    _call(2, _UNLINK, key, keyring)


def read(key: int) -> Secret:
    """A key's payload, read straight into secret memory; OSError (EACCES) if it may not be read."""
    size = _call(2, _READ, key, None, 0)
    while True:
        with Secret(size) as room:
            # Another process may have given the key a longer payload since.
            longer = _call(2, _READ, key, _address(room), size)
            if longer <= size:
                return room.part(0, longer)
            size = longer


def _address(secret: Secret) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * len(secret)).from_buffer(secret.view())


def _call(offset: int, *arguments: object) -> int:
    number = _FIRST.get(platform.machine(), _GENERIC) + offset
    # Variadic arguments have no declared types: integers must be made as wide as a register.
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _syscall(ctypes.c_long(number), *wide)
    if result < 0:
        error = ctypes.get_errno()
        if error == errno.ENOSYS:
            raise KeyringError("this kernel has no keyrings", "give the key by a file instead")
        raise OSError(error, os.strerror(error))
    return result
