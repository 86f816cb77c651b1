"""A slot: what every kind has in common, and how it carries the volume key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fusecrypt.keys.crypto import TAG, gcm_decrypt, gcm_encrypt
from fusecrypt.keys.strictjson import Fields, canonical, encode_base64
from fusecrypt.native import Secret

VOLUME_KEY = 32
"""Octets of a volume key."""

MAX_ID = 0xFFFF
_NONCE = 12


class Body(Protocol):
    """What one kind of slot stores; each kind is a module of this package."""

    @property
    def needs_tpm(self) -> bool:
        """Whether the slot is lost with a TPM."""

    def document(self) -> dict[str, object]:
        """The members that this kind adds to the slot's object."""


@dataclass(frozen=True)
class Unknown:
    """A slot of a kind that this version does not know: kept as it is, never used."""

    members: Mapping[str, Any]
    needs_tpm: bool = True  # it cannot be counted on

    def document(self) -> dict[str, object]:
        """All members but ``id`` and ``type``."""
        return {name: value for name, value in self.members.items() if name not in ("id", "type")}


@dataclass(frozen=True)
class Wrap:
    """The volume key encrypted with AES-256-GCM."""

    nonce: bytes
    data: bytes

    @classmethod
    def parse(cls, fields: Fields) -> Wrap:
        """Take a WRAP object apart; KeyFileError if it is none."""
        fields.only("alg", "nonce", "data").text("alg", "aes-256-gcm")
        sealed = VOLUME_KEY + TAG
        return cls(fields.base64("nonce", _NONCE, _NONCE), fields.base64("data", sealed, sealed))

    def document(self) -> dict[str, object]:
        """The WRAP object."""
        return {"alg": "aes-256-gcm", "nonce": encode_base64(self.nonce), "data": encode_base64(self.data)}


@dataclass(frozen=True)
class Slot:
    """``type`` names the kind of ``body``. Only a TPM slot whose TPM seals the volume key has no ``wrap``."""

    id: int
    type: str
    body: Body
    label: str | None = None
    created: str | None = None
    wrap: Wrap | None = None

    def document(self) -> dict[str, object]:
        """The slot's object."""
        members: dict[str, object] = {"id": self.id, "type": self.type, **self.body.document()}
        if self.label is not None:
            members["label"] = self.label
        if self.created is not None:
            members["created"] = self.created
        if self.wrap is not None:
            members["wrap"] = self.wrap.document()
        return members

    def carrying(self, volume: bytes, wrap_key: Secret, volume_key: Secret) -> Slot:
        """This slot with the volume key wrapped under ``wrap_key``."""
        nonce = os.urandom(_NONCE)
        data = gcm_encrypt(wrap_key, nonce, volume_key, self._associated(volume))
        return replace(self, wrap=Wrap(nonce, data))

    def unwrap(self, volume: bytes, wrap_key: Secret) -> Secret | None:
        """The volume key, or None if this is not the wrap key or the slot was changed."""
        if self.wrap is None:
            return None
        return gcm_decrypt(wrap_key, self.wrap.nonce, self.wrap.data, self._associated(volume))

    def _associated(self, volume: bytes) -> bytes:
        members = {"id": self.id, "type": self.type, **self.body.document()}
        return canonical({"volume": volume.hex(), "slot": members})


class Enrolment(Protocol):
    """A way to open and to make slots of one kind: a passphrase, a recovery key, a TPM."""

    @property
    def type(self) -> str:
        """The kind of slot."""

    def enrol(self, volume: bytes, volume_key: Secret) -> tuple[Body, Secret | None]:
        """A new body, and the key to wrap the volume key with (None if the body holds it itself)."""

    def open(self, volume: bytes, slot: Slot) -> Secret:
        """The volume key from a slot of this kind; WrongSecretError, SlotError or a TPM's error."""
