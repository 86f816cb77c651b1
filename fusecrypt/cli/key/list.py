"""fusecrypt key list: what a key-slot file says without any secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.key.access import keyslots_argument
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.sources.unlock import warn_if_older


@click.command("list", short_help="List slots and keys; no secret is needed.")
@keyslots_argument
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_(keyslots: Path, as_json: bool) -> None:
    """List the slots and keys of a key-slot file; no secret is needed.

    Nothing of it is proven before the file is unlocked: key test does that.
    """
    file = SlotStore(keyslots).read()
    warn_if_older(file)
    if as_json:
        click.echo(json.dumps(_document(keyslots, file)))
        return
    for slot in file.slots:
        words = [
            f"slot {slot.id}: {slot.type}{_binding(slot)}",
            slot.label and f'"{slot.label}"',
            slot.created,
        ]
        click.echo("  ".join(filter(None, words)))
    for key in file.keys:
        click.echo(f"key {key.sig.hex()}: {', '.join(key.use)}")


def _binding(slot: Slot) -> str:
    """What a TPM slot is bound to besides the TPM."""
    body = slot.body
    if not isinstance(body, TPM2Body):
        return ""
    parts = [" with a PIN"] if body.pin else []
    if body.pcr:
        parts.append(f" PCR {'+'.join(map(str, body.pcr.pcrs))} ({body.pcr.bank})")
    if body.signed:
        parts.append(f" signed PCR {'+'.join(map(str, body.signed.pcrs))} ({body.signed.bank})")
    if body.unverified:
        parts.append(" for a spare machine: unverified")
    return ",".join(parts)


def _document(path: Path, file: SlotFile) -> dict[str, Any]:
    return {
        "keyslots": str(path),
        "volume": file.volume.hex(),
        "seq": file.seq,
        "keys": [{"sig": key.sig.hex(), "use": list(key.use)} for key in file.keys],
        "slots": [_slot(slot) for slot in file.slots],
    }


def _slot(slot: Slot) -> dict[str, Any]:
    members = {
        "id": slot.id,
        "type": slot.type,
        "label": slot.label,
        "created": slot.created,
        "needs_tpm": slot.body.needs_tpm,
    }
    body = slot.body
    if isinstance(body, TPM2Body):
        members["verified"] = not body.unverified
        members["pin"] = body.pin is not None
        members["pcrs"] = body.pcr and {"bank": body.pcr.bank, "pcrs": list(body.pcr.pcrs)}
        members["signed_pcrs"] = body.signed and {"bank": body.signed.bank, "pcrs": list(body.signed.pcrs)}
        members["parent"] = body.parent.name.hex()
    return members
