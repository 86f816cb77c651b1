"""Every error a user can meet: what it is, its errno through FUSE, its exit status, and what to do next.

Exit statuses of the command line (documented in the README):

====== ==========================================================================
status meaning
====== ==========================================================================
0      done
1      the operation failed (input or output, the tree, the mount)
2      the command line was wrong
3      no key fits: wrong passphrase, missing key, refused secret
4      the tree or a file is no eCryptfs data, or is damaged
5      this system lacks something that is needed (FUSE, a library, a permission)
====== ==========================================================================
"""

from __future__ import annotations

import errno
import os


class FusecryptError(Exception):
    """Base of all expected failures. ``str()`` names what failed; ``hint`` says what to do next."""

    errno = errno.EIO
    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(FusecryptError):
    """An option or argument that cannot be meant."""

    errno = errno.EINVAL
    exit_status = 2


class KeyNotFoundError(FusecryptError):
    """No available key opens this object or tree."""

    exit_status = 3


class SecretError(FusecryptError):
    """A secret that cannot be used: empty, too long, unreadable, refused."""

    errno = errno.EACCES
    exit_status = 3


class FormatError(FusecryptError):
    """Octets that are no valid eCryptfs header, packet or name."""

    exit_status = 4


class NotEcryptfsError(FormatError):
    """The marker is absent: this is not an eCryptfs file at all."""


class UndecodableNameError(FormatError):
    """A lower name or symlink target that does not decode."""

    errno = errno.EINVAL


class NameTooLongError(FusecryptError):
    """The encrypted form of a name or target does not fit the lower file system."""

    errno = errno.ENAMETOOLONG


class DamagedError(FusecryptError):
    """The lower file is shorter than its header says, or its header region is unusable."""

    exit_status = 4


class TreeError(FusecryptError):
    """The lower directory cannot be used as asked."""


class UnsupportedSystemError(FusecryptError):
    """This system lacks something: FUSE, a library, a permission."""

    exit_status = 5


def stale() -> OSError:
    """What is raised for an object that is no longer where it was."""
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
