"""Start the daemon of a mount and wait until the mount answers."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from types import TracebackType
from typing import NoReturn

from fusecrypt.errors import TreeError, UnsupportedSystemError, UsageError
from fusecrypt.mount.config import READY, MountConfig, error_from, send


def check_places(lower: str, mountpoint: str) -> None:
    """Refuse places that cannot work. Raises UsageError, UnsupportedSystemError.

    LOWER and MOUNTPOINT may be the same directory: the lower tree is reached through a descriptor that was
    opened before the mount covered it.
    """
    for what, path in (("lower directory", lower), ("mount point", mountpoint)):
        check_directory(what, path)
    below = os.path.commonpath((os.path.realpath(lower), os.path.realpath(mountpoint)))
    if below == os.path.realpath(lower) and not os.path.samefile(lower, mountpoint):
        raise UsageError(
            f"mount point {mountpoint} lies inside the lower directory {lower}",
            "choose a mount point outside it, or the lower directory itself",
        )
    if not os.path.exists("/dev/fuse"):
        raise UnsupportedSystemError(
            "/dev/fuse is absent", "load the module: `modprobe fuse`; a container has to be given it"
        )


def check_directory(what: str, path: str) -> None:
    """Raises UsageError for what is no directory, TreeError for a mount whose daemon is gone."""
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise TreeError(
                f"{what} {path} is a mount whose daemon is gone", f"take it down: `fusecrypt umount {path}`"
            ) from None
        is_directory = False
    if not is_directory:
        raise UsageError(f"{what} {path} is no directory", "create it, or check the path")


class Daemon:
    """The process that will serve a mount, started ahead: it loads its libraries while keys are found.

    It has none of the secrets that are read meanwhile. Leaving the context without having called
    :meth:`serve` ends it. It stays in our process group until the mount answers: where a look at the mount
    point makes systemd mount it, the kernel keeps all others waiting there. Ctrl-C is for us alone.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with theirs:
                self._process = subprocess.Popen(_command(theirs.fileno()), pass_fds=[theirs.fileno()])
        finally:
            signal.signal(signal.SIGINT, handler)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def serve(self, config: MountConfig, root_fd: int) -> None:
        """Hand over the keys; return when the mount answers. Raises the daemon's error: TreeError,
        UnsupportedSystemError."""
        ready, ready_w = os.pipe()
        try:
            send(self._socket, config, root_fd, ready_w)
        except BrokenPipeError:
            pass  # it died: what it wrote is on the terminal
        finally:
            os.close(ready_w)
            os.close(root_fd)
        with os.fdopen(ready, "rb") as answer:
            message = answer.read()
        if message != READY:
            self._process.wait()
            raise error_from(message)
        self._process.returncode = 0  # it lives on without us: not a child that was forgotten
        os.statvfs(config.mountpoint)


def become(config: MountConfig, root_fd: int) -> NoReturn:
    """Turn this process into the mount's daemon: it stays in the foreground."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with open(os.devnull, "wb") as nobody:
        send(ours, config, root_fd, nobody.fileno())
    theirs.set_inheritable(True)
    command = _command(theirs.fileno())
    os.execv(command[0], command)  # noqa: S606 - our own interpreter with our own arguments


def _command(fd: int) -> list[str]:
    return [sys.executable, "-I", "-m", "fusecrypt.mount.daemon", str(fd)]
