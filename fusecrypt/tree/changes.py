"""Changes to directories: making, linking, renaming and removing."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress

from fusecrypt.errors import stale
from fusecrypt.native import renameat2, stat_fd, stat_many
from fusecrypt.tree.files import OpenFile, encrypted_file
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Seen, Tree, by_descriptor

RENAME_EXCHANGE = 2
_REMOVED = (".nfs", ".fuse_hidden")

Owner = tuple[int, int]
"""User and group of a new object, for callers that act for others."""


def create(
    tree: Tree, parent: Node, name: bytes, mode: int, owner: Owner | None = None
) -> tuple[Node, Seen, OpenFile]:
    """Make and open a regular file; the reference is the caller's, the handle is to be closed.

    The header is written at once. If that fails nothing is left below. Raises OSError (EEXIST, EROFS).
    """
    fd, dir_fd, lower = _create_lower(tree, parent, name, mode)
    try:
        file = encrypted_file(fd, True, tree.policy)
        file.initialise()
        _give_file(fd, dir_fd, owner)
        st = stat_fd(fd, False)
    except BaseException:
        os.close(fd)
        os.unlink(lower, dir_fd=dir_fd)
        raise
    node = tree.nodes.acquire_new(st, parent, lower)
    return node, Seen(st, file.size), tree.hold(node, file)


def _create_lower(tree: Tree, parent: Node, name: bytes, mode: int) -> tuple[int, int, bytes]:
    tree.check_writable()
    lower = tree.codec.encode(name)
    dir_fd = tree.directories.fd(parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(lower, flags, mode & 0o7777, dir_fd=dir_fd)
    if tree.policy.quiet:
        with suppress(OSError):  # not on opening, which would leave the file where it is refused
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NOATIME)
    return fd, dir_fd, lower


def _give_file(fd: int, dir_fd: int, owner: Owner | None) -> None:
    """Change the owner, keeping set-id bits."""
    if owner is None:
        return
    st = os.fstat(fd)
    uid, gid = _owner_of_new(owner, st.st_gid, dir_fd)
    if (uid, gid) != (st.st_uid, st.st_gid):
        os.fchown(fd, uid, gid)
        if st.st_mode & (stat.S_ISUID | stat.S_ISGID):
            os.fchmod(fd, stat.S_IMODE(st.st_mode))


def _owner_of_new(owner: Owner, gid_given: int, dir_fd: int) -> Owner:
    """A group that was inherited stays: one other than our own, or our own in a setgid directory."""
    if gid_given != os.getegid() or (gid_given != owner[1] and os.fstat(dir_fd).st_mode & stat.S_ISGID):
        return owner[0], gid_given
    return owner


def _finish(tree: Tree, parent: Node, lower: bytes, owner: Owner | None) -> tuple[Node, Seen]:
    """Give a new object to its owner and take it into the table."""
    dir_fd = tree.directories.fd(parent)
    st = stat_many(dir_fd, [lower], False)[0]
    if st.error:
        raise stale()
    if owner is not None:
        uid, gid = _owner_of_new(owner, st.gid, dir_fd)
        if (uid, gid) != (st.uid, st.gid):
            os.chown(lower, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
            st = stat_many(dir_fd, [lower], False)[0]
    node = tree.nodes.acquire_new(st, parent, lower)
    return node, tree.see(st, dir_fd, lower)


def make_directory(
    tree: Tree, parent: Node, name: bytes, mode: int, owner: Owner | None = None
) -> tuple[Node, Seen]:
    """mkdir; returns the node with a reference. Raises OSError."""
    tree.check_writable()
    lower = tree.codec.encode(name)
    os.mkdir(lower, mode & 0o7777, dir_fd=tree.directories.fd(parent))
    return _finish(tree, parent, lower, owner)


def make_node(
    tree: Tree, parent: Node, name: bytes, mode: int, device: int, owner: Owner | None = None
) -> tuple[Node, Seen]:
    """mknod: FIFOs, sockets, devices, and regular files (which get their header). Raises OSError."""
    if stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0:
        node, seen, _ = create(tree, parent, name, mode, owner)
        tree.close_file(node)
        return node, seen
    tree.check_writable()
    lower = tree.codec.encode(name)
    os.mknod(lower, mode, device, dir_fd=tree.directories.fd(parent))
    return _finish(tree, parent, lower, owner)


def symlink(
    tree: Tree, parent: Node, name: bytes, target: bytes, owner: Owner | None = None
) -> tuple[Node, Seen]:
    """Make a symlink; its target is encrypted where names are. Raises OSError."""
    tree.check_writable()
    lower = tree.codec.encode(name)
    os.symlink(tree.codec.encode_target(target), lower, dir_fd=tree.directories.fd(parent))
    return _finish(tree, parent, lower, owner)


def link(tree: Tree, node: Node, parent: Node, name: bytes) -> Seen:
    """Make a further link to ``node``, which gets one more reference. Raises OSError."""
    tree.check_writable()
    lower = tree.codec.encode(name)
    with tree.handle(node) as fd:
        dir_fd = tree.directories.fd(parent)
        os.link(by_descriptor(fd), lower, dst_dir_fd=dir_fd, follow_symlinks=True)
    tree.nodes.add_link(node, parent, lower)
    node.refs += 1
    return tree.stat(node)


def unlink(tree: Tree, parent: Node, name: bytes) -> None:
    """Remove anything but a directory; it lives on for those who hold it. Raises OSError."""
    _remove(tree, parent, name, directory=False)


def remove_directory(tree: Tree, parent: Node, name: bytes) -> None:
    """rmdir. Raises OSError."""
    _remove(tree, parent, name, directory=True)


def holds_removed(tree: Tree, parent: Node, name: bytes) -> bool:
    """Whether a directory holds nothing but files that were removed while they were open, if it can be read.

    NFS and libfuse keep them there, under names of their own, until they are closed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(tree.codec.encode(name), flags, dir_fd=tree.directories.fd(parent))
        try:
            with os.scandir(fd) as entries:
                return all(entry.name.startswith(_REMOVED) for entry in entries)
        finally:
            os.close(fd)
    except OSError:
        return False


def _remove(tree: Tree, parent: Node, name: bytes, directory: bool) -> None:
    tree.check_writable()
    lower = tree.codec.encode(name)
    dir_fd = tree.directories.fd(parent)
    fd = os.open(lower, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        node = tree.nodes.find(stat_fd(fd, False))
        if directory:
            os.rmdir(lower, dir_fd=dir_fd)
        else:
            os.unlink(lower, dir_fd=dir_fd)
        if node is not None:
            fd = _detach(tree, node, parent, lower, fd)
    finally:
        if fd >= 0:
            os.close(fd)


def _detach(tree: Tree, node: Node, parent: Node, lower: bytes, fd: int) -> int:
    """Forget a link; with the last known one keep ``fd`` so that the object can still be reached.

    Returns the descriptor that is left for the caller to close, or -1.
    """
    tree.nodes.remove_link(node, parent, lower)
    if node.linked or node.file is not None or node.pin >= 0:
        return fd
    tree.directories.drop(node)
    node.pin = fd
    return -1


def rename(tree: Tree, old_parent: Node, old: bytes, new_parent: Node, new: bytes, flags: int = 0) -> None:
    """rename and renameat2 (flags NOREPLACE, EXCHANGE). Raises OSError."""
    tree.check_writable()
    old_lower, new_lower = tree.codec.encode(old), tree.codec.encode(new)
    old_fd, new_fd = tree.directories.fd(old_parent), tree.directories.fd(new_parent)
    source = stat_many(old_fd, [old_lower], False)[0]
    target_fd = _open_target(new_fd, new_lower)
    try:
        target = stat_fd(target_fd, False) if target_fd >= 0 else None
        renameat2(old_fd, old_lower, new_fd, new_lower, flags)
        if target is not None and (target.dev, target.ino) == (source.dev, source.ino):
            return  # two links of one file: POSIX leaves both
        moved = tree.nodes.find(source)
        other = tree.nodes.find(target) if target is not None else None
        if other is not None and flags & RENAME_EXCHANGE:
            _move(tree, other, (new_parent, new_lower), (old_parent, old_lower))
        elif other is not None:
            target_fd = _detach(tree, other, new_parent, new_lower, target_fd)
        if moved is not None:
            _move(tree, moved, (old_parent, old_lower), (new_parent, new_lower))
    finally:
        if target_fd >= 0:
            os.close(target_fd)


def _open_target(dir_fd: int, lower: bytes) -> int:
    with suppress(FileNotFoundError):
        return os.open(lower, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    return -1


def _move(tree: Tree, node: Node, old: tuple[Node, bytes], new: tuple[Node, bytes]) -> None:
    node.refs += 1  # so that it does not go while it has no link
    tree.nodes.remove_link(node, *old)
    tree.nodes.add_link(node, *new)
    tree.forget(node)
