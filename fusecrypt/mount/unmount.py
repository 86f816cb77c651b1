"""Take a mount down so that nothing stays unwritten."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess

from fusecrypt.errors import TreeError, UnsupportedSystemError, UsageError
from fusecrypt.mount.mounts import FSTYPE, mount_at

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


def unmount(mountpoint: str, lazy: bool = False) -> None:
    """Unmount a fusecrypt mount; the kernel hands over all dirty data first.

    Raises UsageError if nothing of ours is mounted there, TreeError if it is busy, UnsupportedSystemError
    if fusermount3 is needed and absent.
    """
    found = mount_at(mountpoint)
    if found is None or found.fstype != FSTYPE:
        raise UsageError(f"{mountpoint} is no fusecrypt mount", "see `findmnt -t fuse.fusecrypt`")
    if os.geteuid() == 0:
        _umount2(found.path, lazy)
    else:
        _fusermount(found.path, lazy)


def _umount2(path: str, lazy: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) == 0:
        return
    code = ctypes.get_errno()
    raise _busy(path) if code == errno.EBUSY else TreeError(f"cannot unmount {path}: {os.strerror(code)}")


def _fusermount(path: str, lazy: bool) -> None:
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", path]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UnsupportedSystemError("fusermount3 is not installed", "install the package fuse3") from None
    if result.returncode == 0:
        return
    text = result.stderr.strip()
    raise _busy(path) if "busy" in text else TreeError(f"cannot unmount {path}: {text}")


def _busy(path: str) -> TreeError:
    return TreeError(
        f"{path} is busy", f"`fuser -vm {path}` shows who uses it; --lazy detaches it all the same"
    )


def flush_and_detach(mountpoint: str) -> None:
    """For the daemon's own end: unmount, or if somebody still uses it write everything and detach it.

    Blocks while the kernel sends its dirty data, so the requests have to be served meanwhile.
    """
    try:
        unmount(mountpoint)
    except UsageError:
        return
    except TreeError:
        fd = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _syncfs(fd)
            unmount(mountpoint, lazy=True)
            _syncfs(fd)
        finally:
            os.close(fd)


def _syncfs(fd: int) -> None:
    ctypes.CDLL(None, use_errno=True).syncfs(fd)
