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


def beside(lower: Path) -> Path | None:
    """Where it stands beside its tree; None if that is the root of everything."""
    lower = lower.resolve()
    return lower.with_name(lower.name + SUFFIX) if lower.name else None


def candidates(
    lower: Path | None, sigs: Iterable[bytes], environ: Mapping[str, str] = os.environ
) -> list[Path]:
    """The places in order: beside the tree (if it is on this machine), the user's configuration, the
    system's. In these each signature in turn."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    user = (base if base.is_absolute() else home_directory() / ".config") / "fusecrypt" / "keyslots"
    stands = beside(lower) if lower else None
    names = [f"{sig.hex()}{SUFFIX}" for sig in sigs]
    return [*([stands] if stands else []), *(place / name for place in (user, SYSTEM) for name in names)]


def find(
    lower: Path | None, sigs: Iterable[bytes], environ: Mapping[str, str] = os.environ
) -> tuple[SlotStore, SlotFile, list[str]] | tuple[None, None, list[str]]:
    """The first file that holds a key of the tree, and a line for each one that was passed over.

    Files that others may write or own, damaged ones and those of other trees are passed over.
    """
    refusals = []
    wanted = sorted(set(sigs))
    for path in candidates(lower, wanted, environ) if wanted else ():
        if not os.path.lexists(path):
            continue
        store = SlotStore(path, explicit=False)
        try:
            file = store.read()
        except FusecryptError as error:
            refusals.append(f"{error} ({error.hint})" if error.hint else str(error))
            continue
        except OSError as error:
            refusals.append(f"{path}: {error.strerror}")
            continue
        if any(key.sig in wanted for key in file.keys):
            return store, file, refusals
        refusals.append(f"{path} holds no key of this tree")
    return None, None, refusals


def check_outside(path: Path, lower: Path) -> None:
    """UsageError for a key-slot file inside the lower tree: eCryptfs would show it as a broken file."""
    # Not resolve(), for which a link that leads to itself is no OSError.
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(lower)):
        raise UsageError(f"{path} is inside the encrypted tree", "put it beside the tree")
