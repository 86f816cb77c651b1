"""Mount the file system itself: ask the kernel, or fusermount3 where we are not root, for a FUSE device."""

from __future__ import annotations

import array
import ctypes
import os
import socket
import subprocess
from collections.abc import Collection

from fusecrypt.errors import FusecryptError, TreeError, UnsupportedSystemError
from fusecrypt.mount.mounts import FSTYPE

_MS_FLAGS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "dirsync": 128, "noatime": 1024,
    "nodiratime": 2048, "relatime": 1 << 21, "strictatime": 1 << 24,
}  # fmt: skip
_NOT_FUSERMOUNT = frozenset({"relatime", "norelatime", "strictatime", "diratime", "nodiratime"})
"""Words it may not know, and which mean nothing to FUSE."""
_FUSE_DATA = ("default_permissions", "allow_other")
_REFUSALS = (
    ("user_allow_other", "leave allow_other out, or write a line `user_allow_other` into /etc/fuse.conf"),
    ("no write access", "choose a mount point that is yours"),
    ("access mountpoint", "choose a mount point that is yours"),
    ("Operation not permitted", "fusermount3 has to be set-user-id: install the package fuse3 again"),
    ("not owned by user", "choose a mount point that is yours: its directory has the sticky bit"),
    ("mount_max", "unmount some, or write a higher `mount_max = N` into /etc/fuse.conf"),
    ("", "`fusecrypt doctor` looks at what mounting needs"),
)
"""What fusermount3 says, by a part of it, and what helps then."""


def mount_device(source: str, mountpoint: str, options: Collection[str]) -> int:
    """Mount and return the descriptor of the FUSE device, on which the kernel's first request waits.

    ``options`` are words like ``ro`` or ``allow_other``. Raises TreeError, UnsupportedSystemError.
    """
    if os.geteuid() == 0 and "auto_unmount" not in options:
        return _mount_as_root(source, mountpoint, options)
    return _mount_by_fusermount(source, mountpoint, options)


def _mount_as_root(source: str, mountpoint: str, options: Collection[str]) -> int:
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise UnsupportedSystemError(
            f"cannot open /dev/fuse: {error.strerror}", "load the module: `modprobe fuse`"
        ) from None
    flags = 0
    for word in options:
        flags |= _MS_FLAGS.get(word, 0)
    data = [f"fd={device}", "rootmode=40000", "user_id=0", "group_id=0"]
    data += [word for word in _FUSE_DATA if word in options]
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (source, mountpoint, FSTYPE)
    if libc.mount(*map(os.fsencode, arguments), ctypes.c_ulong(flags), ",".join(data).encode()):
        os.close(device)
        raise TreeError(
            f"cannot mount on {mountpoint}: {os.strerror(ctypes.get_errno())}",
            "`fusecrypt doctor` looks at what mounting needs",
        )
    return device


def _mount_by_fusermount(source: str, mountpoint: str, options: Collection[str]) -> int:
    """fusermount3 sends the device back over a socket; with auto_unmount it stays to watch that socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    escaped = source.replace("\\", "\\\\").replace(",", "\\,")
    words = ",".join((*sorted(set(options) - _NOT_FUSERMOUNT), "subtype=fusecrypt", f"fsname={escaped}"))
    command = ["fusermount3", "-o", words, "--", mountpoint]
    with theirs:
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        try:
            helper = subprocess.Popen(
                command,
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,  # not our caller's: with auto_unmount it lives on
            )
        except FileNotFoundError:
            raise UnsupportedSystemError(
                "fusermount3 is not installed", "install the package fuse3"
            ) from None
    _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    if "auto_unmount" not in options or not ancillary:
        helper.wait()
    assert helper.stderr is not None
    with helper.stderr:
        if not ancillary:
            raise _refused(mountpoint, helper.stderr.read().decode(errors="replace"))
    if "auto_unmount" in options:
        ours.detach()  # closed with this process, which is what fusermount3 waits for
    else:
        ours.close()
    device = array.array("i", ancillary[0][2])[0]
    os.set_inheritable(device, False)
    return device


def _refused(mountpoint: str, said: str) -> FusecryptError:
    """The error for what fusermount3 said, on one line or more."""
    message = "; ".join(line.removeprefix("fusermount3: ") for line in said.strip().splitlines())
    if "open /dev/fuse" in message:
        return UnsupportedSystemError(
            f"fusermount3 lacks what it needs: {message}", "`fusecrypt doctor` says how to mend it"
        )
    hint = next(hint for part, hint in _REFUSALS if part in message)
    return TreeError(f"fusermount3 did not mount on {mountpoint}: {message}", hint)
