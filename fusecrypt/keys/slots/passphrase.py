"""Slots of type ``passphrase``: argon2id of what is typed wraps the volume key."""

from __future__ import annotations

from dataclasses import dataclass

from fusecrypt.keys.errors import SlotError, WrongSecretError
from fusecrypt.keys.slots.kdf import Argon2, normal
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.strictjson import Fields
from fusecrypt.native import Secret

TYPE = "passphrase"
MEMBERS = ("kdf",)
_WRAP_KEY = 32


@dataclass(frozen=True)
class PassphraseBody:
    """What a passphrase slot stores."""

    kdf: Argon2
    needs_tpm: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> PassphraseBody:
        """Take the kind's members from a slot's object; KeyFileError if they are not valid."""
        return cls(Argon2.parse(fields.fields("kdf")))

    def document(self) -> dict[str, object]:
        """The kind's members."""
        return {"kdf": self.kdf.document()}


@dataclass(frozen=True)
class PassphraseEnrolment:
    """A passphrase. ``large`` allows parameters that need much memory."""

    passphrase: Secret
    large: bool = False
    type: str = TYPE

    def enrol(self, volume: bytes, volume_key: Secret) -> tuple[PassphraseBody, Secret]:
        """A new body with fresh salt."""
        body = PassphraseBody(Argon2.new())
        return body, self._wrap_key(body)

    def open(self, volume: bytes, slot: Slot) -> Secret:
        """The volume key; WrongSecretError for another passphrase."""
        if not isinstance(slot.body, PassphraseBody):
            raise SlotError(f"slot {slot.id} is no passphrase slot", "fusecrypt key list shows the slots")
        with self._wrap_key(slot.body) as key:
            volume_key = slot.unwrap(volume, key)
        if volume_key is None:
            raise WrongSecretError(f"slot {slot.id}: this is not its passphrase")
        return volume_key

    def _wrap_key(self, body: PassphraseBody) -> Secret:
        with normal(self.passphrase) as passphrase:
            return body.kdf.derive(passphrase, _WRAP_KEY, large=self.large)
