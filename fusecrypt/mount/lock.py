"""What can be done with a lower tree at the same time.

Whoever writes to a tree holds an advisory lock (flock) on its root directory for as long as the process
lives: exclusive, or shared under ``--shared``. It costs the lower tree nothing, and the kernel drops it with
the process, however that ends. Anybody who may read the directory can lock it, so a lock counts only if its
holder may write there. The mount table tells of trees inside one another, of the kernel's mounts, and of
mounts that have no lock because such a stranger had it when they were made.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path

from fusecrypt.errors import TreeError
from fusecrypt.mount.holders import Holder, holders, may_write
from fusecrypt.mount.mounts import FSTYPE, MountPoint, device_of, mount_table
from fusecrypt.mount.status import ask

_PATIENCE = 2.0
"""Seconds for a mount to be taken down that still shows, or for a command to end."""
_ENDING = 10.0
"""Seconds for a daemon to end whose mount is gone: it may have much to close, on a busy machine."""
_PAUSE = 0.02


class Use(Enum):
    """What somebody is about to do with a tree."""

    READ = "a mount that only reads: beside mounts of all kinds"
    SHARE = "a mount that writes beside others that know of it"
    WRITE = "one mount that writes"
    IMPORT = "writing without a mount: beside mounts that only read"
    REBUILD = "changing headers and names: beside no mount at all"


_SHARED = (Use.READ, Use.SHARE)
_UNLISTED = (Use.IMPORT, Use.REBUILD)
"""What the mount table does not show: nothing but the lock keeps others off."""


def use_of(*, read_only: bool, shared: bool) -> Use:
    """That of a mount."""
    if read_only:
        return Use.READ
    return Use.SHARE if shared else Use.WRITE


def hold(root_fd: int, lower: str, use: Use) -> str:
    """Lock the lower root for as long as ``root_fd`` and its duplicates are open, or until :func:`release`.

    ``lower`` is its real path. Returns a remark for the user, or nothing. Raises TreeError if somebody stands
    in the way, OSError (ENOLCK, EOPNOTSUPP …) where the lower file system has no such locks.
    """
    _check_mounts(root_fd, lower, use)
    try:
        stranger = _lock(root_fd, lower, use)
    except OSError:
        _check_unlocked(root_fd, lower, use, locked=False)
        raise
    _check_mounts(root_fd, lower, use)
    _check_unlocked(root_fd, lower, use, locked=stranger is None)
    if stranger is None:
        return ""
    return f"{lower} was locked by process {stranger.pid}, which may not write there and was not heeded"


def check(root_fd: int, lower: str, use: Use) -> str:
    """Whether :func:`hold` would succeed now, before anybody is asked for a secret.

    Returns a remark for the user, or nothing. Raises TreeError.
    """
    try:
        remark = hold(root_fd, lower, use)
        release(root_fd)
    except OSError as error:
        if use is Use.READ:
            return ""
        return f"{lower} cannot be locked ({error.strerror}): see that nothing else mounts it for writing"
    return remark


def release(root_fd: int) -> None:
    """Give the lock up. Raises OSError."""
    fcntl.flock(root_fd, fcntl.LOCK_UN)


def _lock(root_fd: int, lower: str, use: Use) -> Holder | None:
    """Take the lock; returns one that kept us from it and does not count."""
    begun = time.monotonic()
    while not _try(root_fd, use):
        found = holders(root_fd)
        writers = [holder for holder in found if holder.may_write()]
        strangers = bool(found) and not writers
        if strangers and use not in _UNLISTED:
            return found[0]
        if use is Use.READ and writers and all(holder.is_mount for holder in writers):
            return None
        waited = time.monotonic() - begun
        if waited > _PATIENCE:
            if strangers:
                raise TreeError(
                    f"{lower} is locked by process {found[0].pid}, which may not write there",
                    f"end it; `fuser -v {lower}` shows who has the directory open",
                )
            places = [mount.path for mount in _writable(root_fd, lower)]
            ending = not places and all(holder.is_mount for holder in writers)
            if waited > _ENDING or not ending:
                raise _in_use(lower, writers, places)
        time.sleep(_PAUSE)
    return None


def _try(root_fd: int, use: Use) -> bool:
    try:
        fcntl.flock(root_fd, (fcntl.LOCK_SH if use in _SHARED else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    return True


def _writable(root_fd: int, lower: str) -> list[MountPoint]:
    """Our mounts that write to the tree, but for those of somebody who may not."""
    return [
        m
        for m in mount_table()
        if m.fstype == FSTYPE and m.source == lower and not m.read_only and _counts(root_fd, m)
    ]


def _counts(root_fd: int, mount: MountPoint) -> bool:
    return mount.user is None or may_write(root_fd, mount.user)


def _in_use(lower: str, writers: list[Holder], places: list[str]) -> TreeError:
    """Who has the lock, as far as the kernel tells us."""
    message = f"{lower} is in use for writing already"
    if not writers:
        return TreeError(message, "wait until that has ended")
    message += f" by process {writers[0].pid}"
    if not writers[0].is_mount:
        command = writers[0].command
        return TreeError(message + (f" ({command})" if command else ""), "wait until it has ended")
    return TreeError(
        message + (f" (mounted on {', '.join(places)})" if places else ""),
        "unmount it, or use `--shared` on both mounts, or `-o ro` on this one",
    )


def _check_mounts(root_fd: int, lower: str, use: Use) -> None:
    """Raises TreeError for a mount that the lock does not tell of."""
    if use is Use.READ:
        return
    for mount in mount_table():
        if mount.fstype not in (FSTYPE, "ecryptfs") or (mount.read_only and use is not Use.REBUILD):
            continue
        if not _counts(root_fd, mount):
            continue
        if mount.source == lower:
            if use is Use.REBUILD or mount.fstype != FSTYPE:
                raise _mounted(lower, mount)
        elif _nested(mount.source, lower) and mount.device != device_of(root_fd):  # it may lie in that mount
            raise TreeError(
                f"{lower} and {mount.source}, which is mounted on {mount.path}, lie in one another",
                "unmount it first" if use is Use.REBUILD else "unmount it first, or use `-o ro` on this one",
            )


def _check_unlocked(root_fd: int, lower: str, use: Use, *, locked: bool) -> None:
    """Raises TreeError for a mount that writes although it has no lock, or we have none that tells of it.

    One whose daemon was killed may be about to be taken down.
    """
    begun = time.monotonic()
    while use is not Use.READ and (others := _writable(root_fd, lower)):
        if use is Use.SHARE and _know_of_us(root_fd, others, locked=locked):
            return
        if time.monotonic() - begun > _PATIENCE:
            raise _mounted(lower, others[0])
        time.sleep(_PAUSE)


def _know_of_us(root_fd: int, others: list[MountPoint], *, locked: bool) -> bool:
    """Whether the daemon of each of these mounts shares our lock, or says that it writes beside others."""
    sharing = [each for each in holders(root_fd) if each.pid != os.getpid() and each.is_mount]
    devices = {mount.device: mount for mount in others}
    if locked and len(devices) <= sum(each.may_write() for each in sharing):
        return True
    with suppress(TreeError, OSError):
        return all(ask(mount).get("shared") is True for mount in devices.values())
    return False


def _mounted(lower: str, mount: MountPoint) -> TreeError:
    return TreeError(f"{lower} is mounted on {mount.path}", "unmount it first")


def _nested(one: str, other: str) -> bool:
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)
