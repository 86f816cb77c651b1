"""Directories below a root by their paths: few are open at a time, and any can be opened again."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

from fusecrypt.native import open_quietly
from fusecrypt.offline.items import name_of, parent_of
from fusecrypt.offline.lower import DIRECTORY, open_directory

_MOST: Final = 64


class Places:
    """Each path is walked one name at a time and never through a symlink, so it cannot lead out of the root.

    A descriptor holds until many others have been asked for, so use it at once and from one thread.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def fd(self, path: bytes) -> int:
        """A readable descriptor of a directory. Raises OSError: ENOTDIR, or ELOOP for a symlink."""
        if not path:
            return self._root_fd
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        above = self._root_fd if b"/" not in path else self._open.get(parent_of(path))
        if above is None:
            fd = open_directory(self._root_fd, path)
        else:
            fd = open_quietly(name_of(path), DIRECTORY, above)
        self._open[path] = fd
        if len(self._open) > _MOST:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
