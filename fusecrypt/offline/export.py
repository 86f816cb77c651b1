"""Copying what a tree shows to a plain directory, or into a tar stream."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from fusecrypt.errors import UsageError
from fusecrypt.native import stat_many
from fusecrypt.offline.copyfile import Workers
from fusecrypt.offline.items import Tally
from fusecrypt.offline.plaintarget import PlainTarget
from fusecrypt.offline.rules import Rules, UnfinishedError
from fusecrypt.offline.space import Estimate
from fusecrypt.offline.target import Target
from fusecrypt.offline.tarstream import TarStream
from fusecrypt.offline.transfer import Transfer
from fusecrypt.offline.treesource import TreeSource, several_looks
from fusecrypt.offline.walk import Source, Tell
from fusecrypt.tree.tree import Tree

_LOOKS = 16
"""Threads that look at objects of a directory."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def export_tree(
    tree: Tree,
    destination: Path,
    rules: Rules,
    tell: Tell,
    tally: Tally,
    *,
    check_room: bool = True,
    workers: Workers | None = None,
) -> None:
    """Copy the contents of a tree into a directory, which is made if absent.

    What an earlier run has copied is not copied again. Every object that is not copied as it is goes to
    ``tell``. ``workers`` are threads of this process unless given. Raises UnfinishedError at the first such
    failure, unless the rules say to keep going; UsageError where one lies in the other; TreeError where there
    is no room; OSError.
    """
    check_apart(tree.root_fd, destination)
    # A cluster is there for trees that are far away.
    looks = several_looks(_LOOKS) if workers and workers.carry_many else nullcontext(stat_many)
    with closing(PlainTarget(destination)) as target, looks as look:
        copy(TreeSource(tree, look), target, rules, tell, tally, check_room, workers)


def export_tar(tree: Tree, out: BinaryIO, rules: Rules, tell: Tell, tally: Tally) -> None:
    """Write the contents of a tree to a stream as a tar archive. Raises as export_tree() does."""
    source = TreeSource(tree)
    for _ in Estimate(source, rules.selection, tally, None).misfits():
        pass
    TarStream(source, out, rules, tell, tally).run()


def copy(
    source: Source,
    target: Target,
    rules: Rules,
    tell: Tell,
    tally: Tally,
    check_room: bool,
    workers: Workers | None = None,
) -> None:
    """Look whether all fits, and copy it. Raises UnfinishedError, TreeError, OSError."""
    estimate = Estimate(source, rules.selection, tally, target)
    misfits = list(estimate.misfits())
    if misfits and not rules.keep_going:
        for misfit in misfits[:-1]:
            tell(misfit)
        raise UnfinishedError(misfits[-1])
    if check_room:
        estimate.check_room()
    Transfer(source, target, rules, tell, tally, workers or Workers(len(os.sched_getaffinity(0)))).run()


def check_apart(fd: int, other: Path) -> None:
    """Raises UsageError where one directory lies in the other or is the same. ``other`` need not exist."""
    place = other if os.path.isdir(other) else other.absolute().parent
    with suppress(FileNotFoundError):
        other_fd = os.open(place, _DIRECTORY)
        try:
            if _is_within(other_fd, fd) or (place is other and _is_within(fd, other_fd)):
                raise UsageError(
                    f"{other} and the other directory lie in one another", "choose another place"
                )
        finally:
            os.close(other_fd)


def _is_within(fd: int, above_fd: int) -> bool:
    """Whether a directory is another one, or lies in it."""
    wanted = os.fstat(above_fd)
    at = os.dup(fd)
    try:
        while True:
            here = os.fstat(at)
            if os.path.samestat(here, wanted):
                return True
            up = os.open("..", _DIRECTORY, dir_fd=at)
            os.close(at)
            at = up
            if os.path.samestat(os.fstat(at), here):
                return False
    finally:
        os.close(at)
