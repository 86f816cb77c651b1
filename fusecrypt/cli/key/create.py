"""fusecrypt key create: a key-slot file for an existing tree."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from fusecrypt.cli.key import recovery
from fusecrypt.cli.key.access import new_secret
from fusecrypt.cli.key.add import check_label, label_option
from fusecrypt.cli.key.trees import Keys, name_unproven, resolved, walked
from fusecrypt.cli.source_options import source_options
from fusecrypt.cli.terminal import ask_secret, has_terminal, say
from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys import locate
from fusecrypt.keys.raw import is_sig, parse_sig
from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryEnrolment
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.synology import is_export
from fusecrypt.keys.volume import REPLACE_FILE, Volume
from fusecrypt.keys.wrapped import read_wrapped
from fusecrypt.native import Secret
from fusecrypt.sources import secrets as inputs
from fusecrypt.sources.gather import gather
from fusecrypt.sources.given import SlotOptions, Sources
from fusecrypt.sources.options import MountOptions
from fusecrypt.sources.request import Request
from fusecrypt.sources.unlock import note

_FROM_KEYRING = "--from-keyring"


class _Create(click.Command):
    """--from-keyring takes the word after it only if that is a signature: it may well be LOWER."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for n, (word, following) in enumerate(itertools.pairwise(args)):
            if word == _FROM_KEYRING and not is_sig(following):
                args = [*args[:n], f"{_FROM_KEYRING}=", *args[n + 1 :]]
        return super().parse_args(ctx, args)


@click.command(cls=_Create, short_help="Make a key-slot file for a tree.")
@click.argument("lower", type=click.Path(path_type=Path))
@source_options
@click.option(
    _FROM_KEYRING,
    is_flag=False,
    flag_value="",
    metavar="[SIG]",
    help="Take the keys from the kernel's keyrings: all that the tree shows, or the one of SIG.",
)
@recovery.recovery_file_option
@recovery.qr_option
@label_option
def create(
    lower: Path,
    sources: Sources,
    slots: SlotOptions,
    from_keyring: str | None,
    recovery_file: Path | None,
    qr: bool,
    label: str | None,
) -> None:
    """Make a key-slot file for the existing tree LOWER, in which nothing changes.

    Without --keyslots it is LOWER.keyslots. It gets two slots: the secret that opened the tree's keys (its
    mount passphrase, or the login passphrase of a wrapped one), and a recovery key, given out once. Keys
    that have no passphrase (--from-keyring, --raw-key, --encrypted-key, a NAS's key file) get a slot for the
    first line of --passfile, or for a new passphrase that is asked for; without both only the recovery slot
    is made. A secret or key that does not fit the tree is refused.
    """
    store = _new_store(lower, slots.keyslots, recovery_file)
    recovery.check(recovery_file, qr)
    keyless = _without_passphrase(sources, from_keyring)
    with ExitStack() as stack:
        secrets = [stack.enter_context(secret) for secret in _secrets(sources, keyless)]
        descriptors = stack.enter_context(_again([] if keyless else secrets))
        sources = replace(sources, passfile=(), passphrase_fd=descriptors, extpass=())
        keys = _keys(lower, sources, slots, from_keyring)
        volume = Volume.create(keys)
        if not secrets and has_terminal():
            secrets = [stack.enter_context(new_secret(None, "slot passphrase"))]
        if secrets:
            volume = volume.add(PassphraseEnrolment(secrets[0]), check_label(label))
        else:
            say("no passphrase was given: the recovery key is the only way to these keys until key add")
    enrolment = RecoveryEnrolment()
    volume = volume.add(enrolment)
    with recovery.given_out(enrolment, recovery_file, qr, store, volume):
        store.create(volume)
    note(volume)
    _tell(store, volume)


def _new_store(lower: Path, path: Path | None, recovery_file: Path | None) -> SlotStore:
    """Where the file will be. Raises FileExistsError before any secret is asked for, UsageError."""
    if not lower.is_dir():
        lower.stat()
        raise UsageError(f"{lower} is no directory", "name the lower directory of a tree")
    if path is None:
        path = locate.beside(lower)
        if path is None:
            raise UsageError(f"there is no place beside {lower}", "name the key-slot file: --keyslots FILE")
    locate.check_outside(path, lower)
    if recovery_file is not None:
        locate.check_outside(recovery_file, lower)
    for new in filter(None, (path, recovery_file)):
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    return SlotStore(path)


def _without_passphrase(sources: Sources, from_keyring: str | None) -> bool:
    if sources.keyring or sources.raw_key or sources.encrypted_key or from_keyring is not None:
        return True
    wrapped = sources.wrapped_passphrase
    return wrapped is not None and is_export(read_wrapped(wrapped).encode())


def _secrets(sources: Sources, keyless: bool) -> list[Secret]:
    """The secrets that were given; one is asked for if the keys depend on it. Raises SecretError."""
    given = [inputs.from_file(path) for path in sources.passfile]
    given += [inputs.from_descriptor(fd) for fd in sources.passphrase_fd]
    given += [inputs.from_command(command) for command in sources.extpass]
    if given or keyless:
        return given
    return [ask_secret("mount passphrase" if sources.wrapped_passphrase is None else "login passphrase")]


@contextmanager
def _again(secrets: Sequence[Secret]) -> Iterator[list[int]]:
    """The secrets once more, each from a pipe: the slot needs what the keys are made from."""
    descriptors: list[int] = []
    try:
        for secret in secrets:
            reader, writer = os.pipe()
            descriptors.append(reader)
            os.writev(writer, [secret.view(), b"\n"])  # a line is shorter than any pipe
            os.close(writer)
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _keys(lower: Path, sources: Sources, slots: SlotOptions, from_keyring: str | None) -> Keys:
    """The keys that the tree has a use for, all proven or named by what was given."""
    options = MountOptions(signatures=[parse_sig(from_keyring)] if from_keyring else [])
    sources = replace(sources, keyring=sources.keyring or from_keyring is not None)
    with walked(lower) as walk:
        request = Request(sources, replace(slots, keyslots=None), options, lower, walk)
        gathered = gather(request)
        if gathered.read_only:
            raise SecretError(
                "keys of a key-slot file that was tampered with are not taken over", REPLACE_FILE
            )
        keys = resolved(walk, gathered.candidates)[1]
        name_unproven(keys, walk)
    return keys


def _tell(store: SlotStore, volume: Volume) -> None:
    slots = ", ".join(f"{slot.id} ({slot.type})" for slot in volume.file.slots)
    say(f"{store.path} was made with the slots {slots}")
    for key in volume.file.keys:
        say(f"it holds the key {key.sig.hex()}: {', '.join(key.use)}")
