"""The golden trees: eCryptfs trees that the Linux kernel wrote, and what it shows of them.

Each directory of tests/data/golden with a lower.tar.xz is a tree: the lower tree as GNU tar keeps it
(owners, modes, nanosecond times, xattrs, ACLs, special files), manifest.json (see manifest.py) and
mount.json (keys, options, the kernel's version).
"""

from __future__ import annotations

import functools
import json
import lzma
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import manifest

DIRECTORY = Path(__file__).parent / "data" / "golden"

# ACLs are kept as the attributes they are: --acls would translate their ids to names of this machine.
TAR_FLAGS = ("--xattrs", "--xattrs-include=*", "--numeric-owner")


@dataclass(frozen=True)
class Key:
    """A key of a tree. `passphrase` is None for keys that the kernel made by itself."""

    signature: str  # 16 hex digits
    passphrase: bytes | None = None
    salt: bytes = b""  # 8 octets if there is a passphrase


@dataclass(frozen=True)
class GoldenTree:
    """One golden tree. `options` is the kernel's own option string, which names signatures only."""

    name: str
    covers: str
    keys: tuple[Key, ...]
    fnek: Key | None
    cipher: str
    key_bytes: int
    options: str
    flags: tuple[str, ...]
    sockets: tuple[str, ...] = ()  # lower paths; tar cannot hold sockets
    details: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # all of mount.json

    @property
    def directory(self) -> Path:
        return DIRECTORY / self.name

    @property
    def passphrases(self) -> tuple[bytes, ...]:
        """The passphrases that open the tree, contents and names, without repetition."""
        keys = [*self.keys, *([self.fnek] if self.fnek else [])]
        return tuple(dict.fromkeys(key.passphrase for key in keys if key.passphrase is not None))

    @property
    def opened_by_passphrase(self) -> bool:
        return all(key.passphrase is not None for key in self.keys)

    def manifest(self) -> list[manifest.Entry]:
        """What the kernel shows of this tree after a fresh mount."""
        return manifest.load(self.directory / "manifest.json")

    def tar(self, path: Path) -> Path:
        """Write the lower tree's archive, not compressed, to `path`; sockets are not in it."""
        with lzma.open(self.directory / "lower.tar.xz") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return path

    def unpack(self, directory: Path) -> Path:
        """Make the lower tree in `directory` (created if absent), to the nanosecond. Needs root."""
        unpack(self.directory / "lower.tar.xz", directory)
        shown = [entry for entry in self.manifest() if entry["type"] == "socket"]
        for lower, entry in zip(self.sockets, shown, strict=True):
            _make_socket(directory / lower, entry)
        return directory


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a tar of a lower tree with all that it keeps. Needs root."""
    directory.mkdir(parents=True, exist_ok=True)
    quiet = "--warning=no-timestamp"  # some trees have times in the future
    command = ["tar", quiet, *TAR_FLAGS, "-C", str(directory), "-xpf", str(archive)]
    subprocess.run(command, check=True)


def pack(directory: Path, archive: Path) -> None:
    """Pack a lower tree as the kernel tests' guest expects it."""
    flags = [*TAR_FLAGS, "--sparse", "--sort=name", "--format=posix"]
    subprocess.run(["tar", *flags, "-C", str(directory), "-cf", str(archive), "."], check=True)


def _make_socket(path: Path, entry: manifest.Entry) -> None:
    """Create a socket as its manifest entry says and leave its directory's times alone."""
    before = path.parent.stat()
    os.mknod(path, stat.S_IFSOCK)
    path.chmod(int(entry["mode"], 8))
    os.chown(path, entry["uid"], entry["gid"])
    os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))


@functools.cache
def trees() -> tuple[GoldenTree, ...]:
    """All golden trees, by name."""
    return tuple(_load(path) for path in sorted(DIRECTORY.glob("*/mount.json")))


def passphrase_trees() -> tuple[GoldenTree, ...]:
    """The trees that passphrases alone open."""
    return tuple(tree for tree in trees() if tree.opened_by_passphrase)


def tree(name: str) -> GoldenTree:
    """The tree of that name; KeyError if there is none."""
    return {tree.name: tree for tree in trees()}[name]


def _load(path: Path) -> GoldenTree:
    details = json.loads(path.read_text())
    return GoldenTree(
        name=details["name"],
        covers=details["covers"],
        keys=tuple(_key(key) for key in details["keys"]),
        fnek=_key(details["fnek"]) if details["fnek"] else None,
        cipher=details["cipher"],
        key_bytes=details["key_bytes"],
        options=details["options"],
        flags=tuple(details["flags"]),
        sockets=tuple(details["lower_sockets_not_in_tar"]),
        details=details,
    )


def _key(fields: dict[str, str]) -> Key:
    if "passphrase" not in fields:
        return Key(fields["sig"])
    return Key(fields["sig"], os.fsencode(fields["passphrase"]), bytes.fromhex(fields["salt"]))
