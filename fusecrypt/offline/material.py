"""Files that hold keys of a tree, or say which they are: recognised, not opened."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.errors import FusecryptError
from fusecrypt.keys import locate
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import list_quietly, read_small
from fusecrypt.keys.homes import MAX_RC, parse_signatures, rc_salt
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.synology import is_export
from fusecrypt.keys.wrapped import MAX_FILE, WrappedPassphrase

WRAPPED = "wrapped-passphrase"
EXPORT = "synology-key"
SLOTS = "key-slots"
SIGNATURES = "signatures"
SALT = "salt"

_CANDIDATES = (b"wrapped-passphrase*", b"*.key", b"*.keyslots", b"*.sig", b".ecryptfsrc")
_MAX_SIGNATURES = 4096


@dataclass(frozen=True)
class Material:
    """One such file. ``signatures`` are the keys that it names; ``salt`` is that of an .ecryptfsrc."""

    path: Path
    kind: str
    what: str
    signatures: tuple[bytes, ...] = ()
    wrapped: WrappedPassphrase | None = None
    slots: SlotFile | None = None
    salt: bytes | None = None


def is_candidate(name: bytes) -> bool:
    """Whether a file of that name may be one."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _CANDIDATES)


def examine(path: Path) -> Material | None:
    """What a file is, or None if it is no such file. Raises OSError, and KeyFileError for a damaged one."""
    if path.name.startswith("wrapped-passphrase"):
        return _wrapped(path, read_small(path, MAX_FILE))
    if path.name.endswith(".key"):
        return _export(path)
    if path.name.endswith(locate.SUFFIX):
        return _slots(path)
    if path.name.endswith(".sig"):
        return _signatures(path)
    salt = rc_salt(read_small(path, MAX_RC))
    return None if salt is None else Material(path, SALT, f"salt {salt.hex()} of the content key", salt=salt)


def _wrapped(path: Path, data: bytes) -> Material:
    wrapped = WrappedPassphrase.parse(data)
    if wrapped.version == 1 and is_export(data):
        return Material(path, EXPORT, "exported key of a NAS, opens without a secret", wrapped=wrapped)
    independent = os.path.exists(path.parent / "wrapping-independent")
    secret = "a wrapping passphrase of its own" if independent else "the login passphrase"
    what = f"wrapped passphrase, version {wrapped.version}, opens with {secret}"
    return Material(path, WRAPPED, what, wrapped=wrapped)


def _export(path: Path) -> Material | None:
    """A .key file may be many things; only what an export looks like is one."""
    try:
        return _wrapped(path, read_small(path, MAX_FILE))
    except KeyFileError:
        return None


def _slots(path: Path) -> Material:
    file = SlotStore(path).read()
    kinds = ", ".join(sorted({slot.type for slot in file.slots}))
    what = f"key-slot file, {len(file.slots)} slots ({kinds})"
    return Material(path, SLOTS, what, tuple(key.sig for key in file.keys), slots=file)


def _signatures(path: Path) -> Material | None:
    try:
        found = parse_signatures(read_small(path, _MAX_SIGNATURES), str(path))
    except KeyFileError:
        if path.parent.name == ".ecryptfs":
            raise
        return None  # a signature of something else
    return Material(path, SIGNATURES, f"says that the keys are {_hex(found)}", found)


def beside(lower: Path, signatures: Iterable[bytes]) -> Iterator[Path]:
    """The places where key material of a tree lies by custom, as far as there is something."""
    lower = lower.resolve()
    places = [lower.parent, lower.parent / ".ecryptfs"]
    for place in places:
        if os.path.isdir(place) and os.access(place, os.R_OK):
            names = sorted(list_quietly(place))
            yield from (place / name for name in names if _belongs(place, name, lower))
    # Whether one exists is no error where it cannot be told.
    yield from filter(os.path.exists, locate.candidates(None, signatures))


def _belongs(place: Path, name: str, lower: Path) -> bool:
    """In the directory beside the tree anything may lie; a NAS's share is called @NAME@ below."""
    if not is_candidate(os.fsencode(name)):
        return False
    if name.endswith(locate.SUFFIX):
        return name == lower.name + locate.SUFFIX
    return place.name == ".ecryptfs" or name == ".ecryptfsrc" or name.endswith(".key")


def examine_all(paths: Iterable[Path]) -> tuple[list[Material], list[str]]:
    """What each file is, without those that are no such files, and a line for each that cannot be used."""
    found, refusals = [], []
    for path in dict.fromkeys(paths):
        try:
            material = examine(path)
        except FusecryptError as error:
            refusals.append(f"{path}: {str(error).removeprefix(f'{path}: ')}")
        except OSError as error:
            refusals.append(f"{path}: {error.strerror}")
        else:
            found += [material] if material else []
    return found, refusals


def _hex(signatures: Iterable[bytes]) -> str:
    return ", ".join(sig.hex() for sig in signatures)
