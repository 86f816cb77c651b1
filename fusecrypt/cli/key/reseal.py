"""fusecrypt key reseal: bind a TPM slot anew, to the present TPM and PCRs."""

from __future__ import annotations

import click

from fusecrypt.cli.key.access import Access, Opened, new_secret, unlocking
from fusecrypt.cli.terminal import say
from fusecrypt.errors import UsageError
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.sources.lazytpm import open_tpm


@click.command(short_help="Seal a TPM slot anew: another TPM, boot state or PIN.")
@unlocking
@click.option("--slot", "number", type=click.IntRange(0, 0xFFFF), metavar="N", help="Which TPM slot.")
@click.option("--pin-file", metavar="FILE", help="The slot's PIN: FILE's first line.")
@click.option("--force", is_flag=True, help="Bind even to PCRs that are not in use.")
def reseal(access: Access, number: int | None, pin_file: str | None, force: bool) -> None:
    """Seal a TPM slot anew after the TPM, the boot state or the firmware changed.

    The file is unlocked with the recovery key or a passphrase. The slot keeps its number, its label and
    which PCRs it is bound to; their present values count from now on. A slot with a PIN needs a PIN.
    """
    opened = access.open()
    slot = _target(opened, number)
    assert isinstance(slot.body, TPM2Body)
    pin = None
    if slot.body.pin is not None:
        pin = new_secret(pin_file, "PIN", "--pin-file")
    elif pin_file:
        raise UsageError(f"slot {slot.id} has no PIN", "leave --pin-file out, or add a slot that has one")
    with open_tpm(access.options.tcti) as tpm:
        bound = TPM2Enrolment(tpm, pin, approvals=access.options.approvals(), forced=force).like(slot.body)
        volume = opened.volume.change(slot.id, bound)
    opened.save(volume, revokes=True)
    say(f"slot {slot.id} is sealed to this TPM as it is now")


def _target(opened: Opened, number: int | None) -> Slot:
    """The slot that was named, or the only TPM slot. Raises UsageError."""
    slots = opened.file.slots if number is None else (opened.file.slot(number),)
    slots = tuple(slot for slot in slots if isinstance(slot.body, TPM2Body))
    if len(slots) != 1:
        which = "slot {number} is no TPM slot" if number is not None else f"there are {len(slots)} TPM slots"
        raise UsageError(which.format(number=number), "name one: --slot N; fusecrypt key list shows them")
    return slots[0]
