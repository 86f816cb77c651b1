"""From the options of a command to the keys: the TPM first, then what was given, then a prompt.

Slots that need nothing but this TPM are tried first, then the secrets that were given (each as all it can
be), then a PIN from a file. Only if no secret was given is one asked for on the terminal, three times at
most. Each refusal is one line on standard error. Without a terminal and without a secret that works it ends
at once, with status 3.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from fusecrypt.errors import FusecryptError, SecretError
from fusecrypt.keys.errors import SlotError, WrongSecretError
from fusecrypt.keys.rollback import RollbackMemory
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slots.passphrase import PassphraseBody
from fusecrypt.keys.slots.recovery import RecoveryBody
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.token import DEFAULT_SALT, AuthToken
from fusecrypt.keys.tpm.errors import TPMError, WrongPINError
from fusecrypt.keys.unlock import Found, find_keys, open_with_pin, open_with_tpm
from fusecrypt.keys.volume import Volume
from fusecrypt.keys.wrapped import WrappedPassphrase
from fusecrypt.native import Secret
from fusecrypt.sources import secrets as sources
from fusecrypt.sources.given import SlotOptions
from fusecrypt.sources.lazytpm import LazyTPM
from fusecrypt.sources.lines import EmptyLineError
from fusecrypt.sources.person import ask_secret, describe, has_terminal, say

_PROMPTS = 3
_GO_ON = " (empty: passphrase or recovery key)"


def unlock(
    file: SlotFile | None,
    options: SlotOptions,
    secrets: Sequence[Secret] = (),
    *,
    sigs: Collection[bytes] = (),
    later: Callable[[], Iterable[Collection[bytes]]] = tuple,
    salt: bytes = DEFAULT_SALT,
    wrapped: WrappedPassphrase | None = None,
    use_tpm: bool = True,
) -> Found:
    """Get at the keys: of a slot of ``file``, or of a passphrase that fits the signatures ``sigs``.

    ``later`` is as for :func:`fusecrypt.keys.unlock.find_keys`.

    The secrets are wiped. ``use_tpm`` False leaves slots alone that need nothing but the TPM. The volume
    of what is found is None if the tree's own passphrase gave the keys; if its ``intact`` is False (which
    is said here) the tree must not be written. Raises SecretError if nothing fits.
    """
    if file is not None:
        warn_if_older(file)
    refusals: list[FusecryptError] = []
    with LazyTPM(options.tcti) as tpm:
        found = _by_tpm(file, options, tpm) if file is not None and use_tpm else None
        attempt = functools.partial(
            find_keys, sigs=sigs, later=later, salt=salt, wrapped=wrapped, file=file, slot=options.slot
        )
        if found is None:
            found = _by_secrets(secrets, attempt, refusals)
        for secret in secrets:
            secret.wipe()
        if found is None and file is not None and options.pin_file is not None:
            found = _by_pin_file(file, options, tpm, options.pin_file, refusals)
        if found is None and not secrets:
            what = "passphrase or recovery key" if file else "passphrase" if wrapped else "mount passphrase"
            found = _by_prompt(file, options, tpm, attempt, refusals, what)
    for refusal in refusals if found else refusals[:-1]:
        say(describe(refusal))
    if found is None:
        unopened = SlotError(f"slot {options.slot} was not opened", "without --slot the others are tried too")
        raise refusals[-1] if refusals else unopened
    if found.volume is not None:
        note(found.volume)
    return found


def warn_if_older(file: SlotFile) -> None:
    """Say so if a file is an older copy of one that was used before."""
    warning = RollbackMemory().warning(file)
    if warning:
        say(warning)


def note(volume: Volume) -> None:
    """Remember what was seen of a file, or say that somebody without its keys changed it."""
    if volume.intact:
        with suppress(OSError):
            RollbackMemory().remember(volume.file)
    else:
        say("the key-slot file was changed by somebody without its keys: nothing is written with it")


def _found(volume: Volume, slot: str) -> Found:
    return Found(tuple(held.token for held in volume.tokens()), slot, volume)


def _by_tpm(file: SlotFile, options: SlotOptions, tpm: LazyTPM) -> Found | None:
    """Slots that need nothing but this TPM."""
    if not _slots(file, options, pin=False) or (opened := tpm.get()) is None:
        return None
    volume, refusals = open_with_tpm(file, opened, slot=options.slot, approvals=options.approvals())
    for refusal in refusals:
        say(refusal)
    return None if volume is None else _found(volume, "the TPM")


def _by_secrets(
    secrets: Sequence[Secret], attempt: Callable[[Secret], Found], refusals: list[FusecryptError]
) -> Found | None:
    """Each as all it can be. A slot gives all keys; passphrases of the tree may give some each."""
    tokens: dict[bytes, AuthToken] = {}
    for secret in secrets:
        try:
            found = attempt(secret)
        except (WrongSecretError, SlotError) as error:
            refusals.append(error)
            continue
        if found.volume is not None:
            return found
        tokens |= {token.signature: token for token in found.tokens}
    return Found(tuple(tokens.values()), "passphrase") if tokens else None


def _by_pin_file(
    file: SlotFile, options: SlotOptions, tpm: LazyTPM, path: str, refusals: list[FusecryptError]
) -> Found | None:
    with sources.from_file(path) as pin:
        try:
            number = pin_slot(file, options, tpm)
            if number is not None:
                return _with_pin(file, options, tpm, number, pin)
            refusals.append(
                SecretError(
                    "there is no slot whose PIN this TPM could check",
                    "leave --pin-file out, or give another secret; fusecrypt key list shows the slots",
                )
            )
        except FusecryptError as error:
            refusals.append(error)
    return None


def _by_prompt(
    file: SlotFile | None,
    options: SlotOptions,
    tpm: LazyTPM,
    attempt: Callable[[Secret], Found],
    refusals: list[FusecryptError],
    what: str,
) -> Found | None:
    takes_secret = file is None or _takes_secret(file, options)
    if not has_terminal():
        if not refusals and (takes_secret or (file and _slots(file, options, pin=True))):
            hint = "give a passphrase or recovery key by a file or descriptor, or a PIN by a file"
            refusals.append(SecretError("no key was opened, and there is no terminal to ask on", hint))
        return None
    prompts = iter(range(_PROMPTS))
    if file is not None and options.pin_file is None:
        found = _ask_pin(file, options, tpm, refusals, prompts)
        if found is not None:
            return found
    for _ in prompts if takes_secret else ():
        _say_all(refusals)
        with ask_secret(what) as secret:
            try:
                return attempt(secret)
            except WrongSecretError as error:
                refusals.append(error)
    return None


def _ask_pin(
    file: SlotFile,
    options: SlotOptions,
    tpm: LazyTPM,
    refusals: list[FusecryptError],
    prompts: Iterator[int],
) -> Found | None:
    """Ask for the PIN of the slot that this TPM can open; an empty line goes on to other slots."""
    try:
        number = pin_slot(file, options, tpm)
        while number is not None:
            _check_attempts(options, tpm)
            if next(prompts, None) is None:
                break
            _say_all(refusals)
            try:
                pin = ask_secret(f"PIN of slot {number}{'' if options.slot is not None else _GO_ON}")
            except EmptyLineError:
                return None
            with pin:
                try:
                    return _with_pin(file, options, tpm, number, pin)
                except WrongPINError as error:
                    refusals.append(error)
    except FusecryptError as error:
        refusals.append(error)
    return None


def _check_attempts(options: SlotOptions, tpm: LazyTPM) -> None:
    """Before a PIN is asked for in vain. Raises LockedOutError, LastAttemptError."""
    opened = tpm.get()
    assert opened is not None
    TPM2Enrolment(opened, last_attempt=options.last_attempt).check_attempts()


def _say_all(refusals: list[FusecryptError]) -> None:
    for refusal in refusals:
        say(describe(refusal))
    refusals.clear()


def _with_pin(file: SlotFile, options: SlotOptions, tpm: LazyTPM, number: int, pin: Secret) -> Found:
    return _found(spend_pin(file, options, tpm, number, pin), f"slot {number}")


def spend_pin(file: SlotFile, options: SlotOptions, tpm: LazyTPM, number: int, pin: Secret) -> Volume:
    """What a PIN opens, tried on the one slot that :func:`pin_slot` gave. Raises FusecryptError."""
    opened = tpm.get()
    assert opened is not None, "pin_slot found a slot of this TPM"
    volume, _ = open_with_pin(
        file,
        opened,
        pin,
        slot=number,
        approvals=options.approvals(),
        last_attempt=options.last_attempt,
        large=options.slot is not None,
    )
    return volume


def pin_slot(file: SlotFile, options: SlotOptions, tpm: LazyTPM) -> int | None:
    """The one slot that a PIN may be spent on: it was named, or it alone belongs to this TPM.

    None if there is none. Raises SlotError if there are several.
    """
    slots = _slots(file, options, pin=True)
    if not slots or (opened := tpm.get()) is None:
        return None
    if options.slot is not None:
        return options.slot
    here: list[int] = []
    for slot in slots:
        assert isinstance(slot.body, TPM2Body)
        try:
            opened.call("tr_close", opened.pinned(slot.body.parent))
        except TPMError as error:
            say(f"slot {slot.id}: {error}")
        else:
            here.append(slot.id)
    if len(here) > 1:
        numbers = ", ".join(map(str, here))
        raise SlotError(f"the slots {numbers} have a PIN, and a PIN is spent on one", "name it: --slot N")
    return here[0] if here else None


def _slots(file: SlotFile, options: SlotOptions, *, pin: bool) -> list[Slot]:
    slots = file.slots if options.slot is None else (file.slot(options.slot),)
    return [s for s in slots if isinstance(s.body, TPM2Body) and (s.body.pin is not None) == pin]


def _takes_secret(file: SlotFile, options: SlotOptions) -> bool:
    """Whether a passphrase or recovery key may open what options leave to be opened."""
    if options.slot is None:
        return True
    return isinstance(file.slot(options.slot).body, PassphraseBody | RecoveryBody)
