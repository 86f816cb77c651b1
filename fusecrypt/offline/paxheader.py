"""Headers of a tar archive in the pax form, as GNU tar writes them: octets of names and attributes as they
are, times to the nanosecond."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass

from fusecrypt.native import Stat

_NAME = 100
"""Octets of a name that the old header has room for; longer ones, and what is not ASCII, are in a record."""
_ID_MAX = 0o7777777
_SIZE_MAX = 0o77777777777


@dataclass(frozen=True)
class Member:
    """What an archive says of an object. ``type`` is tarfile's, ``link`` the target of a link, ``records``
    are pax records beyond the usual ones."""

    path: bytes
    type: bytes
    stat: Stat
    mode: int
    records: dict[bytes, bytes]
    size: int = 0
    link: bytes = b""

    def header(self) -> bytes:
        """Whole blocks: the pax records, then the header that older programs read."""
        path = self.path + b"/" if self.type == tarfile.DIRTYPE else self.path
        records = {
            b"mtime": _time(self.stat.mtime_ns),
            b"atime": _time(self.stat.atime_ns),
            **_unless_plain(b"path", path),
            **_unless_plain(b"linkpath", self.link),
            **_unless_small(b"uid", self.stat.uid, _ID_MAX),
            **_unless_small(b"gid", self.stat.gid, _ID_MAX),
            **_unless_small(b"size", self.size, _SIZE_MAX),
            **self.records,
        }
        body = b"".join(_record(keyword, value) for keyword, value in records.items())
        extension = tarfile.TarInfo("PaxHeader")
        extension.type, extension.size = tarfile.XHDTYPE, len(body)
        info = tarfile.TarInfo(_plain(path))
        info.type, info.mode, info.linkname = self.type, self.mode, _plain(self.link)
        info.uid, info.gid, info.size = (
            0 if keyword in records else value
            for keyword, value in ((b"uid", self.stat.uid), (b"gid", self.stat.gid), (b"size", self.size))
        )
        info.mtime = min(max(0, self.stat.mtime_ns // 10**9), _SIZE_MAX)
        if self.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(self.stat.rdev), os.minor(self.stat.rdev)
        return _encoded(extension) + body + padding(len(body)) + _encoded(info)


def padding(size: int) -> bytes:
    """What follows contents of that size, up to a whole block."""
    return bytes(-size % tarfile.BLOCKSIZE)


def _encoded(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "replace")


def _plain(name: bytes) -> str:
    return name[:_NAME].decode("ascii", "replace").replace("\ufffd", "?")


def _unless_plain(keyword: bytes, name: bytes) -> dict[bytes, bytes]:
    return {} if name.isascii() and len(name) <= _NAME else {keyword: name}


def _unless_small(keyword: bytes, value: int, most: int) -> dict[bytes, bytes]:
    return {} if value <= most else {keyword: str(value).encode()}


def _record(keyword: bytes, value: bytes) -> bytes:
    """``30 mtime=1350244992.023960108\\n``; the length counts itself."""
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _time(ns: int) -> bytes:
    """Seconds, with all their digits."""
    return f"{'-' if ns < 0 else ''}{abs(ns) // 10**9}.{abs(ns) % 10**9:09d}".encode()
