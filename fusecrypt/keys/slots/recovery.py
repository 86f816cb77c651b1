"""Slots of type ``recovery``: 256 random bits, written down in groups that tell which is mistyped.

A recovery key is written as 13 groups of 5 characters of Crockford's base32: four of the key and a
check character. Case, blanks and hyphens do not count; ``O`` is read as 0, ``I`` and ``L`` as 1.

The check character lives in GF(32), reduced by x^5 + x^2 + 1: start with the group's number (1 to 13),
then for each character add it and multiply by x. It shows every wrong character, every swap of two
neighbours, and every group in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fusecrypt.keys.crypto import hkdf, random_secret
from fusecrypt.keys.errors import SlotError, WrongSecretError
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.strictjson import Fields
from fusecrypt.native import Secret

TYPE = "recovery"
MEMBERS = ()
KEY = 32
GROUPS = 13
_DATA = 4  # characters of a group before its check character
_ALPHABET = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {octet: value for value, octet in enumerate(_ALPHABET)} | dict(zip(b"OIL", (0, 1, 1), strict=True))
_SEPARATORS = b" -\t\r\n"
_INFO = b"fusecrypt/v1/recovery"


class MistypedRecoveryKeyError(WrongSecretError):
    """Text that has the shape of a recovery key, with a group that cannot be right."""


@dataclass(frozen=True)
class RecoveryBody:
    """A recovery slot stores nothing but its wrap."""

    needs_tpm: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> RecoveryBody:
        """There are no members of its own."""
        return cls()

    def document(self) -> dict[str, object]:
        """No members."""
        return {}


@dataclass(frozen=True)
class RecoveryEnrolment:
    """A recovery key: a new random one unless it is given."""

    key: Secret = field(default_factory=lambda: random_secret(KEY))
    type: str = TYPE

    def enrol(self, volume: bytes, volume_key: Secret) -> tuple[RecoveryBody, Secret]:
        """A new body."""
        return RecoveryBody(), self._wrap_key(volume)

    def open(self, volume: bytes, slot: Slot) -> Secret:
        """The volume key; WrongSecretError for another recovery key."""
        if not isinstance(slot.body, RecoveryBody):
            raise SlotError(f"slot {slot.id} is no recovery slot", "fusecrypt key list shows the slots")
        with self._wrap_key(volume) as key:
            volume_key = slot.unwrap(volume, key)
        if volume_key is None:
            raise WrongSecretError(f"slot {slot.id}: this is not its recovery key")
        return volume_key

    def _wrap_key(self, volume: bytes) -> Secret:
        return hkdf(self.key, volume, _INFO)


def write_key(key: Secret) -> Secret:
    """The text of a recovery key: 13 groups with hyphens between them, 77 ASCII characters."""
    text = Secret(GROUPS * (_DATA + 2) - 1)
    view, source = text.view(), key.view()
    position = bits = held = count = 0
    for group in range(GROUPS):
        check = group + 1
        for _ in range(_DATA):
            if bits < 5:
                held = held << 8 | (source[count] if count < KEY else 0)
                count, bits = count + 1, bits + 8
            bits -= 5
            value = held >> bits
            held &= (1 << bits) - 1
            check = _times_x(check ^ value)
            view[position] = _ALPHABET[value]
            position += 1
        view[position] = _ALPHABET[check]
        if group + 1 < GROUPS:
            view[position + 1] = ord("-")
        position += 2
    return text


def read_key(text: Secret) -> Secret | None:
    """The key (32 octets) in a text, or None if the text does not have the shape of a recovery key.

    Raises MistypedRecoveryKeyError that names the group whose check character does not fit.
    """
    values = bytearray()
    try:
        for octet in text.view():
            if octet in _SEPARATORS:
                continue
            value = _VALUES.get(octet - 32 if octet >= ord("a") else octet)
            if value is None or len(values) == GROUPS * (_DATA + 1):
                return None
            values.append(value)
        return _decode(values) if len(values) == GROUPS * (_DATA + 1) else None
    finally:
        values[:] = bytes(len(values))


def _decode(values: bytearray) -> Secret:
    key = Secret(KEY)
    view = key.view()
    held = bits = count = 0
    for group in range(GROUPS):
        *data, check = values[group * (_DATA + 1) : (group + 1) * (_DATA + 1)]
        expected = group + 1
        for value in data:
            expected = _times_x(expected ^ value)
            held, bits = held << 5 | value, bits + 5
            if bits >= 8 and count < KEY:
                bits -= 8
                view[count] = held >> bits
                held &= (1 << bits) - 1
                count += 1
        if expected != check:
            raise MistypedRecoveryKeyError(
                f"group {group + 1} of the recovery key is mistyped, or stands in the wrong place"
            )
    if held:
        raise MistypedRecoveryKeyError(f"group {GROUPS} of the recovery key is mistyped")
    return key


def _times_x(value: int) -> int:
    value <<= 1
    return value ^ 0x25 if value & 0x20 else value
