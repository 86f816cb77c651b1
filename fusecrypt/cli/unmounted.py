"""Changes of a lower tree, which nothing may have mounted meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from fusecrypt.cli.terminal import say
from fusecrypt.errors import UsageError
from fusecrypt.mount import lock
from fusecrypt.mount.lock import Use


def check_outside(lower: Path, path: Path, advice: str) -> None:
    """Raises UsageError for a path that lies in the lower tree, where it would be seen as a broken file."""
    # Not resolve(), for which a link that leads to itself is no OSError.
    if Path(os.path.realpath(path.parent), path.name).is_relative_to(os.path.realpath(lower)):
        raise UsageError(f"{path} lies in the tree", advice)


def lock_unmounted(root_fd: int, lower: Path, use: Use) -> None:
    """Raises TreeError where the tree is in use; keeps others off until ``root_fd`` is closed."""
    try:
        remark = lock.hold(root_fd, os.path.realpath(lower), use)
    except OSError as error:
        remark = f"{lower} cannot be locked ({error.strerror}): see that nothing mounts it meanwhile"
    if remark:
        say(remark)
