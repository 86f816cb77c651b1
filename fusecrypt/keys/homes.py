"""The layouts that ecryptfs-utils gives a user: ``~/.ecryptfs`` beside a lower ``~/.Private``.

A whole encrypted home keeps both in ``/home/.ecryptfs/USER``, and ``Private.mnt`` names the home
itself. Further private directories are lines of fstab(5) in ``ALIAS.conf`` with ``ALIAS.sig``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import list_quietly, read_small
from fusecrypt.keys.token import DEFAULT_SALT

MAX_RC = 40960
"""ecryptfs-utils reads no more of an .ecryptfsrc."""

MAX_RC_FIELD = 128
_MAX_SMALL = 4096
_SALT_TEXT = re.compile(rb"[0-9A-Fa-f]{16}")
_SIG_TEXT = re.compile(rb"[0-9A-Fa-f]{16}")


@dataclass(frozen=True)
class Home:
    """What a user's layout says about a lower directory.

    ``here`` tells that the directory is the layout's; otherwise it is one beside that, such as a copy.
    ``signatures`` holds the content key's, then the name key's if names are encrypted; it is empty if the
    signature file is missing, or damaged: ``damage`` says so then. ``wrapped`` is
    the wrapped passphrase or None; ``independent`` tells that its wrapping passphrase is not the login
    password; ``salt`` is the one for the content key (it never applies to the name key).
    """

    config: Path
    lower: Path
    here: bool
    signatures: tuple[bytes, ...]
    damage: str
    mount_point: Path | None
    wrapped: Path | None
    independent: bool
    whole_home: bool
    salt: bytes

    def belongs(self, shown: Iterable[bytes]) -> bool:
        """Whether a tree with keys of these signatures is the layout's: all of a home lies beside that."""
        return self.here or not set(shown).isdisjoint(self.signatures)


def recognise(lower: Path) -> Home | None:
    """The layout that a lower directory lies in, or None. Reads the small files beside it. Raises OSError."""
    lower = lower.resolve()
    config = lower.parent / ".ecryptfs"
    alias = _alias(config, lower)
    name = alias or "Private"
    sig_file, wrapped = config / f"{name}.sig", config / "wrapped-passphrase"
    if not (sig_file.is_file() or wrapped.is_file()):
        return None
    signatures, damage = _signatures(sig_file)
    mount_point = _mount_point(config, name)
    whole = lower.parent.parent.name == ".ecryptfs"
    real_home = mount_point if whole and mount_point is not None else lower.parent
    return Home(
        config=config,
        lower=lower,
        here=alias is not None or lower.name == ".Private",
        signatures=signatures,
        damage=damage,
        mount_point=mount_point,
        wrapped=wrapped if wrapped.is_file() else None,
        independent=(config / "wrapping-independent").exists(),
        whole_home=whole,
        salt=salt_of(real_home / ".ecryptfsrc"),
    )


def home_directory() -> Path:
    """The caller's home; the root directory for a user who has none."""
    home = Path(os.path.expanduser("~"))
    return home if home.is_absolute() else Path("/")


def parse_signatures(data: bytes, what: str) -> tuple[bytes, ...]:
    """One or two signatures of 8 octets from the lines of a Private.sig; KeyFileError otherwise."""
    lines = data.split()
    if not 1 <= len(lines) <= 2 or not all(_SIG_TEXT.fullmatch(line) for line in lines):
        raise KeyFileError(f"{what} does not hold one or two signatures of 16 hex digits")
    return tuple(bytes.fromhex(line.decode()) for line in lines)


def _signatures(path: Path) -> tuple[tuple[bytes, ...], str]:
    """The signatures in a file, and what is wrong with it."""
    try:
        return parse_signatures(read_small(path, _MAX_SMALL), str(path)), ""
    except FileNotFoundError:
        return (), ""
    except KeyFileError as error:
        return (), str(error)


def rc_salt(text: bytes) -> bytes | None:
    """The salt that an .ecryptfsrc sets: 8 octets, or None.

    The file holds ``name=value`` separated by commas or newlines. As in ecryptfs-utils a salt that is
    not exactly 16 hex digits is ignored, and so is a field of more than 128 octets.
    """
    salt = None
    for field in re.split(rb"[,\n]", text[:MAX_RC]):
        name, _, value = field.strip().partition(b"=")
        if name == b"salt" and len(field) <= MAX_RC_FIELD and _SALT_TEXT.fullmatch(value):
            salt = bytes.fromhex(value.decode())
    return salt


def salt_of(path: Path) -> bytes:
    """The salt that an .ecryptfsrc sets, or the default."""
    try:
        return rc_salt(read_small(path, MAX_RC)) or DEFAULT_SALT
    except (OSError, KeyFileError):
        return DEFAULT_SALT


def _alias(config: Path, lower: Path) -> str | None:
    """The name of the private directory whose .conf line names this lower directory as its source."""
    try:
        names = sorted(list_quietly(config))
    except OSError:
        names = []
    for path in (config / name for name in names if name.endswith(".conf")):
        try:
            fields = read_small(path, _MAX_SMALL).split()
        except (OSError, KeyFileError):
            continue
        source = Path(fields[0].decode(errors="surrogateescape")) if fields else None
        if source == lower and fields[2:3] == [b"ecryptfs"]:
            return path.stem
    return None


def _mount_point(config: Path, name: str) -> Path | None:
    try:
        if name == "Private":
            text = read_small(config / "Private.mnt", _MAX_SMALL).strip()
        else:
            text = read_small(config / f"{name}.conf", _MAX_SMALL).split()[1]
    except (OSError, KeyFileError, IndexError):
        return None
    return Path(text.decode(errors="surrogateescape")) if text else None
