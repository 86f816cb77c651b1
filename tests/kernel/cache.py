"""What the kernel tests build once and keep.

There is a directory for each thing, each release of the system and each version of the sources that make it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

_HERE = Path(__file__).parent


def default_cache() -> Path:
    """${XDG_CACHE_HOME:-~/.cache}/fusecrypt-kernel"""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusecrypt-kernel"


def built(cache: Path, name: str, sources: Iterable[str], build: Callable[[Path], None]) -> Path:
    """The directory that `build` fills, or has filled before. One process builds, the others wait.

    `sources` are the files beside this one that decide what comes out: when they change, it is built
    anew. Remove the directory to have it built from newer packages.
    """
    system = Path("/etc/os-release").read_bytes()
    makers = b"".join((_HERE / source).read_bytes() for source in sources)
    directory = cache / f"{name}-{hashlib.sha256(system + makers).hexdigest()[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "complete").exists():
            build(directory)
            (directory / "complete").touch()
    return directory
