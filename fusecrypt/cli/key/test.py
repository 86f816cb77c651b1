"""fusecrypt key test: which slots open, without changing anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click

from fusecrypt.cli.slot_options import slot_options
from fusecrypt.cli.terminal import ask_secret, has_terminal, say
from fusecrypt.errors import FusecryptError, SecretError, UsageError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.unlock import open_with_secret, open_with_tpm
from fusecrypt.keys.volume import Volume
from fusecrypt.native import Secret
from fusecrypt.sources import secrets as sources
from fusecrypt.sources import unlock
from fusecrypt.sources.given import SlotOptions
from fusecrypt.sources.lazytpm import LazyTPM
from fusecrypt.sources.person import describe


@dataclass
class Result:
    """What came of one slot. ``opens`` is None if it was not tried."""

    slot: int
    type: str
    opens: bool | None = None
    why: str = "its secret was not given"

    @property
    def words(self) -> str:
        state = {True: "opens", False: "does not open", None: "not tried"}[self.opens]
        return f"slot {self.slot}: {self.type}: {state}{f': {self.why}' if self.why else ''}"


@click.command(short_help="Try which slots open.")
@slot_options
@click.option(
    "--passfile", "--unlock-passfile", "passfile", multiple=True, metavar="FILE", help="Try this secret too."
)
@click.option("--passphrase-fd", multiple=True, type=int, metavar="N", help="The same from a descriptor.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def test(slots: SlotOptions, passfile: Sequence[str], passphrase_fd: Sequence[int], as_json: bool) -> None:
    """Try slots: those that need nothing but this TPM, and those whose secrets are given.

    The status is 0 if something opened and all that was tried opened, and 3 otherwise. A wrong PIN costs an
    attempt; a PIN is tried on one slot.
    """
    if slots.keyslots is None:
        raise UsageError("which key-slot file?", "name it: --keyslots FILE")
    file = SlotStore(slots.keyslots).read()
    unlock.warn_if_older(file)
    secrets = [sources.from_file(path) for path in passfile]
    secrets += [sources.from_descriptor(fd) for fd in passphrase_fd]
    chosen = file.slots if slots.slot is None else (file.slot(slots.slot),)
    results = {slot.id: Result(slot.id, slot.type) for slot in chosen}
    wrong = 0
    with LazyTPM(slots.tcti) as tpm:
        _try_tpm(file, chosen, slots, tpm, results)
        _try_pin(file, slots, tpm, results)
    if not secrets and all(result.opens is None for result in results.values()) and has_terminal():
        secrets = [ask_secret("passphrase or recovery key")]
    for secret in secrets:
        wrong += not _try_secret(file, slots, secret, results)
    _report(results, as_json)
    tried = [result.opens for result in results.values() if result.opens is not None]
    if wrong or not tried or not all(tried):
        raise SecretError(
            "not all that was tried opened" if tried or wrong else "nothing could be tried",
            "the lines above say why" if tried or wrong else "give a secret by --passfile or --pin-file",
        )


def _try_tpm(
    file: SlotFile, chosen: Sequence[Slot], options: SlotOptions, tpm: LazyTPM, results: dict[int, Result]
) -> None:
    for slot in chosen:
        if not isinstance(slot.body, TPM2Body) or slot.body.pin is not None:
            continue
        opened = tpm.get()
        if opened is None:
            results[slot.id] = Result(slot.id, slot.type, False, "the TPM cannot be reached")
            continue
        volume, refusals = open_with_tpm(file, opened, slot=slot.id, approvals=options.approvals())
        if volume is None:
            why = " ".join(refusals).removeprefix(f"slot {slot.id}: ")
            results[slot.id] = Result(slot.id, slot.type, False, why)
        else:
            results[slot.id] = _checked(slot, volume)


def _try_pin(file: SlotFile, options: SlotOptions, tpm: LazyTPM, results: dict[int, Result]) -> None:
    """Spend a PIN that was given on the one slot that it is for."""
    if options.pin_file is None:
        return
    number = unlock.pin_slot(file, options, tpm)
    if number is None:
        raise SecretError(
            "no slot has a PIN that this TPM could check",
            "leave --pin-file out; fusecrypt key list shows the slots",
        )
    slot = file.slot(number)
    with sources.from_file(options.pin_file) as pin:
        try:
            volume = unlock.spend_pin(file, options, tpm, number, pin)
        except FusecryptError as error:
            results[number] = Result(number, slot.type, False, describe(error))
        else:
            results[number] = _checked(slot, volume)


def _try_secret(file: SlotFile, options: SlotOptions, secret: Secret, results: dict[int, Result]) -> bool:
    with secret:
        try:
            volume, number = open_with_secret(file, secret, options.slot)
        except FusecryptError as error:
            if options.slot is None or results[options.slot].opens:
                say(describe(error))
            else:
                results[options.slot] = Result(options.slot, file.slot(options.slot).type, False, str(error))
            return False
    results[number] = _checked(file.slot(number), volume)
    return True


def _checked(slot: Slot, volume: Volume) -> Result:
    """A slot that opened: also the file's MAC and every key must be right."""
    if not volume.intact:
        return Result(slot.id, slot.type, False, "it opens, but the file was changed without its keys")
    unlock.note(volume)
    try:
        volume.tokens()
    except KeyFileError as error:
        return Result(slot.id, slot.type, False, f"it opens, but {error}")
    return Result(slot.id, slot.type, True, "")


def _report(results: dict[int, Result], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"slots": [asdict(result) for result in results.values()]}))
        return
    for result in results.values():
        click.echo(result.words)
