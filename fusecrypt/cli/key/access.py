"""What every command on a key-slot file does: find it, unlock it, write it back, ask for new secrets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.slot_options import (
    last_attempt_option,
    pcr_signature_option,
    tcti_option,
)
from fusecrypt.cli.terminal import ask_secret, has_terminal, say
from fusecrypt.errors import SecretError
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.volume import Volume
from fusecrypt.native import Secret
from fusecrypt.sources import secrets as sources
from fusecrypt.sources import unlock
from fusecrypt.sources.given import SlotOptions

REVOCATION = (
    "copies of the file made before this (backups, snapshots) still open with the old secret and give the "
    "same keys: only a new tree with new keys ends that"
)
"""What no change of a key-slot file can do; said whenever a secret was revoked."""


@dataclass(frozen=True)
class Opened:
    """An unlocked key-slot file: where it is, what it was when it was read, and what it holds."""

    store: SlotStore
    file: SlotFile
    volume: Volume

    def save(
        self, volume: Volume, *, revokes: bool, while_in: AbstractContextManager[None] | None = None
    ) -> None:
        """Write a changed volume, that alone in a context. What revoking a secret does not do is said."""
        with while_in or nullcontext():
            self.store.save(volume, self.file, revokes=revokes)
        unlock.note(volume)
        if revokes:
            say(REVOCATION)


@dataclass(frozen=True)
class Access:
    """Which key-slot file, and what unlocks it."""

    keyslots: Path
    options: SlotOptions
    passfiles: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()

    @property
    def store(self) -> SlotStore:
        """The file, which the user named."""
        return SlotStore(self.keyslots)

    def secrets(self) -> list[Secret]:
        """The secrets that were given. Raises SecretError."""
        given = [sources.from_file(path) for path in self.passfiles]
        return given + [sources.from_descriptor(fd) for fd in self.descriptors]

    def open(self) -> Opened:
        """Unlock the file. With a secret the TPM is left alone, unless a PIN was given too."""
        store = self.store
        file = store.read()
        secrets = self.secrets()
        found = unlock.unlock(file, self.options, secrets, use_tpm=not secrets)
        assert found.volume is not None, "without signatures to match, only slots give keys"
        return Opened(store, file, found.volume)


_PASSFILE_HELP = "Unlock with a slot's passphrase or the recovery key: FILE's first line; - is stdin."
keyslots_argument = click.option(
    "--keyslots",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The key-slot file.",
)
_OPTIONS = (
    keyslots_argument,
    click.option("--unlock-passfile", multiple=True, metavar="FILE", help=_PASSFILE_HELP),
    click.option(
        "--unlock-fd", multiple=True, type=int, metavar="N", help="The same from an open descriptor."
    ),
    click.option(
        "--unlock-pin-file", metavar="FILE", help="Unlock with a TPM slot's PIN: FILE's first line."
    ),
    click.option(
        "--unlock-slot", type=click.IntRange(0, 0xFFFF), metavar="N", help="Unlock this slot alone."
    ),
    tcti_option,
    pcr_signature_option,
    last_attempt_option,
)


def unlocking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a click command with the options that unlock a file; it gets them as ``access``."""

    @functools.wraps(command)
    def collected(*arguments: Any, **named: Any) -> Any:
        options = SlotOptions(
            slot=named.pop("unlock_slot"),
            pin_file=named.pop("unlock_pin_file"),
            tcti=named.pop("tcti"),
            pcr_signature=named.pop("pcr_signature"),
            last_attempt=named.pop("last_attempt"),
        )
        access = Access(named.pop("keyslots"), options, named.pop("unlock_passfile"), named.pop("unlock_fd"))
        return command(*arguments, access=access, **named)

    for option in reversed(_OPTIONS):
        option(collected)
    return collected


target_option = click.option(
    "--slot", "number", type=click.IntRange(0, 0xFFFF), required=True, metavar="N", help="Which slot."
)
new_passfile_option = click.option(
    "--new-passfile", "--passfile", metavar="FILE", help="The new passphrase: FILE's first line."
)


def new_secret(path: str | None, what: str, option: str = "--new-passfile") -> Secret:
    """A new passphrase or PIN from the file that ``option`` names, or asked for twice. Raises SecretError."""
    if path is not None:
        return sources.from_file(path)
    if not has_terminal():
        raise SecretError(
            f"a new {what} is needed, and there is no terminal to ask on", f"give it with {option} FILE"
        )
    first = ask_secret(f"new {what}")
    with ask_secret(f"new {what} again") as second:
        if first != second:
            first.wipe()
            raise SecretError(f"the two {what}s differ", "try again")
    return first
