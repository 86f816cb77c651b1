"""Slots of type ``tpm2`` as they are stored; :mod:`fusecrypt.keys.slots.tpm2_enrolment` makes and opens them.

``direct``: the TPM seals the volume key itself, and there is no wrap. ``split``: the TPM seals 32
random octets, argon2id of the PIN gives the TPM's auth value (20 octets) and a share (32), and HKDF of
both together wraps the volume key: a broken TPM gives no more than guesses at the PIN.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusecrypt.keys.crypto import hkdf, random_secret
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.slots.kdf import Argon2, normal
from fusecrypt.keys.strictjson import Fields, encode_base64
from fusecrypt.keys.tpm.parent import Parent
from fusecrypt.keys.tpm.policy import BANKS, PCRPolicy, SignedPolicy
from fusecrypt.keys.trusted import IMPORTABLE, TPMKey
from fusecrypt.native import Secret

TYPE = "tpm2"
MEMBERS = ("tpm2",)
DIRECT = "direct"
SPLIT = "split"
AUTH = 20
"""Octets of an auth value: no more fits the kernel's blobauth=."""

_SHARE = 32
_SEALED = 32
_MAX_BLOB = 4096


@dataclass(frozen=True)
class TPM2Body:
    """What a TPM slot stores. ``pin`` is None without a PIN, ``policy`` empty without a policy."""

    mode: str
    blob: TPMKey
    policy: bytes
    parent: Parent
    pcr: PCRPolicy | None = None
    signed: SignedPolicy | None = None
    pin: Argon2 | None = None
    needs_tpm: bool = True

    @property
    def unverified(self) -> bool:
        """Whether it was sealed for a TPM that was not at hand, so that nobody has seen it open then."""
        return self.blob.kind == IMPORTABLE

    @classmethod
    def parse(cls, slot: Fields) -> TPM2Body:
        """Take the kind's member from a slot's object; KeyFileError if it is not valid."""
        fields = slot.fields("tpm2").only("mode", "blob", "policy", "parent", "pcr", "signed", "pin")
        body = cls(
            fields.text("mode", f"{DIRECT}|{SPLIT}"),
            TPMKey.parse_der(fields.base64("blob", 1, _MAX_BLOB)),
            fields.hexadecimal("policy", 0, 32),
            Parent.parse(fields.fields("parent")),
            _pcr(fields.fields("pcr")) if "pcr" in fields else None,
            _signed(fields.fields("signed")) if "signed" in fields else None,
            Argon2.parse(fields.fields("pin").only("kdf").fields("kdf")) if "pin" in fields else None,
        )
        policed = body.pcr is not None or body.signed is not None
        if (body.mode == SPLIT and body.pin is None) or (len(body.policy) == 32) != policed:
            raise KeyFileError("a TPM slot's members do not belong together")
        if body.blob.sealed.policy != body.policy:
            raise KeyFileError("a TPM slot's blob has another policy than the slot")
        if body.blob.sealed.free_attempts != (body.pin is None):
            # One that says it has no PIN would spend an attempt at each mount, unasked.
            raise KeyFileError("a TPM slot and its blob do not agree on whether wrong attempts count")
        return body

    def document(self) -> dict[str, object]:
        """The kind's member."""
        members: dict[str, object] = {
            "mode": self.mode,
            "blob": encode_base64(self.blob.encode()),
            "policy": self.policy.hex(),
            "parent": self.parent.document(),
        }
        if self.pcr is not None:
            values = {str(number): value.hex() for number, value in self.pcr.values.items()}
            members["pcr"] = {"bank": self.pcr.bank, "pcrs": list(self.pcr.pcrs), "values": values}
        if self.signed is not None:
            members["signed"] = {
                "bank": self.signed.bank,
                "pcrs": list(self.signed.pcrs),
                "ref": self.signed.ref.hex(),
                "pubkey": self.signed.pubkey,
            }
        if self.pin is not None:
            members["pin"] = {"kdf": self.pin.document()}
        return {"tpm2": members}


def split_pin(kdf: Argon2, pin: Secret, *, large: bool = False) -> tuple[Secret, Secret]:
    """Auth value (20 octets) and share (32) of a PIN. ``large`` allows parameters that need much memory.

    TPMs ignore zero octets at the end of an auth value: a salt that gives one makes no slot.
    """
    with normal(pin) as text, kdf.derive(text, AUTH + _SHARE, large=large) as both:
        return both.part(0, AUTH), both.part(AUTH, AUTH + _SHARE)


def new_pin(pin: Secret | None) -> tuple[Argon2 | None, Secret | None, Secret | None]:
    """Fresh parameters for a PIN with its auth value and share; three times None without one."""
    if pin is None:
        return None, None, None
    while True:
        kdf = Argon2.new()
        auth, share = split_pin(kdf, pin)
        if auth.view()[-1] != 0:
            return kdf, auth, share


def what_to_seal(volume_key: Secret, share: Secret | None) -> Secret:
    """What a TPM gets: the volume key itself, or random octets beside a PIN's share."""
    return volume_key.part(0, len(volume_key)) if share is None else random_secret(_SEALED)


def split_key(sealed: Secret, share: Secret, volume: bytes) -> Secret:
    """The wrap key of a split slot."""
    with Secret.join([sealed, share]) as both:
        return hkdf(both, volume, b"fusecrypt/v1/tpm2-split")


def _numbers(fields: Fields) -> tuple[int, ...]:
    numbers = fields.items("pcrs", 24)
    whole = all(type(n) is int and 0 <= n < 24 for n in numbers)
    if not whole or not numbers or numbers != sorted(set(numbers)):
        raise KeyFileError("a TPM slot's list of PCRs is not valid")
    return tuple(numbers)


def _bank(fields: Fields) -> str:
    return fields.text("bank", "|".join(BANKS))


def _pcr(fields: Fields) -> PCRPolicy:
    pcrs, bank = _numbers(fields.only("bank", "pcrs", "values")), _bank(fields)
    values = fields.fields("values").only(*map(str, pcrs))
    size = BANKS[bank].size
    return PCRPolicy(bank, {number: values.hexadecimal(str(number), size, size) for number in pcrs})


def _signed(fields: Fields) -> SignedPolicy:
    pcrs, bank = _numbers(fields.only("bank", "pcrs", "ref", "pubkey")), _bank(fields)
    return SignedPolicy(
        bank, pcrs, fields.text("pubkey", r"[\n -~]{1,4096}"), fields.hexadecimal("ref", 0, 64)
    )
