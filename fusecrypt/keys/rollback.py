"""What this user has seen of a key-slot file, so that an older copy of it is noticed.

One small file a volume in the user's state directory: the highest ``seq`` that was used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import read_small, replace_file
from fusecrypt.keys.homes import home_directory
from fusecrypt.keys.slotfile import SlotFile

_LONGEST = 32


class RollbackMemory:
    """The memory in ``directory``, by default the user's state directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or state_directory(os.environ)

    def warning(self, file: SlotFile) -> str:
        """What to tell before a file is used that is older than one already seen; empty if it is not."""
        seen = self.highest(file.volume)
        if file.seq >= seen:
            return ""
        return (
            f"this key-slot file is an older copy (change {file.seq}; change {seen} was used before): "
            "secrets that were removed since may open it"
        )

    def highest(self, volume: bytes) -> int:
        """The highest ``seq`` seen for a volume; 0 if none or if the memory cannot be read."""
        try:
            return int(read_small(self._path(volume), _LONGEST))
        except (OSError, KeyFileError, ValueError):
            return 0

    def remember(self, file: SlotFile) -> None:
        """Keep a file's ``seq`` if it is the highest; OSError if that cannot be written.

        Only for a file whose MAC was found right: anybody can write a high number into another.
        """
        if file.seq > self.highest(file.volume):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path(file.volume), f"{file.seq}\n".encode())

    def _path(self, volume: bytes) -> Path:
        return self._directory / volume.hex()


def state_directory(environ: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/fusecrypt/keyslots``; the variable counts only if it is absolute."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else home_directory() / ".local" / "state") / "fusecrypt" / "keyslots"
