"""fusecrypt key load: the keys of a slot file into the kernel's keyring."""

from __future__ import annotations

from contextlib import suppress

import click

from fusecrypt.cli.key.access import Access, unlocking
from fusecrypt.errors import SecretError
from fusecrypt.keys import keyctl
from fusecrypt.keys.keyring import add_token, remove_token
from fusecrypt.keys.volume import REPLACE_FILE

_KEYRINGS = {"user": keyctl.USER, "session": keyctl.SESSION}


@click.command(short_help="Put the keys into the kernel's keyring, or take them out.")
@unlocking
@click.option("--keyring", type=click.Choice(list(_KEYRINGS)), default="user", help="Into which keyring.")
@click.option("--unload", is_flag=True, help="Take the keys out again; nothing needs to be unlocked.")
def load(access: Access, keyring: str, unload: bool) -> None:
    """Put the keys into the kernel's keyring, as ecryptfs-add-passphrase does, and print their signatures.

    The kernel's own eCryptfs, mount.ecryptfs and fusecrypt mount --keyring find them there.
    """
    target = _KEYRINGS[keyring]
    if unload:
        for key in access.store.read().keys:
            if remove_token(key.sig, target):
                click.echo(key.sig.hex())
        return
    opened = access.open()
    if not opened.volume.intact:
        raise SecretError("keys of a file that was tampered with are not given to the kernel", REPLACE_FILE)
    for held in opened.volume.tokens():
        add_token(held.token, target)
        click.echo(held.token.sig)
    if target == keyctl.USER:
        # A mount searches the session keyring only; it may be linked already.
        with suppress(OSError):
            keyctl.link(keyctl.USER, keyctl.SESSION)
