"""The native module as Python sees it: key memory, ciphers, names, extents, and a few system calls.

Only this package and :mod:`fusecrypt.lane` import ``fusecrypt._native``. Every failure of a native call is
an :class:`OSError` with its errno; wrong shapes are :class:`ValueError`.
"""

from fusecrypt.native.base import (
    EXTENT_BYTES,
    KEY_BYTES,
    SALT_BYTES,
    SIGNATURE_BYTES,
    Buffer,
    Room,
    check,
)
from fusecrypt.native.filekey import FileKey
from fusecrypt.native.keys import Cipher, name_prefix, passphrase_key, signature
from fusecrypt.native.machine import engine, raw_cbc, set_engine
from fusecrypt.native.names import Names
from fusecrypt.native.secret import (
    Secret,
    export_memory,
    harden_process,
    import_memory,
    memory_locked,
    octets_of,
)
from fusecrypt.native.system import (
    PEEK_EMPTY,
    PEEK_ERROR,
    PEEK_FOREIGN,
    PEEK_HEADER,
    PEEK_NONE,
    Stat,
    acl_is_mode,
    open_quietly,
    renameat2,
    stat_fd,
    stat_many,
    utimens,
)

__all__ = [
    "EXTENT_BYTES",
    "KEY_BYTES",
    "PEEK_EMPTY",
    "PEEK_ERROR",
    "PEEK_FOREIGN",
    "PEEK_HEADER",
    "PEEK_NONE",
    "SALT_BYTES",
    "SIGNATURE_BYTES",
    "Buffer",
    "Cipher",
    "FileKey",
    "Names",
    "Room",
    "Secret",
    "Stat",
    "acl_is_mode",
    "check",
    "engine",
    "export_memory",
    "harden_process",
    "import_memory",
    "memory_locked",
    "name_prefix",
    "octets_of",
    "open_quietly",
    "passphrase_key",
    "raw_cbc",
    "renameat2",
    "set_engine",
    "signature",
    "stat_fd",
    "stat_many",
    "utimens",
]
