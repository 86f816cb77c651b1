"""What a mount holds for the kernel, and a kernel that lets go of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.mount.support import PATIENCE, Mount, run


def _status(mount: Mount) -> dict[str, Any]:
    return dict(json.loads(run("status", "--json", mount.path).stdout))


def inodes(mount: Mount) -> int:
    """How many the kernel refers to."""
    return int(_status(mount)["inodes"])


def requests(mount: Mount) -> int:
    """How many there were so far."""
    return int(_status(mount)["requests"])


def descriptors(mount: Mount) -> int:
    """How many its daemon has open."""
    return len(os.listdir(f"/proc/{mount.pid}/fd"))


def memory(mount: Mount) -> int:
    """Octets of the daemon that are its own."""
    lines = Path(f"/proc/{mount.pid}/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def drop_caches() -> None:
    """The kernel forgets all inodes that nobody uses just now."""
    Path("/proc/sys/vm/drop_caches").write_text("2")


def forgotten(mount: Mount) -> None:
    """Wait until the kernel refers to nothing but the root."""
    deadline = time.monotonic() + PATIENCE
    while inodes(mount) > 1:
        assert time.monotonic() < deadline, inodes(mount)
        drop_caches()
        time.sleep(0.1)
