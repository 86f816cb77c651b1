"""fusecrypt key rotate: a new volume key under all slots that stay."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import click

from fusecrypt.cli.key.access import Access, Opened, unlocking
from fusecrypt.cli.terminal import ask_secret, has_terminal, say
from fusecrypt.errors import UsageError
from fusecrypt.keys.errors import SlotError, WrongSecretError
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slots.passphrase import PassphraseBody, PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryBody, RecoveryEnrolment, read_key
from fusecrypt.keys.slots.slot import Enrolment, Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.volume import Volume
from fusecrypt.native import Secret
from fusecrypt.sources import secrets as sources
from fusecrypt.sources import unlock
from fusecrypt.sources.lazytpm import open_tpm

_NAMES = {"passphrase": "passphrase", "recovery": "recovery key"}


@click.command(short_help="Make a new volume key.")
@unlocking
@click.option("--pin-file", "pins", multiple=True, metavar="[SLOT=]FILE", help="PIN of a TPM slot.")
@click.option("--drop", multiple=True, type=click.IntRange(0, 0xFFFF), metavar="N", help="Drop this slot.")
def rotate(access: Access, pins: Sequence[str], drop: Sequence[int]) -> None:
    """Make a new volume key. The keys of the tree stay as they are.

    Each slot that stays needs its secret (--unlock-passfile, once for each), its PIN or its TPM now; others
    are dropped only when --drop names them. On a terminal missing secrets are asked for.
    """
    store = access.store
    file = store.read()
    unlock.warn_if_older(file)
    for number in drop:
        file.slot(number)
    staying = [slot for slot in file.slots if slot.id not in drop]
    if not staying:
        raise SlotError("no slot would be left that opens the new volume key", "drop fewer")
    with ExitStack() as stack:
        secrets = [stack.enter_context(secret) for secret in access.secrets()]
        enrolments = _by_secrets(file, staying, secrets)
        bound = [slot for slot in staying if isinstance(slot.body, TPM2Body)]
        if bound:
            tpm = stack.enter_context(open_tpm(access.options.tcti))
            enrolments |= _by_tpm(tpm, access, bound, _pins(pins, bound))
        missing = [str(slot.id) for slot in staying if slot.id not in enrolments]
        if missing:
            raise SlotError(
                f"a new volume key needs the secrets of the slots {', '.join(missing)}",
                "give each with --unlock-passfile, or name the slots that shall be dropped: --drop N",
            )
        first = staying[0].id
        opened = Opened(store, file, Volume.open(file, first, enrolments[first]))
        unlock.note(opened.volume)
        volume = opened.volume.rotate(enrolments, drop)
        opened.save(volume, revokes=True)
    say(f"the volume key is new; slots {', '.join(str(slot.id) for slot in staying)} open it")


def _by_secrets(file: SlotFile, slots: Sequence[Slot], secrets: list[Secret]) -> dict[int, Enrolment]:
    """What opens each passphrase and recovery slot. On a terminal missing secrets are asked for.

    A secret that opens nothing is refused, so that no slot is thought to be covered that is not.
    """
    found: dict[int, Enrolment] = {}
    for secret in secrets:
        opened = {slot.id: e for slot in slots if (e := _opening(file, slot, secret)) is not None}
        if not opened:
            raise WrongSecretError(
                "a secret that was given opens none of the slots that stay", "correct it, or leave it out"
            )
        found |= opened
    for slot in slots:
        typed = isinstance(slot.body, PassphraseBody | RecoveryBody)
        if typed and slot.id not in found and has_terminal():
            secret = ask_secret(f"{_NAMES[slot.type]} of slot {slot.id}")
            enrolment = _opening(file, slot, secret)
            if enrolment is None:
                raise WrongSecretError(
                    f"this does not open slot {slot.id}", "try again, or drop the slot: --drop N"
                )
            found[slot.id] = enrolment
    return found


def _opening(file: SlotFile, slot: Slot, secret: Secret) -> Enrolment | None:
    """The secret as what opens this slot, or None if it does not."""
    enrolment: Enrolment
    if isinstance(slot.body, PassphraseBody):
        enrolment = PassphraseEnrolment(secret)
    elif isinstance(slot.body, RecoveryBody) and (key := read_key(secret)) is not None:
        enrolment = RecoveryEnrolment(key)
    else:
        return None
    try:
        enrolment.open(file.volume, slot).wipe()
    except WrongSecretError:
        return None
    return enrolment


def _pins(arguments: Sequence[str], slots: Sequence[Slot]) -> dict[int, str]:
    """Files of PINs by slot; without a number it is that of the only slot that has a PIN."""
    with_pin = [slot.id for slot in slots if isinstance(slot.body, TPM2Body) and slot.body.pin is not None]
    files: dict[int, str] = {}
    for argument in arguments:
        named = re.fullmatch(r"([0-9]{1,5})=(.+)", argument, re.ASCII)
        if named is None and len(with_pin) != 1:
            raise UsageError(f"--pin-file {argument}: which slot's PIN is it?", "write --pin-file SLOT=FILE")
        number, path = (int(named[1]), named[2]) if named else (with_pin[0], argument)
        if number not in with_pin:
            raise UsageError(f"slot {number} has no PIN, or is dropped", "leave its --pin-file out")
        files[number] = path
    return files


def _by_tpm(tpm: TPM, access: Access, slots: Sequence[Slot], pins: Mapping[int, str]) -> dict[int, Enrolment]:
    """The TPM as what opens and reseals each slot; slots whose PIN is not at hand are left out."""
    found: dict[int, Enrolment] = {}
    approvals = access.options.approvals()
    for slot in slots:
        assert isinstance(slot.body, TPM2Body)
        pin = None
        if slot.body.pin is not None:
            if slot.id in pins:
                pin = sources.from_file(pins[slot.id])
            elif has_terminal():
                pin = ask_secret(f"PIN of slot {slot.id}")
            else:
                continue
        spend = access.options.last_attempt
        # A slot may have been bound to unused PCRs on purpose: that is no question of a new volume key.
        bound = TPM2Enrolment(tpm, pin, approvals=approvals, forced=True, last_attempt=spend)
        found[slot.id] = bound.like(slot.body)
    return found
