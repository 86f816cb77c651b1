"""What options say about keys, as it was given: where keys come from, and what opens a key-slot file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.keys.files import read_small
from fusecrypt.keys.tpm.policy import MAX_SIGNATURES
from fusecrypt.sources.options import MountOptions

_APPROVALS = tuple(
    Path(directory) / "systemd" / "tpm2-pcr-signature.json" for directory in ("/etc", "/run", "/usr/lib")
)
"""Where systemd keeps the signed PCR policies of the running system."""


@dataclass(frozen=True)
class Sources:
    """The options that say where keys come from."""

    passfile: Sequence[str] = ()
    passphrase_fd: Sequence[int] = ()
    extpass: Sequence[str] = ()
    salt: str | None = None
    wrapped_passphrase: Path | None = None
    keyring: bool = False
    encrypted_key: Sequence[str] = ()
    master: str | None = None
    blobauth_file: str | None = None
    keyauth_file: str | None = None
    keyhandle: str | None = None
    master_pcrs: str | None = None
    raw_key: Sequence[str] = ()


@dataclass(frozen=True)
class SlotOptions:
    """Which key-slot file and slot, what opens a TPM slot, which TPM."""

    keyslots: Path | None = None
    slot: int | None = None
    pin_file: str | None = None
    tcti: str | None = None
    pcr_signature: Path | None = None
    last_attempt: bool = False

    def approvals(self) -> bytes:
        """The signature file that was named, or the running system's; empty if there is none."""
        if self.pcr_signature is not None:
            return read_small(self.pcr_signature, MAX_SIGNATURES)
        for path in _APPROVALS:
            with suppress(OSError):
                return read_small(path, MAX_SIGNATURES)
        return b""


@dataclass(frozen=True)
class KeyOptions:
    """All that options say about keys and about how a tree is read."""

    options: MountOptions
    sources: Sources
    slots: SlotOptions
