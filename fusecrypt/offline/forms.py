"""Headers that are unlike all others of a tree: what one flipped bit may do that leaves a valid header."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from fusecrypt.ondisk.packets import PassphrasePacket
from fusecrypt.tree.headers import Found

_FEW = 3
_RATIO = 4
"""A form that at most _FEW files have, where another has _RATIO times as many, is an odd one."""


class Form(NamedTuple):
    """What the files of a tree usually have in common."""

    place: str
    flags: str
    keys: str
    ciphers: str
    salts: str


@dataclass
class _Seen:
    count: int = 0
    first: list[tuple[bytes, bytes | None]] = field(default_factory=list)


class HeaderForms:
    """Counts the forms of headers and remembers the files with rare ones."""

    def __init__(self) -> None:
        self._seen: dict[Form, _Seen] = {}

    def note(self, found: Found, lower: bytes, upper: bytes | None) -> None:
        seen = self._seen.setdefault(_form(found), _Seen())
        seen.count += 1
        if seen.count <= _FEW:
            seen.first.append((lower, upper))

    def odd(self) -> list[tuple[bytes, bytes | None, str]]:
        """Lower and upper path of each odd file, and wherein it differs from the most."""
        if not self._seen:
            return []
        common, most = max(self._seen.items(), key=lambda item: item[1].count)
        return [
            (lower, upper, _difference(form, common))
            for form, seen in self._seen.items()
            if seen.count <= _FEW and seen.count * _RATIO <= most.count
            for lower, upper in seen.first
        ]


def _form(found: Found) -> Form:
    header = found.header
    packets = [packet for packet in header.packets if isinstance(packet, PassphrasePacket)]
    return Form(
        "in the attribute" if found.in_xattr else f"in {header.region} octets",
        f"flags {header.flags:#x}",
        "key " + " ".join(packet.signature.hex() for packet in header.packets),
        " ".join(str(packet.cipher) for packet in packets),
        "salt " + " ".join(packet.salt.hex() for packet in packets),
    )


def _difference(form: Form, common: Form) -> str:
    pairs = [(a, b) for a, b in zip(form, common, strict=True) if a != b]
    return ", ".join(f"{a} (others: {b.removeprefix(a.split(' ')[0] + ' ')})" for a, b in pairs)
