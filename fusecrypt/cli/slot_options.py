"""The options that `mount` and `key` share: which key-slot file and slot, what opens it, which TPM."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fusecrypt.sources.given import SlotOptions

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
