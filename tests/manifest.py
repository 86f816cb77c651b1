"""What a directory tree shows, as data that can be compared.

Only the standard library is used, since this also runs inside the guest of the kernel tests. The
format is that of the manifests in tests/data/golden: a list of entries sorted by path, each with

  path        relative; UTF-8 with surrogate escapes, and then also path_b64
  type        file dir symlink fifo socket chr blk, or ? if lstat fails
  mode        four octal digits
  uid, gid, mtime_ns
  nlink       not of directories
  size        of files (after reading) and symbolic links; bytes_read if reading gave another count
  sha256      of a file's contents
  target      of a symbolic link
  rdev        [major, minor] of devices
  hardlink_of the first path of the same inode, if there are several links
  xattrs      of files and directories, hex values, ACLs among them
  error, xattr_error   for instance read@0:EIO

The root itself is no entry. ``user.ecryptfs`` is left out: the kernel shows its metadata attribute
through a mount, fusecrypt hides it.
"""

from __future__ import annotations

import argparse
import base64
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Entry = dict[str, Any]

METADATA_XATTR = "user.ecryptfs"
# Where the kernel's answer depends on what was opened before (metadata in xattrs), this keeps the first.
BEFORE_OPEN = "stat_size_before_open"

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "chr",
    stat.S_IFBLK: "blk",
}


def manifest(root: str | os.PathLike[str]) -> list[Entry]:
    """Describe everything below `root`. Errors of single entries are part of the description."""
    entries: list[Entry] = []
    _walk(os.fsencode(root), b"", entries, {})
    return entries


def _walk(directory: bytes, relative: bytes, entries: list[Entry], seen: dict[tuple[int, int], str]) -> None:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        entries.append({"path": os.fsdecode(relative), "type": "dir", "error": "readdir:" + _name(error)})
        return
    for name in names:
        path = os.path.join(directory, name)
        shown = os.path.join(relative, name)
        entry = _describe(path, shown, seen)
        entries.append(entry)
        if entry["type"] == "dir":
            _walk(path, shown, entries, seen)


def _describe(path: bytes, shown: bytes, seen: dict[tuple[int, int], str]) -> Entry:
    entry: Entry = {"path": os.fsdecode(shown)}
    try:
        shown.decode()
    except UnicodeDecodeError:
        entry["path_b64"] = base64.b64encode(shown).decode()
    try:
        if stat.S_ISREG(os.lstat(path).st_mode):
            _read(path, entry)
        status = os.lstat(path)
    except OSError as error:
        entry.update(type="?", error="lstat:" + _name(error))
        return entry
    kind = TYPES[stat.S_IFMT(status.st_mode)]
    entry.update(
        type=kind,
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
    )
    if kind != "dir":
        entry["nlink"] = status.st_nlink
        if status.st_nlink > 1:
            entry["hardlink_of"] = seen.setdefault((status.st_dev, status.st_ino), entry["path"])
    if kind in ("file", "symlink"):
        entry["size"] = status.st_size
        if entry.get("bytes_read") == status.st_size:
            del entry["bytes_read"]
    if kind in ("chr", "blk"):
        entry["rdev"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if kind == "symlink":
        _readlink(path, entry)
    if kind in ("file", "dir"):
        _xattrs(path, entry)
    return entry


def _read(path: bytes, entry: Entry) -> None:
    digest, count = hashlib.sha256(), 0
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            while data := os.read(fd, 1 << 20):
                digest.update(data)
                count += len(data)
        finally:
            os.close(fd)
    except OSError as error:
        entry["error"] = f"read@{count}:{_name(error)}"
    else:
        entry["sha256"] = digest.hexdigest()
        entry["bytes_read"] = count


def _readlink(path: bytes, entry: Entry) -> None:
    try:
        entry["target"] = os.fsdecode(os.readlink(path))
    except OSError as error:
        entry["error"] = "readlink:" + _name(error)


def _xattrs(path: bytes, entry: Entry) -> None:
    values = {}
    try:
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            if name == METADATA_XATTR:
                continue
            try:
                values[name] = os.getxattr(path, name, follow_symlinks=False).hex()
            except OSError as error:
                values[name] = "!" + _name(error)
    except OSError as error:
        entry["xattr_error"] = _name(error)
    if values:
        entry["xattrs"] = values


def _name(error: OSError) -> str:
    number = error.errno or 0
    return errno.errorcode.get(number, str(number))


def load(path: str | os.PathLike[str]) -> list[Entry]:
    """Read a manifest file, without what is not compared (the metadata attribute, BEFORE_OPEN)."""
    entries: list[Entry] = json.loads(Path(path).read_text())["entries"]
    for entry in entries:
        entry.pop(BEFORE_OPEN, None)
        xattrs = entry.get("xattrs", {})
        xattrs.pop(METADATA_XATTR, None)
        if not xattrs:
            entry.pop("xattrs", None)
    return entries


def dump(entries: Iterable[Entry], path: str | os.PathLike[str]) -> None:
    """Write a manifest file: one entry a line."""
    lines = ",\n".join(json.dumps(entry, sort_keys=True) for entry in entries)
    Path(path).write_text('{"format": 1, "entries": [\n' + lines + "\n]}\n")


def diff(expected: Iterable[Entry], actual: Iterable[Entry], ignore: Iterable[str] = ()) -> list[str]:
    """Differences as readable lines, one for each field; empty if there are none."""
    left = {entry["path"]: entry for entry in expected}
    right = {entry["path"]: entry for entry in actual}
    ignored = set(ignore)
    lines = []
    for path in sorted(left.keys() | right.keys()):
        if path not in right:
            lines.append(f"{path!r}: missing")
        elif path not in left:
            lines.append(f"{path!r}: not expected")
        else:
            old, new = left[path], right[path]
            for field in sorted((old.keys() | new.keys()) - ignored):
                if old.get(field) != new.get(field):
                    lines.append(f"{path!r}: {field} is {new.get(field)!r}, expected {old.get(field)!r}")
    return lines


def main() -> int:
    """Print a directory's manifest, or compare two manifest files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("paths", nargs="+", metavar="DIRECTORY | EXPECTED ACTUAL")
    paths = parser.parse_args().paths
    if len(paths) == 1:
        dump(manifest(paths[0]), "/dev/stdout")
        return 0
    if len(paths) != 2:
        parser.error("one directory or two manifest files")
    lines = diff(load(paths[0]), load(paths[1]))
    print("\n".join(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
