"""From the tree's attributes and errors to FUSE's."""

from __future__ import annotations

import errno
import functools
import logging
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

import pyfuse3

from fusecrypt.errors import FusecryptError
from fusecrypt.tree.nodes import ROOT_NUMBER, Node
from fusecrypt.tree.tree import Seen

log = logging.getLogger("fusecrypt")
P = ParamSpec("P")
R = TypeVar("R")

failures: Counter[int] = Counter()
"""How often this process answered with which errno; what the lane answers itself is not counted."""

CACHE_SECONDS = 1.0
"""How long the kernel may keep names and attributes without asking again."""


MISTAKEN = 2**63 - 1
"""Stands for the size that was given away where the kernel may believe another one: no file has it."""


@contextmanager
def size_in_doubt(node: Node) -> Iterator[None]:
    """Around what changes a size. If it fails, the kernel may go on with a size that is not the one below (it
    has that from the writes that it keeps back), so the next lookup gives the file out as another inode."""
    try:
        yield
    except BaseException:
        node.shown = MISTAKEN
        raise


class Replies:
    """Answers that tell the kernel of a node. ``owns_sizes``: the kernel believes no size but its own while
    it knows an inode (write-back caching). ``shared``: others write the tree too, so it keeps no attributes
    of a file: with an old size, another file that has its number by then would be read in part."""

    def __init__(self, *, owns_sizes: bool, shared: bool) -> None:
        self._owns_sizes = owns_sizes
        self._shared = shared

    def attributes(self, node: Node, seen: Seen) -> pyfuse3.EntryAttributes:
        """FUSE's form of a node's attributes."""
        st, size = seen
        attr = pyfuse3.EntryAttributes()
        attr.st_ino = st.ino if node.number == ROOT_NUMBER else node.number
        attr.generation = node.generation
        attr.entry_timeout = CACHE_SECONDS
        attr.attr_timeout = 0 if self._shared and node.is_regular else CACHE_SECONDS
        attr.st_mode = st.mode
        attr.st_nlink = st.nlink
        attr.st_uid = st.uid
        attr.st_gid = st.gid
        attr.st_rdev = st.rdev
        attr.st_size = size
        attr.st_blksize = st.blksize
        attr.st_blocks = st.blocks
        attr.st_atime_ns = st.atime_ns
        attr.st_mtime_ns = st.mtime_ns
        attr.st_ctime_ns = st.ctime_ns
        return attr

    def found(self, node: Node, seen: Seen) -> pyfuse3.EntryAttributes:
        """The same for a node that a name led to.

        Where the kernel believes no size but its own, a file that changed size below, not through us, is
        given out as another inode: the same number in a new generation.
        """
        if self._owns_sizes and node.is_regular and node.opens == 0:
            if node.shown not in (None, seen.size):
                node.generation += 1
            node.shown = seen.size
        return self.attributes(node, seen)

    def absent(self) -> pyfuse3.EntryAttributes:
        """The answer that lets the kernel remember that there is no such name."""
        attr = pyfuse3.EntryAttributes()
        attr.st_ino = 0
        attr.entry_timeout = CACHE_SECONDS
        return attr


def dot(node: Node) -> pyfuse3.EntryAttributes:
    """What the kernel takes from ``.`` and ``..`` in a listing: number and type."""
    attr = pyfuse3.EntryAttributes()
    attr.st_ino = node.ino if node.number == ROOT_NUMBER else node.number
    attr.st_mode = stat.S_IFDIR
    return attr


def refuse(error: Exception) -> NoReturn:
    """Turn any failure into the errno the caller sees; what should not happen is logged as well."""
    if isinstance(error, pyfuse3.FUSEError):  # an answer like others: the kernel need not ask this again
        raise error
    code = errno.EIO
    if isinstance(error, FusecryptError):
        log.info("%s", error)
        code = error.errno
    elif isinstance(error, OSError) and error.errno:
        code = error.errno
    else:
        log.error("request failed unexpectedly", exc_info=error)
    failures[code] += 1
    raise pyfuse3.FUSEError(code) from None


def handler(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make a request handler of a method that answers at once."""

    @functools.wraps(method)
    async def handle(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            refuse(error)

    return handle


def async_handler(method: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make a request handler of a method that may have to wait."""

    @functools.wraps(method)
    async def handle(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except Exception as error:
            refuse(error)

    return handle
