"""Which processes have a lock on a directory, and what is known of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

DAEMON = "fusecrypt.mount.daemon"
_ACL = "system.posix_acl_access"


@dataclass(frozen=True)
class Holder:
    """A process that took a lock on the directory of ``fd``."""

    pid: int
    fd: int

    @property
    def words(self) -> list[str]:
        """Its command line; nothing where that cannot be read."""
        with suppress(OSError), open(f"/proc/{self.pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")]
        return []

    @property
    def is_mount(self) -> bool:
        """Whether it serves a mount."""
        return DAEMON in self.words

    @property
    def command(self) -> str:
        """``fusecrypt rekey``, if it is that."""
        for program, command in pairwise(self.words):
            if os.path.basename(program) == "fusecrypt":
                return f"fusecrypt {command}"
        return ""

    def may_write(self) -> bool:
        """Whether its user can write to the directory; so it seems if nothing is known of that user.

        A process that is gone, and gave the lock to another one, is none of ours.
        """
        try:
            with open(f"/proc/{self.pid}/status") as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        except OSError:
            return _lives(self.pid)
        groups = {int(fields["Gid"].split()[0]), *map(int, fields["Groups"].split())}
        # The real ids: those of a set-uid program are still its caller's.
        return may_write(self.fd, int(fields["Uid"].split()[0]), groups)


def may_write(fd: int, uid: int, groups: set[int] | None = None) -> bool:
    """Whether a user may write to the directory; if ``groups`` are not known, perhaps by one of them."""
    st = os.fstat(fd)
    if uid in (0, st.st_uid) or st.st_mode & stat.S_IWOTH:
        return True
    if not st.st_mode & stat.S_IWGRP:
        return False
    return groups is None or st.st_gid in groups or _has_acl(fd)


def _has_acl(fd: int) -> bool:
    with suppress(OSError):
        return bool(os.getxattr(fd, _ACL))
    return False


def _lives(pid: int) -> bool:
    """Also one that /proc hides from us."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def holders(fd: int) -> list[Holder]:
    """Those with a lock on this directory, as far as the kernel tells."""
    st = os.fstat(fd)
    where = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}:{st.st_ino}"
    found = list(_locks())
    # Where the device is one of many that stand for a file system (Btrfs, overlayfs) it is another one there.
    exact = [pid for place, pid in found if place == where]
    return [
        Holder(pid, fd) for pid in exact or (pid for place, pid in found if place.endswith(f":{st.st_ino}"))
    ]


def _locks() -> Iterator[tuple[str, int]]:
    """Place and process of each: ``1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF``."""
    with suppress(OSError), open("/proc/locks") as file:
        for line in file:
            fields = line.split()
            if fields[1] == "FLOCK":
                yield fields[5], int(fields[4])
