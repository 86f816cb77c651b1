"""Changes of a lower tree, which nothing may have mounted meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from fusecrypt.cli.terminal import say
from fusecrypt.errors import TreeError, UsageError
from fusecrypt.mount import lock
from fusecrypt.mount.mounts import FSTYPE, mount_table


def check_outside(lower: Path, path: Path, advice: str) -> None:
    """Raises UsageError for a path that lies in the lower tree, where it would be seen as a broken file."""
    if (path.absolute().parent.resolve() / path.name).is_relative_to(lower.resolve()):
        raise UsageError(f"{path} lies in the tree", advice)


def refuse_mounted(root_fd: int, lower: Path) -> None:
    """Raises TreeError where the tree is mounted; keeps mounts that write off until ``root_fd`` is closed."""
    source = os.path.realpath(lower)
    for mount in mount_table():
        if mount.fstype in (FSTYPE, "ecryptfs") and mount.source == source:
            raise TreeError(f"{lower} is mounted on {mount.path}", "unmount it first")
    try:
        lock.hold(root_fd, source, False)
    except OSError as error:
        say(f"{lower} cannot be locked ({error.strerror}): see that nothing mounts it meanwhile")
