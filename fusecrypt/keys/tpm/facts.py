"""What a TPM tells about itself: its maker, and how many wrong attempts it still takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fusecrypt.keys.tpm.errors import OtherTPMError, TPMError
from fusecrypt.keys.tpm.session import SRK, TPM
from fusecrypt.native import Secret

_PERMANENT = 0x200
_LOCKOUT_AUTH_SET = 0x4
_IN_LOCKOUT = 0x200
_FAILED, _ALLOWED, _PER_TRY, _RECOVERY = 0x20E, 0x20F, 0x210, 0x211
_VENDOR = (0x106, 0x107, 0x108, 0x109)


@dataclass(frozen=True)
class Lockout:
    """Wrong attempts counted and allowed; seconds until one is given back, and for the lockout auth."""

    failed: int
    allowed: int
    seconds_per_try: int
    seconds_recovery: int
    locked: bool
    has_auth: bool

    @property
    def left(self) -> int:
        """Attempts left before the TPM locks."""
        return 0 if self.locked else max(self.allowed - self.failed, 0)

    @property
    def advice(self) -> str:
        """What the owner should know; empty if nothing."""
        return (
            ""
            if self.has_auth
            else "the TPM's lockout auth is empty: anybody may reset the counter of attempts"
        )


def lockout(tpm: TPM) -> Lockout:
    """The TPM's lockout figures. Raises TPMError, also for a TPM that does not tell them."""
    values = tpm.properties(_FAILED, 4) | tpm.properties(_PERMANENT, 1)
    if not {_FAILED, _ALLOWED, _PER_TRY, _RECOVERY, _PERMANENT} <= set(values):
        raise TPMError("the TPM does not tell how many attempts are left", "use another slot")
    permanent = values[_PERMANENT]
    return Lockout(
        values[_FAILED],
        values[_ALLOWED],
        values[_PER_TRY],
        values[_RECOVERY],
        bool(permanent & _IN_LOCKOUT),
        bool(permanent & _LOCKOUT_AUTH_SET),
    )


def reset_lockout(tpm: TPM, auth: Secret | None = None) -> None:
    """Set the counter of wrong attempts to zero; WrongPINError if the lockout auth is another, LockedOutError
    if the TPM takes none for now.

    A wrong lockout auth makes the TPM refuse any for ``seconds_recovery``.
    """
    handle = tpm.lib.ESYS_TR.LOCKOUT
    tpm.set_auth(handle, auth)
    try:
        with _any_storage_key(tpm) as key, tpm.session(key) as session:
            tpm.call("dictionary_attack_lock_reset", handle, session1=session)
    finally:
        tpm.set_auth(handle, None)


@contextmanager
def _any_storage_key(tpm: TPM) -> Iterator[Any]:
    """The TPM's storage key, or one for the moment if it has none yet: nothing depends on which it is."""
    try:
        present = tpm.parent_at(SRK)
    except OtherTPMError:
        with tpm.primary() as key:
            yield key
    else:
        yield tpm.pinned(present)


def vendor(tpm: TPM) -> str:
    """The maker's text, such as ``SW   TPM`` for a software TPM."""
    values = tpm.properties(_VENDOR[0], len(_VENDOR))
    octets = b"".join(values.get(number, 0).to_bytes(4, "big") for number in _VENDOR)
    return "".join(chr(octet) for octet in octets if 0x20 <= octet < 0x7F).strip()


def insecurity(tpm: TPM) -> str:
    """The warning that a software TPM deserves; empty for others."""
    name = vendor(tpm)
    if "SW" not in name.split():
        return ""
    return f"this is a software TPM ({name}): whoever can read its state can read all that it seals"
