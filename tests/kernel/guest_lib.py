"""For scripts in the guest: keys, eCryptfs mounts, archives. Standard library only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# In the guest the module lies beside this one.
import manifest  # type: ignore[import-not-found]

MOUNT_POINT = "/mnt/upper"
_TAR_FLAGS = ("--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=no-timestamp")


def add_key(payload: str, description: str, kind: str = "user") -> None:
    """Add a key to the user keyring; the payload is hex. See tokens.py for what signatures stand for."""
    command = ["keyctl", "padd", kind, description, "@u"]
    subprocess.run(command, input=bytes.fromhex(payload), stdout=subprocess.DEVNULL, check=True)


def mount(lower: str, options: str, mount_point: str = MOUNT_POINT) -> str:
    """Mount a lower tree with the kernel's eCryptfs; OSError-like failures come with the kernel's log."""
    os.makedirs(mount_point, exist_ok=True)
    command = ["busybox", "mount", "-t", "ecryptfs", "-o", options, lower, mount_point]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        log = subprocess.run(["busybox", "dmesg"], capture_output=True, text=True).stdout.splitlines()
        raise OSError("\n".join([result.stderr.strip(), *log[-5:]]))
    return mount_point


def umount(mount_point: str = MOUNT_POINT) -> None:
    """Unmount and drop the caches, so that the next mount reads from the lower tree."""
    subprocess.run(["busybox", "umount", mount_point], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("3\n")


@contextmanager
def mounted(lower: str, options: str, mount_point: str = MOUNT_POINT) -> Iterator[str]:
    """A mount for the length of a with block."""
    yield mount(lower, options, mount_point)
    umount(mount_point)


def unpack(archive: str, directory: str) -> str:
    """Unpack a tar with owners, times, xattrs, ACLs and special files."""
    os.makedirs(directory, exist_ok=True)
    subprocess.run(["tar", *_TAR_FLAGS, "-C", directory, "-xpf", archive], check=True)
    return directory


def pack(directory: str, archive: str) -> None:
    """Pack a tree in a tar that keeps all of the same."""
    flags = [*_TAR_FLAGS, "--sparse", "--sort=name", "--format=posix"]
    subprocess.run(["tar", *flags, "-C", directory, "-cf", archive, "."], check=True)


def show(lower: str, options: str) -> Any:
    """Manifest of a lower tree through a fresh mount (a list of manifest.Entry)."""
    with mounted(lower, options) as upper:
        return manifest.manifest(upper)
