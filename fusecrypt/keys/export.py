"""Existing keys in the kernel's own form: a ``trusted`` master in the TPM, ``encrypted`` keys under it.

The master is random and used for nothing else; the volume key of a key-slot file never goes into the
kernel's form, for a blob of it would undo the split PIN of another slot.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.errors import UsageError
from fusecrypt.keys.crypto import random_secret
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.token import AuthToken
from fusecrypt.keys.tpm.kernel import seal_master
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.trusted import TPMKey
from fusecrypt.native import Secret

MASTER_BYTES = 32
DEFAULT_NAME = "fusecrypt-master"

GIVES_UP = (
    "the kernel's form has no signed policy and no PCRs: the TPM opens it in every boot state",
    "its auth value is not split: a broken TPM gives the keys without a guess at it",
    "it has no recovery slot: keep the key-slot file or the passphrase",
)
"""What the kernel's form lacks, to be said before it is written."""


@dataclass(frozen=True)
class KernelKeys:
    """A trusted master's blob and the encrypted keys under it, by signature."""

    name: str
    trusted: TPMKey
    keys: tuple[tuple[bytes, EncryptedBlob], ...]

    def files(self) -> dict[str, bytes]:
        """File names and their octets: what ``keyctl pipe`` would print for each key."""
        blobs = {f"{sig.hex()}.encrypted": blob.text().encode() for sig, blob in self.keys}
        return {f"{self.name}.trusted": self.trusted.encode().hex().encode(), **blobs}

    def commands(self, directory: Path, auth_file: Path | None = None) -> list[str]:
        """Shell lines that load the keys into the user keyring.

        Payloads go through standard input, so none is in any program's arguments; ``auth_file`` holds
        the auth value as 40 hex digits without a newline. ``@u`` is linked into the session, as a
        mount needs it.
        """
        trusted = shlex.quote(str(directory / f"{self.name}.trusted"))
        auth = "" if auth_file is None else f"; printf ' blobauth='; cat {shlex.quote(str(auth_file))}"
        lines = ["keyctl link @u @s"]
        lines.append(f"{{ printf 'load '; cat {trusted}{auth}; }} | keyctl padd trusted {self.name} @u")
        for sig, _ in self.keys:
            path = shlex.quote(str(directory / f"{sig.hex()}.encrypted"))
            lines.append(f"{{ printf 'load '; cat {path}; }} | keyctl padd encrypted {sig.hex()} @u")
        return lines

    def tss2(self) -> str:
        """The master's blob as other TPM tools read it (PEM, TSS2 PRIVATE KEY)."""
        return self.trusted.pem()


def export_kernel(
    tpm: TPM, tokens: Iterable[AuthToken], *, name: str = DEFAULT_NAME, blobauth: Secret | None = None
) -> KernelKeys:
    """Seal a fresh master and encrypt the keys under it; ``blobauth`` has 20 octets.

    What was sealed is unsealed again and compared. Raises TPMError, UsageError for a name that a shell
    or the kernel would read otherwise.
    """
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name, re.ASCII):
        raise UsageError(f"{name!r} cannot name a key", "use letters, digits, dots and hyphens")
    with random_secret(MASTER_BYTES) as master:
        trusted = seal_master(tpm, master, blobauth)
        unique = {token.signature: token for token in tokens}
        keys = tuple(
            (sig, EncryptedBlob.seal(token.key, master, f"trusted:{name}")) for sig, token in unique.items()
        )
    return KernelKeys(name, trusted, keys)
