"""What a TPM's error codes mean for the user, and what to do next.

A code is looked up whole first (the number of the parameter, handle or session matters for some),
then without that number. The kernel's resource manager marks codes of the TPM with a layer of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from fusecrypt.errors import FusecryptError, UnsupportedSystemError

RESOURCE_MANAGER = 0x000B
_MARSHALLING = 0x0009  # the library's layer that finds what an answer holds to be no such structure
BUSY = frozenset({0x922, 0x908, 0x90A, 0x920, 0x923, 0x909})
"""Codes that pass: the TPM is busy, testing itself, or wants the command again."""

INITIALIZE = 0x100
PCR_CHANGED = 0x128
OCCUPIED = 0x14C
NO_SUCH_HANDLE = 0x18B
BAD_DATA = 0x09F
"""Of parameter 1 of a load: damaged, or of another parent (without that number, as base() gives it)."""
NO_DICTIONARY_ATTACK = 0x0A2
"""A wrong auth value of an object whose attempts are not counted."""
LOCKOUT = 0x921


class TPMError(FusecryptError):
    """A TPM refused or failed. ``code`` is the whole response code, 0 if none was involved."""

    exit_status = 3

    def __init__(self, message: str, hint: str = "", code: int = 0) -> None:
        super().__init__(f"{message} (TPM error {code:#x})" if code else message, hint)
        self.code = code


class TPMUnavailableError(TPMError, UnsupportedSystemError):
    """No TPM can be reached: none there, no permission, no library."""

    exit_status = 5


class OtherTPMError(TPMError):
    """This TPM is not the one, or not in the state, that the slot was made on."""


class PolicyChangedError(TPMError):
    """The machine booted into another state than the policy asks for."""


class WrongPINError(TPMError):
    """The PIN or auth value is wrong."""


class LockedOutError(TPMError):
    """The TPM refuses attempts for now, whatever the PIN."""


class LastAttemptError(TPMError):
    """One attempt is left before the TPM locks; it is not spent without consent."""


class TPMBusyError(TPMError):
    """The TPM stayed busy through all retries."""


class BrokenAnswerError(TPMError):
    """The TPM's answer failed verification: something between it and us may have changed it."""


class Row(NamedTuple):
    """What an error code means."""

    kind: type[TPMError]
    message: str
    hint: str = ""


_RECOVER = "unlock with the recovery key or a passphrase, then run fusecrypt key reseal"
_OTHER = Row(OtherTPMError, "this TPM was cleared, or is another one than the slot was made on", _RECOVER)
_BROKEN = Row(
    BrokenAnswerError,
    "the TPM's answer failed verification",
    "something may sit on its bus: do not enter a PIN",
)
_FULL = Row(TPMError, "the TPM has no room for another object or session", "use device:/dev/tpmrm0")
_GONE = Row(TPMError, "the TPM was restarted or its state was flushed meanwhile", "start over")
_STUCK = Row(TPMError, "the TPM is not asked any more after what it answered before", "start over")
_POLICY = Row(PolicyChangedError, "the boot state is not the one that the policy asks for", _RECOVER)
_PIN = Row(WrongPINError, "the PIN or auth value is wrong")

ROWS: dict[int, Row] = {
    0x0A000A: Row(TPMUnavailableError, "the TPM is not reachable", "`fusecrypt doctor` looks at it"),
    0x0A0015: Row(
        TPMUnavailableError, "the library for this TPM interface is not installed", "install libtss2-tcti-*"
    ),
    0x0A000B: Row(
        TPMUnavailableError, "this is no valid TPM interface", "write device:/dev/tpmrm0 or swtpm:path=SOCKET"
    ),
    0x101: Row(
        TPMError, "the TPM is in failure mode", "restart the machine; if it stays so, use the recovery key"
    ),
    NO_SUCH_HANDLE: _OTHER,
    BAD_DATA: Row(TPMError, "the slot's sealed data is damaged, or belongs to another TPM", _RECOVER),
    0xAA2: _BROKEN,
    0x07001B: _BROKEN,
    0x080011: _BROKEN,
    0x09D: _POLICY,
    0x1C4: _POLICY,
    0x09B: Row(PolicyChangedError, "the policy's signature is not valid", "get a new signature file"),
    0x4C4: Row(
        PolicyChangedError, "the policy's signature is by another key", "get the right signature file"
    ),
    PCR_CHANGED: Row(PolicyChangedError, "PCRs kept changing during the unlock", "try again"),
    0x12F: Row(
        TPMError,
        "the sealed data can be opened by its policy only",
        "name the policy's PCRs with --master-pcrs",
    ),
    0x08E: _PIN,
    NO_DICTIONARY_ATTACK: _PIN,
    LOCKOUT: Row(LockedOutError, "the TPM is locked out after wrong attempts", "use another slot meanwhile"),
    0x902: _FULL,
    0x903: _FULL,
    0x904: _FULL,
    0x910: _GONE,
    0x070018: _GONE,
    0x070007: _STUCK,
    0x1D5: Row(TPMError, "a TPM seals at most 128 octets"),
    **dict.fromkeys(BUSY, Row(TPMBusyError, "the TPM stays busy", "try again in a moment")),
}

_OWNER = Row(
    TPMError,
    "the TPM's owner hierarchy has a password, so no storage key can be made",
    "let the TPM's owner make one at 0x81000001 (tpm2_createprimary -C o, tpm2_evictcontrol)",
)

_PARENT = Row(
    OtherTPMError,
    "the TPM cannot use the storage key that it shows: it is another TPM, or the key's auth value is wrong",
    f"{_RECOVER}; for a trusted key give --keyauth-file",
)


_SIGNER = Row(TPMError, "the TPM does not take the policy's public key", "sign with RSA-2048 or ECDSA P-256")


def plain(code: int) -> int:
    """A code without the resource manager's mark."""
    return code & 0xFFFF if code >> 16 == RESOURCE_MANAGER else code


def base(code: int) -> int:
    """A code without the number of its parameter, handle or session."""
    return code & 0xBF if code < 0x1000 and code & 0x80 else code


def explain(code: int, command: str) -> TPMError:
    """The error for a code that a command (by its name in ESAPI) gave."""
    code = plain(code)
    if base(code) == NO_DICTIONARY_ATTACK and command in ("create_primary", "evict_control"):
        row = _OWNER
    elif base(code) in (0x08E, NO_DICTIONARY_ATTACK) and code not in ROWS and command in ("load", "import_"):
        row = _PARENT
    elif code >> 16 == _MARSHALLING:
        row = _BROKEN
    elif command == "load_external" and base(code) & 0x80:
        row = _SIGNER
    elif code in ROWS or base(code) in ROWS:
        row = ROWS.get(code) or ROWS[base(code)]
    else:
        row = Row(TPMError, f"the TPM refused {command}")
    return row.kind(row.message, row.hint, code)
