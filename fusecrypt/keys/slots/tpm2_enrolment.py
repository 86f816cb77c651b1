"""Enrolling and opening TPM slots: which policy, PIN and parent, and in which order they are asked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fusecrypt.errors import UsageError
from fusecrypt.keys.errors import KeyFileError, SlotError
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.slots.tpm2 import (
    DIRECT,
    SPLIT,
    TYPE,
    TPM2Body,
    new_pin,
    split_key,
    split_pin,
    what_to_seal,
)
from fusecrypt.keys.tpm import policy
from fusecrypt.keys.tpm.errors import LastAttemptError, LockedOutError, WrongPINError
from fusecrypt.keys.tpm.facts import lockout
from fusecrypt.keys.tpm.policy import PCRPolicy, SignedPolicy
from fusecrypt.keys.tpm.seal import Policy, binding, check_values, seal, unseal
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.native import Secret


@dataclass(frozen=True)
class TPM2Enrolment:
    """A TPM, and for new slots what they are bound to: by default to the machine alone.

    ``pcrs`` are literal (bank, numbers) whose present values count; ``signed`` names whose approval
    counts, ``approvals`` is the octets of the signature file. ``forced`` allows PCRs that say nothing,
    ``last_attempt`` spends the last one, ``large`` allows parameters that need much memory.
    """

    tpm: TPM
    pin: Secret | None = None
    pcrs: tuple[str, tuple[int, ...]] | None = None
    signed: SignedPolicy | None = None
    approvals: bytes = b""
    forced: bool = False
    last_attempt: bool = False
    large: bool = False
    type: str = TYPE

    def like(self, body: TPM2Body) -> TPM2Enrolment:
        """This TPM and PIN, bound as an existing slot is, to the present values: for resealing."""
        if (body.pin is None) != (self.pin is None):
            raise SlotError(
                "the slot has a PIN" if body.pin else "the slot has no PIN", "give it its PIN alone"
            )
        pcrs = (body.pcr.bank, body.pcr.pcrs) if body.pcr else None
        return replace(self, pcrs=pcrs, signed=body.signed)

    def exactly_like(self, body: TPM2Body) -> TPM2Enrolment:
        """The same, but only if this is the TPM and the boot state that the slot is bound to: for a new PIN.

        Raises OtherTPMError, PolicyChangedError.
        """
        self.tpm.call("tr_close", self.tpm.pinned(body.parent))
        if body.pcr:
            check_values(self.tpm, body.pcr)
        # It may have been bound to unused PCRs on purpose: that is no question of a new PIN.
        return replace(self.like(body), forced=True)

    def enrol(self, volume: bytes, volume_key: Secret) -> tuple[TPM2Body, Secret | None]:
        """Seal, unseal again and compare, and give the slot's body.

        Raises TPMError, UsageError for PCRs that are not in use, SlotError if what was sealed does not
        come back.
        """
        pcr = self._literal()
        digest, steps = binding(self.tpm, self.signed, pcr, self.pin is not None)
        parent = self.tpm.storage_key()
        kdf, auth, share = new_pin(self.pin)
        with what_to_seal(volume_key, share) as sealed:
            blob = replace(seal(self.tpm, parent, sealed, auth=auth, policy=digest), policy=steps)
            mode = DIRECT if share is None else SPLIT
            body = TPM2Body(mode, blob, digest, parent, pcr, self.signed, kdf)
            with self._unseal(body, auth) as again:
                if again != sealed:
                    raise SlotError(
                        "the TPM does not give back what it sealed: nothing was changed",
                        "try again; if it stays so, the TPM is failing",
                    )
            return body, None if share is None else split_key(sealed, share, volume)

    def open(self, volume: bytes, slot: Slot) -> Secret:
        """The volume key; a TPMError, or KeyFileError for a damaged slot.

        A PIN costs one attempt if it is wrong. Raises LastAttemptError before the last one is spent.
        """
        body = slot.body
        if not isinstance(body, TPM2Body):
            raise SlotError(f"slot {slot.id} is no TPM slot", "fusecrypt key list shows the slots")
        if body.pin is None:
            return self._unseal(body, None)
        if self.pin is None:
            raise SlotError(f"slot {slot.id} needs a PIN", "give it: --pin-file FILE, or on a terminal")
        auth, share = split_pin(body.pin, self.pin, large=self.large)
        self.check_attempts()
        with auth, share, self._unseal(body, auth) as sealed:
            if body.mode == DIRECT:
                return sealed.part(0, len(sealed))
            with split_key(sealed, share, volume) as key:
                volume_key = slot.unwrap(volume, key)
        if volume_key is None:
            raise KeyFileError(
                f"slot {slot.id}: the TPM opened it, but its wrapped key is damaged",
                "use another slot, remove this one, and add it anew",
            )
        return volume_key

    def _unseal(self, body: TPM2Body, auth: Secret | None) -> Secret:
        met = None
        if body.policy:
            met = Policy(
                body.policy, body.pcr, body.signed, self._approvals(body.signed), body.pin is not None
            )
        try:
            return unseal(self.tpm, self.tpm.pinned(body.parent), body.blob, auth=auth, policy=met)
        except WrongPINError as error:
            left = lockout(self.tpm).left
            raise WrongPINError("the PIN is wrong", f"attempts left: {left}", error.code) from error
        except LockedOutError as error:
            raise self._locked_out(error.code) from error

    def _approvals(self, signed: SignedPolicy | None) -> list[policy.Approval]:
        if signed is None or not self.approvals:
            return []
        return policy.parse_approvals(self.approvals, signed.bank, signed.pcrs)

    def _literal(self) -> PCRPolicy | None:
        if self.pcrs is None:
            return None
        bank, numbers = self.pcrs
        values = self.tpm.pcrs(bank, numbers)
        idle = policy.unset(values)
        if idle and not self.forced:
            raise UsageError(
                f"PCR {', '.join(map(str, idle))} is not in use: binding to it means nothing",
                "choose others, such as 7; --force does it all the same",
            )
        return PCRPolicy(bank, values)

    def check_attempts(self) -> None:
        """Whether a PIN may be spent. Raises LockedOutError, or LastAttemptError without consent."""
        figures = lockout(self.tpm)
        if figures.locked:
            raise self._locked_out(0)
        if figures.left <= 1 and not self.last_attempt:
            raise LastAttemptError(
                "one attempt is left before the TPM locks; it is not spent unasked",
                f"an attempt is given back after {figures.seconds_per_try} s; or use another slot",
            )

    def _locked_out(self, code: int) -> LockedOutError:
        seconds = lockout(self.tpm).seconds_per_try
        hint = (
            f"an attempt is given back after {seconds} s; this says nothing about the PIN; use another slot"
        )
        return LockedOutError("the TPM is locked out after wrong attempts", hint, code)
