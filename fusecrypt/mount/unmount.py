"""Take a mount down so that nothing stays unwritten."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import time

from fusecrypt.errors import FusecryptError, TreeError, UnsupportedSystemError, UsageError
from fusecrypt.mount.mounts import FSTYPE, MountPoint, mount_at, mount_on, mount_table

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_PATIENCE = 1.0
"""Seconds for those who only look (df, an indexer) or are about to end."""
_PAUSE = 0.02
_COVERED = 0.1
"""Seconds between looks at whether a mount is still covered by another."""


class _BusyError(TreeError):
    """Somebody uses the mount."""


def unmount(mountpoint: str, lazy: bool = False) -> None:
    """Unmount a fusecrypt mount; the kernel hands over all dirty data first.

    Raises UsageError if nothing of ours is mounted there, TreeError if it stays busy, UnsupportedSystemError
    if fusermount3 is needed and absent.
    """
    found = mount_at(mountpoint)
    if found is None or found.fstype != FSTYPE:
        raise UsageError(f"{mountpoint} is no fusecrypt mount", "see `findmnt -t fuse.fusecrypt`")
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            _take_down(found, lazy)
        except _BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


def detach(device: str) -> None:
    """For a daemon that ends while its mount stands: unmount it, wherever it was moved. Raises TreeError."""
    found = _mount_of(device)
    if found is not None and mount_on(found.path) == found:
        _take_down(found, lazy=True)


def unmount_if_unused(device: str) -> bool:
    """For a daemon that may end: unmount, unless somebody uses the mount or another one covers it.

    Returns whether it is gone from everywhere: it may be bound to several places.
    """
    while (found := _mount_of(device)) is not None:
        if mount_on(found.path) != found:
            return False
        try:
            _take_down(found, lazy=False)
        except FusecryptError:
            return False
    return True


def _mount_of(device: str) -> MountPoint | None:
    return next((m for m in mount_table() if m.device == device and m.fstype == FSTYPE), None)


def _take_down(found: MountPoint, lazy: bool) -> None:
    if os.geteuid() == 0:
        _umount2(found.path, lazy)
    else:
        _fusermount(found.path, lazy)


def _umount2(path: str, lazy: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) == 0:
        return
    code = ctypes.get_errno()
    raise _busy(path) if code == errno.EBUSY else _refused(path, os.strerror(code))


def _fusermount(path: str, lazy: bool) -> None:
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", path]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UnsupportedSystemError("fusermount3 is not installed", "install the package fuse3") from None
    if result.returncode == 0:
        return
    text = result.stderr.strip()
    raise _busy(path) if "busy" in text else _refused(path, text)


def _refused(path: str, reason: str) -> TreeError:
    hint = "its owner and root may; `fusecrypt status` lists mounts"
    if "open /etc/mtab" in reason:
        hint = "fusermount3 needs that file: `ln -s ../proc/self/mounts /etc/mtab`"
    return TreeError(f"cannot unmount {path}: {reason}", hint)


def _busy(path: str) -> _BusyError:
    return _BusyError(
        f"{path} is busy", f"`fuser -vm {path}` shows who uses it; --lazy detaches it all the same"
    )


def flush_and_detach(device: str) -> None:
    """For the daemon's own end: unmount, or if somebody still uses it write everything and detach it.

    Blocks while the kernel sends its dirty data, so the requests have to be served meanwhile; and while
    another mount on the same place covers this one. Raises TreeError, OSError.
    """
    while (found := _mount_of(device)) is not None and mount_on(found.path) != found:
        time.sleep(_COVERED)
    if found is None:
        return
    try:
        _take_down(found, lazy=False)
    except TreeError:
        fd = os.open(found.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _syncfs(fd)
            detach(device)
            _syncfs(fd)
        finally:
            os.close(fd)


def _syncfs(fd: int) -> None:
    ctypes.CDLL(None, use_errno=True).syncfs(fd)
