"""Start the daemon of a mount and wait until the mount answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from typing import NoReturn

from fusecrypt.errors import TreeError, UnsupportedSystemError, UsageError
from fusecrypt.mount.config import READY, MountConfig, send


def check_places(lower: str, mountpoint: str) -> None:
    """Refuse places that cannot work. Raises UsageError, UnsupportedSystemError.

    LOWER and MOUNTPOINT may be the same directory: the lower tree is reached through a descriptor that was
    opened before the mount covered it.
    """
    for what, path in (("lower directory", lower), ("mount point", mountpoint)):
        if not os.path.isdir(path):
            raise UsageError(f"{what} {path} is no directory", "create it, or check the path")
    below = os.path.commonpath((os.path.realpath(lower), os.path.realpath(mountpoint)))
    if below == os.path.realpath(lower) and not os.path.samefile(lower, mountpoint):
        raise UsageError(
            f"mount point {mountpoint} lies inside the lower directory {lower}",
            "choose a mount point outside it, or the lower directory itself",
        )
    if not os.path.exists("/dev/fuse"):
        raise UnsupportedSystemError("/dev/fuse is absent", "load the module: `modprobe fuse`")


def start(config: MountConfig, root_fd: int) -> None:
    """Start the daemon and return when the mount answers. Raises TreeError with the daemon's message."""
    ready, ready_w = os.pipe()
    command, inherited = _command(config, root_fd, ready_w)
    process = subprocess.Popen(command, pass_fds=inherited, start_new_session=True)
    _close((*inherited, root_fd))
    with os.fdopen(ready, "rb") as answer:
        message = answer.read()
    if message != READY:
        process.wait()
        raise TreeError(f"cannot mount: {message.decode(errors='replace') or 'the daemon died'}")
    process.returncode = 0  # it lives on without us: not a child that was forgotten
    os.statvfs(config.mountpoint)


def become(config: MountConfig, root_fd: int) -> NoReturn:
    """Turn this process into the mount's daemon: it stays in the foreground."""
    null = os.open(os.devnull, os.O_WRONLY)
    command, inherited = _command(config, root_fd, null)
    for fd in inherited:
        os.set_inheritable(fd, True)
    os.execv(command[0], command)  # noqa: S606 - our own interpreter with our own arguments


def _command(config: MountConfig, root_fd: int, ready_fd: int) -> tuple[list[str], tuple[int, ...]]:
    config_fd, key_fd = send(config, root_fd)
    arguments = [str(fd) for fd in (config_fd, key_fd, ready_fd)]
    command = [sys.executable, "-I", "-m", "fusecrypt.mount.daemon", *arguments]
    return command, (root_fd, config_fd, key_fd, ready_fd)


def _close(fds: Iterable[int]) -> None:
    for fd in set(fds):
        os.close(fd)
