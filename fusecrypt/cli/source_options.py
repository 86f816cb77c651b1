"""The options about keys that `mount` and `key create` share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.slot_options import slot_options
from fusecrypt.sources.given import Sources

_OPTIONS = (
    click.option("--passfile", multiple=True, metavar="FILE", help="Secret: FILE's first line; - is stdin."),
    click.option("--passphrase-fd", multiple=True, type=int, metavar="N", help="Secret from descriptor N."),
    click.option("--extpass", multiple=True, metavar="CMD", help="Secret: the first line CMD prints."),
    click.option("--salt", metavar="HEX", help="Salt of the content key, 16 hex digits."),
    click.option(
        "--wrapped-passphrase",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Wrapped passphrase of ecryptfs-utils or Synology; the secret is the login passphrase.",
    ),
    click.option("--keyring", is_flag=True, help="Take the keys from the kernel's keyrings."),
    click.option("--encrypted-key", multiple=True, metavar="[SIG=]FILE", help="What keyctl pipe prints."),
    click.option("--master", metavar="user:FILE|trusted:FILE", help="Master key of the encrypted keys."),
    click.option("--blobauth-file", metavar="FILE", help="Auth value of a trusted master."),
    click.option("--keyauth-file", metavar="FILE", help="Auth value of its parent."),
    click.option("--keyhandle", metavar="H", help="Handle of its parent, such as 0x81000001."),
    click.option("--master-pcrs", metavar="[BANK:]N+N", help="PCRs of its policy."),
    click.option("--raw-key", multiple=True, metavar="[SIG=]FILE", help="A key of 64 octets."),
)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a click command with all options about keys; it gets ``sources`` and ``slots``."""

    @functools.wraps(command)
    def collected(*arguments: Any, **named: Any) -> Any:
        given = {field.name: named.pop(field.name) for field in fields(Sources)}
        return command(*arguments, sources=Sources(**given), **named)

    decorated = slot_options(collected)
    for option in reversed(_OPTIONS):
        option(decorated)
    return decorated
