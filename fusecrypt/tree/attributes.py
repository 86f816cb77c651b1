"""Modes, owners, times, sizes and extended attributes of nodes."""

from __future__ import annotations

import errno
import os

from fusecrypt.native import utimens
from fusecrypt.ondisk.header import XATTR_NAME
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Tree, by_descriptor

_OWN = XATTR_NAME.encode()


def change_mode(tree: Tree, node: Node, mode: int) -> None:
    """chmod of anything but a symlink. Raises OSError."""
    tree.check_writable()
    with tree.handle(node) as fd:
        os.chmod(by_descriptor(fd), mode & 0o7777)


def change_owner(tree: Tree, node: Node, uid: int, gid: int) -> None:
    """lchown; -1 leaves one alone. Raises OSError."""
    tree.check_writable()
    with tree.handle(node) as fd:
        os.chown(by_descriptor(fd), uid, gid)


def change_times(tree: Tree, node: Node, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Set times in nanoseconds; None leaves one alone. Raises OSError."""
    tree.check_writable()
    with tree.handle(node) as fd:
        utimens(fd, b"", atime_ns, mtime_ns)


def truncate(tree: Tree, node: Node, size: int) -> None:
    """Cut or extend a regular file to ``size`` octets. Raises OSError, FusecryptError."""
    file = tree.open(node, True)
    try:
        file.truncate(size)
    finally:
        tree.close_file(node)


def has_default_acl(tree: Tree, node: Node) -> bool:
    """Whether new objects in this directory get their permissions from a default ACL."""
    try:
        os.getxattr(by_descriptor(tree.directories.fd(node)), "system.posix_acl_default")
    except OSError:
        return False
    return True


def list_xattrs(tree: Tree, node: Node) -> list[bytes]:
    """Names of extended attributes; fusecrypt's own shows in the encrypted view only. Raises OSError."""
    with tree.handle(node) as fd:
        names = [os.fsencode(name) for name in os.listxattr(by_descriptor(fd))]
    if not tree.policy.encrypted_view and _OWN in names:
        names.remove(_OWN)
    return names


def get_xattr(tree: Tree, node: Node, name: bytes) -> bytes:
    """The value of an attribute. Raises OSError (ENODATA)."""
    if name == _OWN and not tree.policy.encrypted_view:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    with tree.handle(node) as fd:
        return os.getxattr(by_descriptor(fd), name)


def set_xattr(tree: Tree, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
    """Set an attribute. Raises OSError: EPERM for fusecrypt's own."""
    _check_own(tree, name)
    with tree.handle(node) as fd:
        os.setxattr(by_descriptor(fd), name, value, flags)


def remove_xattr(tree: Tree, node: Node, name: bytes) -> None:
    """Remove an attribute. Raises OSError: EPERM for fusecrypt's own."""
    _check_own(tree, name)
    with tree.handle(node) as fd:
        os.removexattr(by_descriptor(fd), name)


def _check_own(tree: Tree, name: bytes) -> None:
    tree.check_writable()
    if name == _OWN:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
