"""Changes of mode, owner and times as the kernel asks for them, with POSIX's rules on set-id bits.

A daemon that runs as root serves callers whose rights the kernel has checked; what the lower file system
would have done for the caller itself (clearing set-id bits) has to be done here.
"""

from __future__ import annotations

import os
import stat

import pyfuse3

from fusecrypt.tree import attributes
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Tree


def without_set_id(mode: int) -> int:
    """The mode after a write or change of owner: setuid goes, and setgid where it is not a lock mark."""
    if mode & stat.S_IXGRP:
        mode &= ~stat.S_ISGID
    return mode & ~stat.S_ISUID


def clear_set_id(fd: int) -> bool:
    """After a write or truncation of a lower file by a caller other than root. Raises OSError.

    Returns whether the mode has changed.
    """
    mode = os.fstat(fd).st_mode
    if without_set_id(mode) == mode:
        return False
    os.fchmod(fd, stat.S_IMODE(without_set_id(mode)))
    return True


def take_setgid_from_others(tree: Tree, node: Node, ctx: pyfuse3.RequestContext) -> None:
    """After a new ACL, which sets the mode too: setgid is for members of the group. Raises OSError.

    The kernel sees to that for chmod, but passes an ACL on as it is.
    """
    st = tree.stat(node).stat
    if ctx.uid == 0 or not st.mode & stat.S_ISGID or st.gid == ctx.gid:
        return
    try:
        member = st.gid in pyfuse3.get_sup_groups(ctx.pid)
    except OSError:  # of another PID namespace, or gone
        member = False
    if not member:
        attributes.change_mode(tree, node, st.mode & ~stat.S_ISGID)


class SetAttributes:
    """One setattr request, but for the size."""

    def __init__(
        self,
        tree: Tree,
        node: Node,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
    ) -> None:
        self._tree = tree
        self._node = node
        self._attr = attr
        self._fields = fields

    def apply(self) -> None:
        """Owner first (it clears set-id bits), then mode, then times. Raises OSError.

        The kernel has checked the caller's rights, and taken setgid out of a mode that is not for them.
        """
        fields, attr = self._fields, self._attr
        if fields.update_uid or fields.update_gid:
            attributes.change_owner(
                self._tree,
                self._node,
                attr.st_uid if fields.update_uid else -1,
                attr.st_gid if fields.update_gid else -1,
            )
        if fields.update_mode:
            attributes.change_mode(self._tree, self._node, attr.st_mode)
        if fields.update_atime or fields.update_mtime:
            attributes.change_times(
                self._tree,
                self._node,
                attr.st_atime_ns if fields.update_atime else None,
                attr.st_mtime_ns if fields.update_mtime else None,
            )
