"""What the kernel's mount table says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

FSTYPE = "fuse.fusecrypt"

_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "glusterfs", "fuse"})


@dataclass(frozen=True)
class MountPoint:
    """A line of /proc/self/mountinfo. ``device`` is "major:minor"."""

    path: str
    fstype: str
    source: str
    device: str


def mount_table() -> list[MountPoint]:
    """All mounts of this namespace, in order: a later one on the same path hides an earlier one."""
    with open("/proc/self/mountinfo", "rb") as file:
        return [_parse(os.fsdecode(line)) for line in file]


def _parse(line: str) -> MountPoint:
    fields = line.rstrip("\n").split(" ")  # the kernel escapes blanks, but not other white space
    tail = fields[fields.index("-") + 1 :]
    return MountPoint(_unescape(fields[4]), tail[0], _unescape(tail[1]), fields[2])


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def mount_at(path: str) -> MountPoint | None:
    """The topmost mount exactly on ``path``, of any type."""
    return mount_on(os.path.realpath(path))


def mount_on(path: str) -> MountPoint | None:
    """The same for a path without symlinks. It is not looked at: a daemon would wait for itself."""
    return next((m for m in reversed(mount_table()) if m.path == path), None)


def is_remote(fd: int) -> bool:
    """Whether the file system of ``fd`` is a network or FUSE one: it may be slow, and may report a failed
    write only at close."""
    device = os.fstat(fd).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    kinds = {m.fstype for m in mount_table() if m.device == name}
    return any(kind.partition(".")[0] in _REMOTE for kind in kinds)
