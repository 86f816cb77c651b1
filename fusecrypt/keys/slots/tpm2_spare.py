"""Enrolling the TPM of a spare machine, which is not at hand: from the public part of its storage key."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fusecrypt.keys.errors import SlotError
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.slots.tpm2 import DIRECT, SPLIT, TYPE, TPM2Body, new_pin, split_key, what_to_seal
from fusecrypt.keys.tpm.library import Library
from fusecrypt.keys.tpm.parent import Parent, name_of
from fusecrypt.keys.tpm.policy import SignedPolicy
from fusecrypt.keys.tpm.seal import binding, seal_for
from fusecrypt.keys.tpm.session import SRK
from fusecrypt.native import Secret


@dataclass(frozen=True)
class SpareEnrolment:
    """``public`` is TPM2B_PUBLIC of the key at 0x81000001 of that machine.

    This machine needs no TPM, only the library. What is sealed cannot be unsealed and compared here.
    """

    public: bytes
    pin: Secret | None = None
    signed: SignedPolicy | None = None
    type: str = TYPE

    def enrol(self, volume: bytes, volume_key: Secret) -> tuple[TPM2Body, Secret | None]:
        """Seal, and give the slot's body. Raises KeyFileError for what is no storage key, TPMError."""
        library = Library()
        digest, steps = binding(library, self.signed, None, self.pin is not None)
        parent = Parent(SRK, name_of(self.public), self.public)
        kdf, auth, share = new_pin(self.pin)
        with what_to_seal(volume_key, share) as sealed:
            blob = replace(seal_for(library, parent, sealed, auth=auth, policy=digest), policy=steps)
            mode = DIRECT if share is None else SPLIT
            body = TPM2Body(mode, blob, digest, parent, None, self.signed, kdf)
            return body, None if share is None else split_key(sealed, share, volume)

    def open(self, volume: bytes, slot: Slot) -> Secret:
        """Only that machine's TPM can: SlotError."""
        raise SlotError(
            f"slot {slot.id} is for another machine's TPM",
            "use another slot here, or run fusecrypt key reseal on that machine",
        )
