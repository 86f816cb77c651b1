"""A directory as the checks see it: through a mount, or without one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fusecrypt.tree.tree import Tree
from tests.tree.support import User


class Reader(NamedTuple):
    """One directory."""

    read: Callable[[str], bytes]
    names: Callable[[], list[str]]


def through_mount(path: Path) -> Reader:
    return Reader(lambda name: _read(path / name), lambda: os.listdir(path))


def _read(path: Path) -> bytes:
    """Without close()'s errors: it tells of what the kernel could not write, which is no reader's concern."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, 1 << 20, 0)
    finally:
        with suppress(OSError):
            os.close(fd)


def through_tree(tree: Tree, name: str) -> Reader:
    user = User(tree)
    return Reader(
        lambda file: user.read(f"{name}/{file}"), lambda: [os.fsdecode(file) for file in user.list(name)]
    )
