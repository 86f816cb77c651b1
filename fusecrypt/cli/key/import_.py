"""fusecrypt key import: more keys of a tree into its key-slot file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import click

from fusecrypt.cli.key.access import Access
from fusecrypt.cli.key.trees import beside, each_alone, name_unproven, resolved, walked
from fusecrypt.cli.source_options import source_options
from fusecrypt.cli.terminal import say
from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys.token import AuthToken
from fusecrypt.keys.volume import REPLACE_FILE
from fusecrypt.sources.gather import gather
from fusecrypt.sources.given import SlotOptions, Sources
from fusecrypt.sources.options import MountOptions
from fusecrypt.sources.request import Request
from fusecrypt.tree.resolve import Candidates


@click.command("import", short_help="Take further keys of the tree into the file.")
@click.argument("lower", type=click.Path(path_type=Path), required=False)
@source_options
@click.option("--unlock-passfile", multiple=True, metavar="FILE", help="Unlock with this secret.")
@click.option("--unlock-fd", multiple=True, type=int, metavar="N", help="The same from an open descriptor.")
def import_(
    lower: Path | None,
    sources: Sources,
    slots: SlotOptions,
    unlock_passfile: Sequence[str],
    unlock_fd: Sequence[int],
) -> None:
    """Take further keys of a tree into its key-slot file.

    They come from a wrapped passphrase, a mount passphrase (--passfile), raw keys, the kernel's keyring, or
    the kernel's encrypted keys with their master. LOWER is the tree, by default the one that the file stands
    beside; a key that it has no use for is refused. --unlock-passfile, --slot and --pin-file unlock the file.
    """
    if slots.keyslots is None:
        raise UsageError("into which key-slot file?", "name it: --keyslots FILE")
    if not any(getattr(sources, field.name) for field in fields(sources)):
        raise UsageError("no key was given", "such as --raw-key SIG=FILE; see --help")
    lower = beside(slots.keyslots, lower)
    opened = Access(slots.keyslots, slots, tuple(unlock_passfile), tuple(unlock_fd)).open()
    held = {key.token.signature: key.token for key in opened.volume.tokens()}
    with walked(lower) as walk:
        options = SlotOptions(tcti=slots.tcti)
        gathered = gather(Request(sources, options, MountOptions(), lower, walk))
        if gathered.read_only:
            raise SecretError(
                "keys of a key-slot file that was tampered with are not taken over", REPLACE_FILE
            )
        _check_same(held, gathered.candidates)
        _, keys = resolved(walk, [*each_alone(held.values()), *gathered.candidates])
        name_unproven([(token, uses) for token, uses in keys if token.signature not in held], walk)
    volume = opened.volume
    for token, uses in keys:
        if token.signature not in held:
            volume = volume.with_key(token, uses)
            say(f"key {token.sig}: {', '.join(uses)}")
    if volume is opened.volume:
        say("the file holds these keys already")
    else:
        opened.save(volume, revokes=False)


def _check_same(held: Mapping[bytes, AuthToken], candidates: Iterable[Candidates]) -> None:
    """Raise SecretError for another key under the signature of one that the file holds."""
    for token in (token for candidate in candidates for token in candidate.tokens):
        known = held.get(token.signature)
        if known is not None and known.key != token.key:
            raise SecretError(
                f"the file holds another key as {token.sig}",
                "one of the two is wrong: read a file with each; fusecrypt key create makes a new file",
            )
