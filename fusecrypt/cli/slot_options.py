"""The options that `mount` and `key` share: which key-slot file and slot, what opens it, which TPM."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fusecrypt.keys.files import read_small
from fusecrypt.keys.tpm.policy import MAX_SIGNATURES

_APPROVALS = tuple(
    Path(directory) / "systemd" / "tpm2-pcr-signature.json" for directory in ("/etc", "/run", "/usr/lib")
)
"""Where systemd keeps the signed PCR policies of the running system."""


@dataclass(frozen=True)
class SlotOptions:
    """The options that `mount` and `key` share: which file and slot, what opens a TPM slot, which TPM."""

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


_FILE = click.Path(path_type=Path)
_TCTI_HELP = "The TPM, such as device:/dev/tpmrm0 or swtpm:path=SOCKET."
keyslots_option = click.option("--keyslots", type=_FILE, metavar="FILE", help="The key-slot file.")
slot_option = click.option("--slot", type=click.IntRange(0, 0xFFFF), metavar="N", help="Use this slot alone.")
pin_file_option = click.option("--pin-file", metavar="FILE", help="PIN of a TPM slot: FILE's first line.")
tcti_option = click.option("--tcti", metavar="TCTI", envvar="FUSECRYPT_TCTI", help=_TCTI_HELP)
pcr_signature_option = click.option(
    "--pcr-signature", type=_FILE, metavar="FILE", help="Signed PCR values (systemd's JSON)."
)
last_attempt_option = click.option(
    "--last-attempt", is_flag=True, help="Spend even the last PIN attempt before the TPM locks."
)
_SHARED = (
    keyslots_option,
    slot_option,
    pin_file_option,
    tcti_option,
    pcr_signature_option,
    last_attempt_option,
)


def slot_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a click command with the shared options; it gets them as one argument, ``slots``."""

    @functools.wraps(command)
    def collected(*arguments: Any, **named: Any) -> Any:
        shared = {name: named.pop(name) for name in SlotOptions.__dataclass_fields__}
        return command(*arguments, slots=SlotOptions(**shared), **named)

    for option in reversed(_SHARED):
        option(collected)
    return collected
