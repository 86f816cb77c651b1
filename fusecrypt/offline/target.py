"""What an export and an import have in common of the place they copy to."""

from __future__ import annotations

import errno
import fcntl
from dataclasses import dataclass
from typing import Protocol

from fusecrypt.errors import TreeError
from fusecrypt.offline.items import Item
from fusecrypt.offline.restore import Lost, Restorer
from fusecrypt.offline.walk import Xattrs
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Seen

WORK = b".fusecrypt-unfinished"
"""The directory, in the root of the copy, where objects are made. What is in it belongs to a killed run."""


@dataclass
class Draft:
    """An object under a temporary name. ``fd`` is a descriptor of it, of a regular file its ``file``'s."""

    name: bytes
    fd: int
    file: OpenFile | None = None
    node: Node | None = None


class Target(Protocol):
    """Where objects are copied to. Belongs to one thread; the files of drafts are written in others.

    All methods raise OSError; EEXIST where something stands in the way. ``flushes_together``: one
    :meth:`flush` is as good as an fsync of each draft, and cheaper.
    """

    flushes_together: bool

    def flush(self) -> None:
        """Bring all that was made to the disk; may be called in another thread."""
        ...

    def find(self, path: bytes) -> Seen | None:
        """What is there. Parent directories are there too."""
        ...

    def readlink(self, path: bytes) -> bytes: ...

    def check(self, item: Item) -> str:
        """Why this object has no place here, if so."""
        ...

    def needs(self, item: Item) -> int:
        """Octets of the file system that the object will take, about."""
        ...

    def make_directory(self, item: Item) -> bool:
        """Make it, or take the one that is there; returns whether it was made."""
        ...

    def leave(self, item: Item, xattrs: Xattrs | None, restorer: Restorer) -> list[Lost]:
        """All in the directory is done: give it its attributes (unless None); it is flushed by the next
        :meth:`flush`, or at once."""
        ...

    def begin(self, item: Item) -> Draft:
        """Make a file, to be written, committed or discarded."""
        ...

    def make(self, item: Item, link: bytes) -> Draft:
        """Make a symlink to ``link``, or a special file."""
        ...

    def commit(self, draft: Draft, path: bytes, replace: bool) -> None:
        """Give a draft its name, and close it."""
        ...

    def discard(self, draft: Draft) -> None: ...

    def link(self, first: bytes, path: bytes, replace: bool) -> None:
        """A further link to an object that was copied."""
        ...

    def free(self) -> tuple[int, int]:
        """Octets and objects that there is room for."""
        ...


def lock_work(fd: int, where: str) -> None:
    """Keep others out of the working directory, as long as it is open. Raises TreeError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TreeError(f"another copy into {where} is under way", "wait until it has ended") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
