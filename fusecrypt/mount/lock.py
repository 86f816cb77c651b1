"""One read-write mount of a lower tree at a time, or several that know of one another.

A mount that writes holds an advisory lock (flock) on the lower root directory for as long as its daemon
lives: exclusive, or shared under ``--shared``. It costs the lower tree nothing, and the kernel drops it with
the daemon, however that ends. It holds within one machine, and for this directory: not for those below it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from fusecrypt.errors import TreeError
from fusecrypt.mount.mounts import FSTYPE, mount_table

_PATIENCE = 2.0
"""Seconds for a mount to be taken down that still shows."""
_ENDING = 10.0
"""Seconds for a daemon to end whose mount is gone: it may have much to close, on a busy machine."""
_PAUSE = 0.02


def hold(root_fd: int, lower: str, shared: bool) -> None:
    """Lock the lower root for as long as ``root_fd`` and its duplicates are open.

    Raises TreeError if another mount stands in the way, OSError (ENOLCK, EOPNOTSUPP …) where the lower file
    system has no such locks. ``lower`` is the path for the message.
    """
    begun = time.monotonic()
    while not _try(root_fd, shared):
        waited = time.monotonic() - begun
        places = _mounted_on(lower) if waited > _PATIENCE else []
        if places or waited > _ENDING:
            hint = "use `--shared` on both mounts, or `-o ro` on this one"
            raise TreeError(f"{lower} is in use for writing already{_holder(root_fd, places)}", hint)
        time.sleep(_PAUSE)


def check(root_fd: int, lower: str, shared: bool) -> str:
    """Whether :func:`hold` would succeed now, before anybody is asked for a secret.

    Returns a remark for the user, or nothing. Raises TreeError.
    """
    try:
        hold(root_fd, lower, shared)
        fcntl.flock(root_fd, fcntl.LOCK_UN)
    except OSError as error:
        return f"{lower} cannot be locked ({error.strerror}): see that nothing else mounts it for writing"
    return ""


def _try(root_fd: int, shared: bool) -> bool:
    try:
        fcntl.flock(root_fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    return True


def _mounted_on(lower: str) -> list[str]:
    return [m.path for m in mount_table() if m.fstype == FSTYPE and m.source == lower]


def _holder(root_fd: int, places: list[str]) -> str:
    """Who has the lock, as far as the kernel tells us."""
    process = _process(root_fd)
    mounted = f" (mounted on {', '.join(places)})" if places else ""
    return (f" by process {process}" if process else "") + mounted


def _process(root_fd: int) -> int | None:
    """The process with a lock on this directory: ``1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF``."""
    st = os.fstat(root_fd)
    where = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}:{st.st_ino}"
    try:
        with open("/proc/locks") as file:
            for line in file:
                fields = line.split()
                if fields[1] == "FLOCK" and fields[5] == where:
                    return int(fields[4])
    except OSError:
        pass  # no /proc here: the message does without
    return None
