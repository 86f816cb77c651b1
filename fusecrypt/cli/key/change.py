"""fusecrypt key change: another secret for a slot."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from fusecrypt.cli.key import recovery
from fusecrypt.cli.key.access import (
    Access,
    Opened,
    new_passfile_option,
    new_secret,
    target_option,
    unlocking,
)
from fusecrypt.cli.terminal import say
from fusecrypt.errors import UsageError
from fusecrypt.keys.slots.passphrase import PassphraseBody, PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryBody, RecoveryEnrolment
from fusecrypt.keys.slots.slot import Enrolment, Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.sources.unlock import open_tpm


@click.command(short_help="Give a slot another secret.")
@unlocking
@target_option
@new_passfile_option
@click.option("--pin-file", metavar="FILE", help="The new PIN: FILE's first line.")
@recovery.recovery_file_option
@recovery.qr_option
def change(
    access: Access,
    number: int,
    new_passfile: str | None,
    pin_file: str | None,
    recovery_file: Path | None,
    qr: bool,
) -> None:
    """Change a slot's secret: a new passphrase, a new recovery key, or a new PIN.

    The slot keeps its number, its label and what it is bound to. Any other slot may unlock the file. No
    version of the file that the old secret opens is left beside it.
    """
    recovery.check_qr(qr)
    opened = access.open()
    slot = opened.file.slot(number)
    body = slot.body
    if isinstance(body, PassphraseBody):
        with new_secret(new_passfile, "passphrase") as secret:
            _save(opened, slot, PassphraseEnrolment(secret), nullcontext())
    elif isinstance(body, RecoveryBody):
        enrolment = RecoveryEnrolment()
        _save(opened, slot, enrolment, recovery.kept(enrolment, recovery_file, qr))
    elif isinstance(body, TPM2Body) and body.pin is not None:
        with new_secret(pin_file, "PIN") as pin, open_tpm(access.options.tcti) as tpm:
            bound = TPM2Enrolment(tpm, pin, approvals=access.options.approvals()).like(body)
            _save(opened, slot, bound, nullcontext())
    elif isinstance(body, TPM2Body):
        raise UsageError(f"slot {number} has no PIN to change", "fusecrypt key reseal binds it anew")
    else:
        raise UsageError(
            f"slot {number} is of a kind that is not known: {slot.type}",
            "use the version of fusecrypt that made it, or a newer one",
        )


def _save(opened: Opened, slot: Slot, secret: Enrolment, giving_out: AbstractContextManager[None]) -> None:
    volume = opened.volume.change(slot.id, secret)
    with giving_out:
        opened.save(volume, revokes=True)
    say(f"slot {slot.id} has a new secret")
