"""Copying a plain directory into a tree."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from fusecrypt.native import open_quietly
from fusecrypt.offline.export import check_apart, copy
from fusecrypt.offline.items import Tally
from fusecrypt.offline.plainsource import PlainSource
from fusecrypt.offline.rules import Rules
from fusecrypt.offline.treetarget import TreeTarget
from fusecrypt.offline.walk import Tell
from fusecrypt.tree.tree import Tree


def import_directory(
    source: Path, tree: Tree, rules: Rules, tell: Tell, tally: Tally, *, check_room: bool = True
) -> None:
    """Copy the contents of a directory into the root of a tree that nothing else writes meanwhile.

    Else as export_tree(); names and symlink targets that are too long for the tree are failures too.
    """
    check_apart(tree.root_fd, source)
    fd = open_quietly(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with closing(PlainSource(fd)) as plain, closing(TreeTarget(tree)) as target:
            copy(plain, target, rules, tell, tally, check_room)
    finally:
        os.close(fd)
