"""Layouts as restored homes, disks and shares have them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fusecrypt.keys.synology import wrap_export
from fusecrypt.keys.token import FNEK_SALT
from fusecrypt.native import Secret
from fusecrypt.tree.policy import NamePolicy, Policy
from fusecrypt.tree.resolve import NEW_CIPHER
from tests import golden
from tests.tree.support import User, opened, token

FACTS = json.loads((golden.DIRECTORY / "userspace" / "home.json").read_text())
LOGIN: str = FACTS["login_passphrase"]
MOUNT: str = FACTS["mount_passphrase"]


def alice(directory: Path) -> Path:
    """A home that ecryptfs-setup-private made; returns its lower tree."""
    golden.unpack(golden.DIRECTORY / "userspace" / "home.tar.xz", directory)
    return directory / "alice" / ".Private"


def whole_home(directory: Path) -> Path:
    """The same data as an unmounted whole encrypted home below ``directory``/home."""
    lower = alice(directory / "unpacked")
    hidden = directory / "home" / ".ecryptfs" / "alice"
    hidden.mkdir(parents=True)
    for name in (".Private", ".ecryptfs"):
        (lower.parent / name).rename(hidden / name)
    home = directory / "home" / "alice"
    home.mkdir()
    (hidden / ".ecryptfs" / "Private.mnt").write_text("/home/alice\n")
    for name in (".Private", ".ecryptfs"):
        (home / name).symlink_to(f"/home/.ecryptfs/alice/{name}")
    return hidden / ".Private"


def made_tree(
    directory: Path, *files: str, names: bool = True, xattr: bool = False, passphrase: bytes = b"test"
) -> Path:
    """A small tree."""
    directory.mkdir(parents=True)
    fnek = NamePolicy(token(passphrase, FNEK_SALT), NEW_CIPHER) if names else None
    its_policy = Policy((token(passphrase),), NEW_CIPHER, fnek, xattr_metadata=xattr)
    with opened(directory, its_policy) as tree:
        for file in files:
            parent = os.path.dirname(file)
            if parent and not User(tree).exists(parent):
                User(tree).mkdir(parent)
            User(tree).create(file, file.encode())
    return directory


def nas_share(volume: Path, name: str = "photos") -> Path:
    """A share of a Synology with its exported key beside it."""
    lower = made_tree(volume / f"@{name}@", "picture.jpg", passphrase=b"of the share")
    (volume / name).mkdir()
    with Secret.copy(b"of the share") as passphrase:
        (volume / f"{name}.key").write_bytes(wrap_export(passphrase))
    return lower
