"""fusecrypt key change: another secret for a slot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fusecrypt.cli.key import recovery
from fusecrypt.cli.key.access import (
    Access,
    new_passfile_option,
    new_secret,
    target_option,
    unlocking,
)
from fusecrypt.cli.terminal import say
from fusecrypt.errors import UsageError
from fusecrypt.keys.slots import passphrase, tpm2
from fusecrypt.keys.slots import recovery as recovery_key
from fusecrypt.keys.slots.passphrase import PassphraseBody, PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryBody, RecoveryEnrolment
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.sources.lazytpm import open_tpm

_OPTIONS = {
    passphrase.TYPE: ("a passphrase slot", ["--new-passfile"]),
    recovery_key.TYPE: ("a recovery slot", ["--recovery-file", "--qr"]),
    tpm2.TYPE: ("a TPM slot", ["--pin-file"]),
}
"""What a slot of each kind is called, and the options that are for its new secret."""


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
    opened = access.open()
    slot = opened.file.slot(number)
    given = [("--new-passfile", new_passfile), ("--pin-file", pin_file), ("--recovery-file", recovery_file)]
    _check_options(slot, [name for name, path in given if path is not None] + ["--qr"] * qr)
    if isinstance(slot.body, PassphraseBody):
        with new_secret(new_passfile, "passphrase") as secret:
            volume = opened.volume.change(number, PassphraseEnrolment(secret))
        opened.save(volume, revokes=True)
    elif isinstance(slot.body, RecoveryBody):
        recovery.check(recovery_file, qr)
        enrolment = RecoveryEnrolment()
        volume = opened.volume.change(number, enrolment)
        giving = recovery.given_out(enrolment, recovery_file, qr, opened.store, volume)
        opened.save(volume, revokes=True, while_in=giving)
    else:
        assert isinstance(slot.body, TPM2Body)
        with new_secret(pin_file, "PIN", "--pin-file") as pin, open_tpm(access.options.tcti) as tpm:
            bound = TPM2Enrolment(tpm, pin, approvals=access.options.approvals()).exactly_like(slot.body)
            volume = opened.volume.change(number, bound)
        opened.save(volume, revokes=True)
    say(f"slot {number} has a new secret")


def _check_options(slot: Slot, given: Sequence[str]) -> None:
    """Refuse a slot without a secret to change, and options that are for another kind of slot. Raises
    UsageError."""
    body = slot.body
    if isinstance(body, TPM2Body) and body.pin is None:
        raise UsageError(f"slot {slot.id} has no PIN to change", "fusecrypt key reseal binds it anew")
    if slot.type not in _OPTIONS:
        raise UsageError(
            f"slot {slot.id} is of a kind that is not known: {slot.type}",
            "use the version of fusecrypt that made it, or a newer one",
        )
    kind, options = _OPTIONS[slot.type]
    for option in given:
        if option not in options:
            raise UsageError(
                f"slot {slot.id} is {kind}, which {option} is not for", f"its option is {options[0]}"
            )
