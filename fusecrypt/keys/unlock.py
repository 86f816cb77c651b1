"""From what a user has to the keys of a tree: one typed secret, a TPM, or a TPM with a PIN.

A typed secret is tried as everything it can be, cheapest first: the tree's mount passphrase, the
passphrase of a wrapped file, a recovery key, a slot's passphrase. A PIN is tried as nothing else, and a
passphrase never as a PIN: each wrong PIN costs an attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from fusecrypt.errors import FusecryptError, SecretError
from fusecrypt.keys.errors import SlotError, WrongSecretError
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slots.passphrase import PassphraseBody, PassphraseEnrolment
from fusecrypt.keys.slots.recovery import MistypedRecoveryKeyError, RecoveryBody, RecoveryEnrolment, read_key
from fusecrypt.keys.slots.slot import Enrolment, Slot
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT, MAX_PASSPHRASE, AuthToken
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.volume import Volume
from fusecrypt.keys.wrapped import WrappedPassphrase
from fusecrypt.native import Secret

WRAPPED = "wrapped passphrase"
"""How keys were found that the passphrase of a wrapped file gave."""


@dataclass(frozen=True)
class Found:
    """The keys that a secret gave, in words how, and the volume if a slot gave them."""

    tokens: tuple[AuthToken, ...]
    how: str
    volume: Volume | None = None


def find_keys(
    secret: Secret,
    sigs: Collection[bytes],
    *,
    salt: bytes = DEFAULT_SALT,
    wrapped: WrappedPassphrase | None = None,
    file: SlotFile | None = None,
    slot: int | None = None,
    later: Callable[[], Iterable[Collection[bytes]]] = tuple,
) -> Found:
    """Try a secret as all it can be for a tree that has keys with these signatures.

    With ``slot`` it is tried on that slot alone. ``later`` gives the signatures of the tree again, more of
    them each time, which takes long: a secret that fits nothing so far is tried on them. Raises
    WrongSecretError if it fits nothing.
    """
    derived = _derived(secret, salt, wrapped) if sigs and slot is None else []
    found = _fitting(derived, sigs)
    if found is not None:
        return found
    try:
        if file is None:
            raise _misfit(derived, sigs, wrapped)
        volume, number = open_with_secret(file, secret, slot)
        return Found(tuple(held.token for held in volume.tokens()), f"slot {number}", volume)
    except WrongSecretError:
        found = next(filter(None, (_fitting(derived, more) for more in later())), None) if derived else None
        if found is None:
            raise
        return found


def _misfit(
    derived: Iterable[Found], sigs: Collection[bytes], wrapped: WrappedPassphrase | None
) -> WrongSecretError:
    """What may be wrong with a secret: often it is a login password that was changed since it wrapped."""
    wanted = ", ".join(sorted(sig.hex() for sig in sigs))
    layout = "check the keyboard's layout"
    if wrapped is None or wrapped.path is None:
        return WrongSecretError(f"the passphrase fits no key of this tree: it wants {wanted}", layout)
    if any(each.how == WRAPPED for each in derived):
        return WrongSecretError(
            f"the passphrase opens {wrapped.path}, but that fits no key of this tree: it wants {wanted}",
            "it is the wrapped passphrase of another tree",
        )
    return WrongSecretError(
        f"the passphrase fits no key of this tree: it wants {wanted}",
        f"{layout}; if it is a login password that was changed, give the old one to "
        f"`fusecrypt key wrap {wrapped.path}`, which sets the new one",
    )


def _derived(secret: Secret, salt: bytes, wrapped: WrappedPassphrase | None) -> list[Found]:
    """The keys that a secret gives as a mount passphrase, and as that of a wrapped one."""
    found = []
    if 1 <= len(secret) <= MAX_PASSPHRASE:
        found.append(Found(passphrase_tokens(secret, salt), "mount passphrase"))
    if wrapped is not None:
        with suppress(SecretError), wrapped.unwrap(secret) as passphrase:
            found.append(Found(passphrase_tokens(passphrase, salt), WRAPPED))
    return found


def _fitting(derived: Iterable[Found], sigs: Collection[bytes]) -> Found | None:
    """Those keys of which the tree uses one. It may use the others too, in a place not seen yet."""
    return next((each for each in derived if any(t.signature in sigs for t in each.tokens)), None)


def passphrase_tokens(passphrase: Secret, salt: bytes = DEFAULT_SALT) -> tuple[AuthToken, ...]:
    """The keys that ecryptfs-utils derives from a passphrase: for contents, then for names.

    A salt of the user's (8 octets) stands for the content key's only; the key with the default salt is
    given too then.
    """
    salts = dict.fromkeys([salt, DEFAULT_SALT, FNEK_SALT])
    return tuple(AuthToken.from_passphrase(passphrase, each) for each in salts)


def open_with_secret(file: SlotFile, secret: Secret, slot: int | None = None) -> tuple[Volume, int]:
    """Open a recovery or passphrase slot; the volume and the slot's number.

    Raises WrongSecretError if none opens: a MistypedRecoveryKeyError if the secret looks like a recovery
    key whose group is wrong.
    """
    slots = file.slots if slot is None else (file.slot(slot),)
    mistyped: MistypedRecoveryKeyError | None = None
    try:
        key = read_key(secret)
    except MistypedRecoveryKeyError as error:
        key, mistyped = None, error
    attempts: list[tuple[Slot, Enrolment]] = []
    if key is not None:
        recovery = RecoveryEnrolment(key)
        attempts += [(each, recovery) for each in slots if isinstance(each.body, RecoveryBody)]
    passphrase = PassphraseEnrolment(secret, large=slot is not None)
    attempts += [(each, passphrase) for each in slots if isinstance(each.body, PassphraseBody)]
    refused: SlotError | None = None
    for each, enrolment in attempts:
        try:
            return Volume.open(file, each.id, enrolment), each.id
        except WrongSecretError:
            continue
        except SlotError as error:  # parameters that must not be used
            refused = error
    if refused is not None and len(attempts) == 1:
        raise refused
    what = "any slot" if slot is None else f"slot {slot}"
    raise mistyped or WrongSecretError(
        f"the secret does not open {what}", "check the keyboard's layout; a TPM slot's PIN is given apart"
    )


def open_with_tpm(
    file: SlotFile, tpm: TPM, *, slot: int | None = None, approvals: bytes = b""
) -> tuple[Volume | None, list[str]]:
    """Try every TPM slot that has no PIN; the volume of the first that opens, and a line a refusal."""
    refusals: list[str] = []
    for each in _tpm_slots(file, slot, pin=False):
        try:
            return Volume.open(file, each.id, TPM2Enrolment(tpm, approvals=approvals)), refusals
        except FusecryptError as error:
            refusals.append(f"slot {each.id}: {error}")
    return None, refusals


def open_with_pin(
    file: SlotFile,
    tpm: TPM,
    pin: Secret,
    *,
    slot: int | None = None,
    approvals: bytes = b"",
    last_attempt: bool = False,
    large: bool = False,
) -> tuple[Volume, int]:
    """Spend a PIN on one slot: the one that is named, or the only one that has a PIN.

    ``large`` allows parameters that need much memory.

    Raises SlotError if it is not clear which, and what the slot raises.
    """
    slots = _tpm_slots(file, slot, pin=True)
    if len(slots) != 1:
        which = "no slot" if not slots else "more than one slot"
        raise SlotError(f"{which} has a PIN here", "name the slot: --slot N" if slots else "")
    enrolment = TPM2Enrolment(tpm, pin, approvals=approvals, last_attempt=last_attempt, large=large)
    return Volume.open(file, slots[0].id, enrolment), slots[0].id


def _tpm_slots(file: SlotFile, slot: int | None, *, pin: bool) -> list[Slot]:
    slots = file.slots if slot is None else (file.slot(slot),)
    return [s for s in slots if isinstance(s.body, TPM2Body) and (s.body.pin is not None) == pin]
