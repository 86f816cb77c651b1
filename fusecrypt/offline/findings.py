"""What a check of a lower tree can find, and how bad each finding is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fusecrypt.offline.health import State


class Fault(Enum):
    """The kinds of findings beyond those that the health of a single file has."""

    ZEROED = "zeros where encrypted data should be"
    TAIL = "no zeros after its end"
    SIZE = "size field far below the length"
    HEADER_CHANGED = "header octets changed"
    KEYS_DISAGREE = "its keys disagree"
    UNCOMMON_HEADER = "header unlike the others"
    XATTR = "header attribute damaged"
    NAME = "undecodable name"
    TARGET = "undecodable symlink target"
    PLAIN_NAME = "name not encrypted"
    OTHER_FNEK = "name under another key"
    CLASH = "two lower names for one name"
    TOO_LONG = "too long to import"
    UNREADABLE = "unreadable"
    DIFFERS = "not as in the manifest"


Kind = State | Fault

_STATUS: dict[Kind, int] = {
    Fault.UNREADABLE: 1,
    Fault.TOO_LONG: 1,
    State.UNKNOWN_KEY: 3,
    Fault.OTHER_FNEK: 3,
    **dict.fromkeys((State.FOREIGN, State.BAD_HEADER, State.CUT_IN_HEADER, State.CUT_IN_DATA), 4),
    **dict.fromkeys((Fault.ZEROED, Fault.TAIL, Fault.SIZE, Fault.HEADER_CHANGED), 4),
    **dict.fromkeys((Fault.KEYS_DISAGREE, Fault.XATTR), 4),
    **dict.fromkeys((Fault.NAME, Fault.TARGET, Fault.PLAIN_NAME, Fault.CLASH, Fault.DIFFERS), 4),
}


@dataclass(frozen=True)
class Finding:
    """One object, or one thing that is wrong with it. Paths are relative to the root; ``upper`` is None
    where it is not known. ``detail`` is a sentence's end, for people."""

    kind: Kind
    lower: bytes
    upper: bytes | None = None
    detail: str = ""

    @property
    def status(self) -> int:
        """The exit status it asks for; 0 for what is good and for mere notes."""
        return _STATUS.get(self.kind, 0)

    @property
    def is_good(self) -> bool:
        return self.kind is State.GOOD
