"""What the answers to all requests of a mount stand on."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

import pyfuse3
import trio

from fusecrypt.lane import Lane, Storage
from fusecrypt.mount.damage import DamageLog
from fusecrypt.mount.gate import Gates
from fusecrypt.mount.handles import Handles
from fusecrypt.mount.replies import CACHE_SECONDS, Replies
from fusecrypt.tree import attributes as tree_attributes
from fusecrypt.tree import changes
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Tree

_BUFFER = 4 << 20
"""Octets of the buffer that reads are answered from; the kernel never asks for more at once."""


class Requests(pyfuse3.Operations):
    """One mount, for those who answer its requests."""

    supports_dot_lookup = False

    def __init__(
        self,
        tree: Tree,
        *,
        writeback: bool = True,
        storage: Storage = Storage.MEMORY,
        kernel_checks: bool = True,
    ) -> None:
        """``kernel_checks``: the kernel checks permissions, ACLs among them. Otherwise nobody needs to.
        Without ``writeback`` the kernel takes size and times from below, which others may write too.

        ``before_waiting`` is called by a request that goes to a thread, or waits for others.
        """
        super().__init__()
        self.before_waiting: Callable[[], None] = lambda: None
        self.enable_writeback_cache = writeback and not tree.policy.read_only
        self.enable_acl = kernel_checks
        self._replies = Replies(owns_sizes=self.enable_writeback_cache, shared=tree.policy.shared)
        self._attributes = self._replies.attributes
        self.tree = tree
        self.lane = Lane(
            tree.codec.natives,
            simple=tree.policy.simple,
            read_only=tree.policy.read_only,
            quiet=tree.policy.quiet,
            owns_sizes=self.enable_writeback_cache,
            shared=tree.policy.shared,
            storage=storage,
            valid=CACHE_SECONDS,
        )
        tree.use_lane(self.lane)
        self.handles = Handles(self.lane, tree)
        self._gates = Gates()
        self._damage = DamageLog()
        self._remote = storage is Storage.NETWORK
        self._by_root = os.geteuid() == 0
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER))

    def _node(self, inode: int) -> Node:
        return self.tree.nodes.by_number(inode)

    def _owner(self, ctx: pyfuse3.RequestContext) -> changes.Owner | None:
        return (ctx.uid, ctx.gid) if self._by_root else None

    def _mode(self, parent: Node, mode: int, ctx: pyfuse3.RequestContext) -> int:
        """The kernel leaves the umask to us, since a default ACL on the parent takes its place."""
        if mode & ctx.umask and not tree_attributes.has_default_acl(self.tree, parent):
            return mode & ~ctx.umask
        return mode

    async def _in_thread(self, work: Callable[[int], None], fd: int) -> None:
        self.before_waiting()
        await trio.to_thread.run_sync(work, fd)
