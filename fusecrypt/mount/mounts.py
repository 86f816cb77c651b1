"""What the kernel's mount table says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from fusecrypt.lane import Storage

FSTYPE = "fuse.fusecrypt"

_NETWORK = frozenset(
    "nfs nfs4 cifs smb3 9p ceph afs coda glusterfs lustre beegfs orangefs pvfs2 virtiofs vboxsf fuse".split()
)
_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class MountPoint:
    """A line of /proc/self/mountinfo. ``device`` is "major:minor"; ``user`` is who made a FUSE mount."""

    path: str
    fstype: str
    source: str
    device: str
    read_only: bool
    user: int | None


def mount_table() -> list[MountPoint]:
    """All mounts of this namespace, in order: a later one on the same path hides an earlier one."""
    with open("/proc/self/mountinfo", "rb") as file:
        return [_parse(os.fsdecode(line)) for line in file]


def _parse(line: str) -> MountPoint:
    fields = line.rstrip("\n").split(" ")  # the kernel escapes blanks, but not other white space
    tail = fields[fields.index("-") + 1 :]
    user = re.search(r"(?:^|,)user_id=(\d+)", tail[2])
    return MountPoint(
        path=_unescape(fields[4]),
        fstype=tail[0],
        source=_unescape(tail[1]),
        device=fields[2],
        read_only="ro" in (*fields[5].split(","), *tail[2].split(",")),
        user=int(user[1]) if user else None,
    )


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def mount_at(path: str) -> MountPoint | None:
    """The topmost mount exactly on ``path``, of any type."""
    return mount_on(os.path.realpath(path))


def mount_on(path: str) -> MountPoint | None:
    """The same for a path without symlinks. It is not looked at: a daemon would wait for itself."""
    return next((m for m in reversed(mount_table()) if m.path == path), None)


def device_of(fd: int) -> str:
    """That of the file system of ``fd``, as the mount table has it."""
    device = os.fstat(fd).st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def storage_of(fd: int) -> Storage:
    """What the file system of ``fd`` lies on; other FUSE daemons count as networks."""
    device = device_of(fd)
    kinds = {m.fstype.partition(".")[0] for m in mount_table() if m.device == device}
    if kinds & _NETWORK:
        return Storage.NETWORK
    return Storage.MEMORY if kinds and kinds <= _MEMORY else Storage.DISK
