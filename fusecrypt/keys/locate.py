"""Where the key-slot file of a tree is looked for, by the signature of the tree's key."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fusecrypt.errors import FusecryptError, UsageError
from fusecrypt.keys.homes import home_directory
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slotstore import SlotStore

SUFFIX = ".keyslots"
SYSTEM = Path("/etc/fusecrypt/keyslots")


def candidates(lower: Path | None, sig: bytes, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The places in order: beside the tree (if it is on this machine), the user's configuration, the
    system's."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    user = (base if base.is_absolute() else home_directory() / ".config") / "fusecrypt" / "keyslots"
    beside = [lower.resolve().with_name(lower.resolve().name + SUFFIX)] if lower else []
    return [
        *beside,
        user / f"{sig.hex()}{SUFFIX}",
        SYSTEM / f"{sig.hex()}{SUFFIX}",
    ]


def find(
    lower: Path | None, sigs: Iterable[bytes], environ: Mapping[str, str] = os.environ
) -> tuple[SlotStore, SlotFile, list[str]] | tuple[None, None, list[str]]:
    """The first file that holds a key of the tree, and a line for each one that was passed over.

    Files that others may write or own, damaged ones and those of other trees are passed over.
    """
    refusals = []
    wanted = set(sigs)
    for path in dict.fromkeys(path for sig in wanted for path in candidates(lower, sig, environ)):
        if not os.path.lexists(path):
            continue
        store = SlotStore(path, explicit=False)
        try:
            file = store.read()
        except FusecryptError as error:
            refusals.append(str(error))
            continue
        except OSError as error:
            refusals.append(f"{path}: {error.strerror}")
            continue
        if wanted.intersection(key.sig for key in file.keys):
            return store, file, refusals
        refusals.append(f"{path} holds no key of this tree")
    return None, None, refusals


def check_outside(path: Path, lower: Path) -> None:
    """UsageError for a key-slot file inside the lower tree: eCryptfs would show it as a broken file."""
    if path.resolve().is_relative_to(lower.resolve()):
        raise UsageError(
            f"{path} is inside the encrypted tree", f"put it beside the tree: {lower.resolve()}{SUFFIX}"
        )
