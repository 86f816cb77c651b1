"""What the log says of files that cannot be read: a line for each, not one for every read."""

from __future__ import annotations

import errno
import logging
import os

from fusecrypt.errors import FusecryptError
from fusecrypt.escape import escaped
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import lower_path

_MOST = 1000
"""Files that are named, and remembered; a tree may hold any number."""

log = logging.getLogger("fusecrypt")


class DamageLog:
    """Names each file once, by its lower path: names that are encrypted below stay so in the log."""

    def __init__(self) -> None:
        self._told: set[tuple[int, int]] = set()

    def note(self, node: Node, error: OSError | FusecryptError) -> None:
        """A request for this file failed."""
        identity = node.dev, node.ino
        if error.errno != errno.EIO or identity in self._told or len(self._told) > _MOST:
            return
        self._told.add(identity)
        if len(self._told) > _MOST:
            log.warning("more files cannot be read, which are not named")
            return
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        log.warning("%s cannot be read: %s", escaped(os.fsdecode(lower_path(node))), reason)
