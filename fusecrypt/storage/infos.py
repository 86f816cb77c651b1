"""What is said of an object, in fsspec's form."""

from __future__ import annotations

import os
from typing import Any

from fusecrypt.errors import FusecryptError
from fusecrypt.storage.contents import shown_size
from fusecrypt.storage.heads import Head
from fusecrypt.storage.lower import FILE, LINK, Lower
from fusecrypt.storage.opened import Opened

_TOLD = ("created", "mtime", "LastModified", "last_modified", "ETag", "mode", "uid", "gid", "nlink", "ino")
"""What of a lower object holds of the upper one too."""


def describe(path: str, lower: Lower, head: Head | None, tree: Opened) -> dict[str, Any]:
    """The object at an upper path. Without its head a file's size is None."""
    info = {key: lower.info[key] for key in _TOLD if key in lower.info}
    info |= {"name": path, "type": lower.kind, "size": lower.size}
    if lower.kind == FILE:
        info["size"] = shown_size(lower, head, tree.policy) if head else None
    elif lower.kind == LINK:
        info |= {"islink": True, **_target(lower, tree)}
    return info


def _target(lower: Lower, tree: Opened) -> dict[str, Any]:
    """What a symlink says, if it is told and decodes."""
    if lower.target is None:
        return {}
    try:
        target = tree.codec.decode_target(lower.target)
    except FusecryptError:
        return {}
    return {"destination": os.fsdecode(target), "size": len(target)}
