"""Owners, modes, times and extended attributes, put on a copy."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from fusecrypt.native import acl_is_mode, utimens
from fusecrypt.offline.items import Item
from fusecrypt.ondisk.header import XATTR_NAME
from fusecrypt.tree.tree import by_descriptor

_METADATA = XATTR_NAME.encode()
_NFS4_ACL = b"system.nfs4_acl"
CAPABILITY = b"security.capability"
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_PRIVILEGED = (b"security.", b"trusted.")
SET_ID = stat.S_ISUID | stat.S_ISGID
OWNERS = "owners other than this user were not kept, which only root can do"
NOT_ASKED = "its set-id bits were left out; --special keeps them"
NO_CAPABILITY = "its capabilities were left out; --special keeps them"
_OTHER_OWNER = "its set-id bits were left out, since it has another owner now"


class Lost(NamedTuple):
    """Something of an object that its copy has not; ``status`` is 0 where that is no failure."""

    what: str
    status: int


def read_xattrs(where: int | str) -> list[tuple[bytes, bytes]]:
    """Attributes of an open file or of what a path leads to, without a header of eCryptfs, and without the
    ACL that NFS shows of everything where the mode says it too. Raises OSError."""
    try:
        names = os.listxattr(where)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
    found = [(name, os.getxattr(where, name)) for name in map(os.fsencode, names) if name != _METADATA]
    return [(name, value) for name, value in found if name != _NFS4_ACL or not acl_is_mode(value)]


class Restorer:
    """Puts attributes on copies; usable from several threads. ``special``: also what gives privileges, that
    is set-id bits and file capabilities. ``owners_lost``: some owner may not
    be set."""

    def __init__(self, special: bool) -> None:
        self._special = special
        self.owners_lost = False

    def restore(self, fd: int, item: Item, xattrs: list[tuple[bytes, bytes]], *, path: bool) -> list[Lost]:
        """All that is known of ``item`` but its contents; ``path``: the descriptor is an O_PATH one.

        Returns what could not be set. Raises OSError for modes and times.
        """
        where = by_descriptor(fd) if path else fd
        mode = stat.S_IMODE(item.stat.mode)
        lost = list[Lost]()
        owned = self._own(fd, where, item)
        lost += self._set_xattrs(where, item, xattrs)
        if item.kind != stat.S_IFLNK:
            if item.kind != stat.S_IFDIR and mode & SET_ID and not (self._special and owned):
                mode &= ~SET_ID
                lost.append(Lost(_OTHER_OWNER if self._special else NOT_ASKED, 0))
            os.chmod(where, mode)
        utimens(fd, b"", item.stat.atime_ns, item.stat.mtime_ns)
        return lost

    def _own(self, fd: int, where: int | str, item: Item) -> bool:
        st = os.fstat(fd)
        if (st.st_uid, st.st_gid) == (item.stat.uid, item.stat.gid):
            return True
        try:
            os.chown(where, item.stat.uid, item.stat.gid)
        except PermissionError:
            self.owners_lost = True
            with suppress(PermissionError):  # a group that we are in
                os.chown(where, -1, item.stat.gid)
            return False
        return True

    def _set_xattrs(self, where: int | str, item: Item, xattrs: list[tuple[bytes, bytes]]) -> Iterator[Lost]:
        given = {name for name, _ in xattrs}
        if item.kind == stat.S_IFDIR:
            for name in _ACLS:  # inherited from a default ACL where the copy is made
                if name not in given:
                    with suppress(OSError):
                        os.removexattr(where, name)
        # An ACL may take away the right to set others.
        for name, value in sorted(xattrs, key=lambda each: each[0] in _ACLS):
            if name == CAPABILITY and not self._special:
                yield Lost(NO_CAPABILITY, 0)
                continue
            try:
                os.setxattr(where, name, value)
            except OSError as error:
                refused = error.errno in (errno.EPERM, errno.EACCES) and name.startswith(_PRIVILEGED)
                yield Lost(f"its attribute {os.fsdecode(name)}: {error.strerror}", 0 if refused else 1)
