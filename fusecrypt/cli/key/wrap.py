"""fusecrypt key wrap: ecryptfs-utils' wrapped-passphrase files, written and wrapped anew."""

from __future__ import annotations

from pathlib import Path

import click

from fusecrypt.cli.key.access import new_secret
from fusecrypt.cli.terminal import ask_secret, say
from fusecrypt.errors import UsageError
from fusecrypt.keys import homes
from fusecrypt.keys.wrapped import WrappedPassphrase, read_wrapped, write_wrapped
from fusecrypt.native import Secret
from fusecrypt.sources import secrets as sources


@click.command(short_help="Write or rewrap a wrapped passphrase of ecryptfs-utils.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--passfile", metavar="FILE", help="A new file's mount passphrase: FILE's first line.")
@click.option("--unlock-passfile", metavar="FILE", help="What opens a file that is there: FILE's first line.")
@click.option("--new-passfile", metavar="FILE", help="The new wrapping passphrase: FILE's first line.")
def wrap(file: Path, passfile: str | None, unlock_passfile: str | None, new_passfile: str | None) -> None:
    """Write a wrapped-passphrase FILE of ecryptfs-utils, or wrap the one that is there anew.

    A FILE that is there keeps its mount passphrase; only what unwraps it changes, as the login password does.
    A new one holds the mount passphrase of --passfile. It is version 2, mode 0600. What is not given is
    asked for.
    """
    again = file.exists()
    if again:
        if passfile is not None:
            raise UsageError(f"{file} is there already", "choose another name for another mount passphrase")
        passphrase = _unwrapped(file, unlock_passfile)
    else:
        passphrase = sources.from_file(passfile) if passfile else ask_secret("mount passphrase")
    with passphrase, new_secret(new_passfile, "wrapping passphrase") as wrapping:
        write_wrapped(file, WrappedPassphrase.wrap(passphrase, wrapping))
    copies = "; earlier copies open with the old one" if again else ""
    say(f"{file} holds the mount passphrase under the new one{copies}")


def _unwrapped(file: Path, unlock_passfile: str | None) -> Secret:
    wrapped = read_wrapped(file, homes.salt_of(homes.home_directory() / ".ecryptfsrc"))
    old = sources.from_file(unlock_passfile) if unlock_passfile else ask_secret("present wrapping passphrase")
    with old:
        return wrapped.unwrap(old)
