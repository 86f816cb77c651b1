"""How far the kernel reads ahead in files of a mount."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_KIB = 1024
"""The most that one request can ask for. The kernel's default for FUSE is 128."""


def read_further_ahead(device: str) -> None:
    """Raise it for the mount with that device number ("major:minor"), where we may: root alone can."""
    limit = Path("/sys/class/bdi", device, "read_ahead_kb")
    with suppress(OSError, ValueError):
        if int(limit.read_text()) < _KIB:
            limit.write_text(str(_KIB))
