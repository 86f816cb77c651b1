"""Kinds of key slots, one module each; a new kind is a new module and an entry here."""

from __future__ import annotations

from collections.abc import Callable

from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.slots import passphrase, recovery, tpm2
from fusecrypt.keys.slots.slot import MAX_ID, Body, Slot, Unknown, Wrap
from fusecrypt.keys.strictjson import Fields

_KINDS: dict[str, tuple[tuple[str, ...], Callable[[Fields], Body]]] = {
    passphrase.TYPE: (passphrase.MEMBERS, passphrase.PassphraseBody.parse),
    recovery.TYPE: (recovery.MEMBERS, recovery.RecoveryBody.parse),
    tpm2.TYPE: (tpm2.MEMBERS, tpm2.TPM2Body.parse),
}

_COMMON = ("id", "type", "label", "created", "wrap")
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"


def parse_slot(value: object) -> Slot:
    """A slot from its object; KeyFileError unless it is valid. Unknown kinds are kept as they are."""
    fields = Fields(value, "a slot")
    number, kind = fields.integer("id", 0, MAX_ID), fields.text("type", "[a-z0-9-]{1,32}")
    if kind not in _KINDS:
        assert isinstance(value, dict)
        return Slot(number, kind, Unknown(value))
    members, parse = _KINDS[kind]
    fields = Fields(value, f"slot {number}").only(*_COMMON, *members)
    body = parse(fields)
    wrapped = not (isinstance(body, tpm2.TPM2Body) and body.mode == "direct")
    if wrapped != ("wrap" in fields):
        raise KeyFileError(f"slot {number}: the member 'wrap' is missing or out of place")
    return Slot(
        number,
        kind,
        body,
        fields.label("label"),
        fields.text("created", _TIME) if "created" in fields else None,
        Wrap.parse(fields.fields("wrap")) if wrapped else None,
    )
