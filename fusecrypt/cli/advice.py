"""What to do next where an error does not say it itself."""

from __future__ import annotations

import errno

from fusecrypt.errors import (
    DamagedError,
    FormatError,
    FusecryptError,
    KeyNotFoundError,
    SecretError,
    UnsupportedSystemError,
)

_FOR_ERRNO = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is no directory",
    errno.EISDIR: "it is a directory: name a file",
    errno.EEXIST: "choose another name",
    errno.EACCES: "its permissions forbid it: look at them, or ask as its owner or as root",
    errno.EPERM: "ask as its owner or as root",
    errno.EROFS: "nothing can be written there: choose another place",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EIO: "the disk below may be failing: `dmesg` tells",
    errno.ENOTCONN: "a mount there has lost its daemon: `fusecrypt umount` takes it down",
    errno.ESTALE: "it was replaced meanwhile: try again",
    errno.ELOOP: "a symbolic link there leads to itself: check the path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files: `ulimit -n`",
}
_DAMAGED = "`fusecrypt identify` says what a file is; a damaged one has to come from a backup"
_FOR_CLASS: dict[type[FusecryptError], str] = {
    FormatError: _DAMAGED,
    DamagedError: _DAMAGED,
    KeyNotFoundError: "`fusecrypt identify` says which key a tree wants",
    SecretError: "check the secret: `fusecrypt identify` says which key a tree wants",
    UnsupportedSystemError: "`fusecrypt doctor` says what is missing",
}


def advice(error: FusecryptError | OSError) -> str:
    """A hint for an error: its own one, or what is usual for its kind. Empty if nothing is."""
    if isinstance(error, OSError):
        return _FOR_ERRNO.get(error.errno or 0, "")
    if error.hint:
        return error.hint
    kinds = (_FOR_CLASS.get(kind) for kind in type(error).__mro__ if issubclass(kind, FusecryptError))
    return next(filter(None, kinds), "")
