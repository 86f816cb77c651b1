"""What else encrypted data can be: recognised by file names and first octets, so that nobody guesses."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

_LUKS = b"LUKS\xba\xbe"
_FOOTER = 16384
"""Octets from the end of an Android partition at which its encryption footer begins."""


@dataclass(frozen=True)
class Format:
    """Something else. ``advice`` says what opens it."""

    kind: str
    name: str
    advice: str


_GOCRYPTFS = Format("gocryptfs", "gocryptfs tree", "gocryptfs opens it")
_ENCFS = Format("encfs", "EncFS tree", "encfs opens it")
_SECUREFS = Format("securefs", "securefs tree", "securefs opens it")
_CRYFS = Format("cryfs", "CryFS tree", "cryfs opens it")
_FSCRYPT = Format(
    "fscrypt", "directory under fscrypt", "fscrypt unlocks it, where its file system is mounted"
)
FSCRYPT_ROOT = Format(
    "fscrypt-root", "file system with directories under fscrypt", "fscrypt unlocks them, where it is mounted"
)
_CLOUD_SYNC = Format(
    "synology-cloud-sync",
    "file of Synology's Cloud Sync",
    "Synology's Cloud Sync Decryption Tool opens it, with the password or key of the synchronisation task",
)
_CRYFS_CONFIG = Format("cryfs", "configuration of a CryFS tree", "cryfs opens the tree")
_ANDROID = Format(
    "android-fde", "Android partition with full-disk encryption", "it opens on its phone or with its footer"
)

_MARKS = {
    b"gocryptfs.conf": _GOCRYPTFS,
    b"gocryptfs.diriv": _GOCRYPTFS,
    b".gocryptfs.reverse.conf": _GOCRYPTFS,
    b".encfs6.xml": _ENCFS,
    b".encfs5": _ENCFS,
    b".encfs4": _ENCFS,
    b".securefs.json": _SECUREFS,
    b".config.pb": _SECUREFS,
    b"cryfs.config": _CRYFS,
    b".fscrypt": FSCRYPT_ROOT,
}
"""Files that stand in the root directory of such a tree."""

_MAGIC = (
    (b"__CLOUDSYNC_ENC__", _CLOUD_SYNC),
    (b"cryfs.config;", _CRYFS_CONFIG),
)
_ANDROID_MAGIC = (b"\xc4\xb1\xb5\xd0", b"\xc5\xb1\xb5\xd0")
"""Android's, and Samsung's own."""

SAMSUNG_MARK = b".MetaEcfsFile"
"""What stands in the root of a memory card that a Samsung phone encrypted, by eCryptfs."""

SAMSUNG_ADVICE = "a memory card of a Samsung phone: its key is in the phone, under the user's password or PIN"


_GET_FLAGS = 0x80086601
_ENCRYPTED = 0x800
"""FS_IOC_GETFLAGS and FS_ENCRYPT_FL of linux/fs.h."""


def directory_format(fd: int, names: Collection[bytes]) -> Format | None:
    """What an open directory and the names in it show it to be, or None."""
    for name, found in _MARKS.items():
        if name in names:
            return found
    flags = bytearray(8)
    with suppress(OSError):  # not every file system has them
        fcntl.ioctl(fd, _GET_FLAGS, flags)
    return _FSCRYPT if int.from_bytes(flags, "little") & _ENCRYPTED else None


def file_format(fd: int) -> Format | None:
    """What an open file or block device shows itself to be, or None. Raises OSError."""
    head = os.pread(fd, 64, 0)
    if head.startswith(_LUKS):
        version = int.from_bytes(head[6:8], "big")
        advice = "cryptsetup opens it; on a QNAP the passphrase is derived from the user's password"
        return Format(f"luks{version}", f"LUKS volume, version {version}", advice)
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    end = os.lseek(fd, 0, os.SEEK_END)
    if end > _FOOTER and os.pread(fd, 4, end - _FOOTER) in _ANDROID_MAGIC:
        return _ANDROID
    return None
