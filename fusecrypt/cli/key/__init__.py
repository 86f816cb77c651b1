"""The commands ``fusecrypt key …``, one module each."""

from __future__ import annotations

import click

from fusecrypt.cli.lazy import LazyGroup
from fusecrypt.native import harden_process

_COMMANDS = {
    "create": "fusecrypt.cli.key.create:create",
    "add": "fusecrypt.cli.key.add:add",
    "change": "fusecrypt.cli.key.change:change",
    "remove": "fusecrypt.cli.key.remove:remove",
    "list": "fusecrypt.cli.key.list:list_",
    "test": "fusecrypt.cli.key.test:test",
    "reseal": "fusecrypt.cli.key.reseal:reseal",
    "rotate": "fusecrypt.cli.key.rotate:rotate",
    "lockout": "fusecrypt.cli.key.lockout:lockout",
    "import": "fusecrypt.cli.key.import_:import_",
    "export": "fusecrypt.cli.key.export:export",
    "load": "fusecrypt.cli.key.load:load",
    "wrap": "fusecrypt.cli.key.wrap:wrap",
}


@click.group(
    cls=LazyGroup,
    places={"Commands": _COMMANDS},
    short_help="Keep keys in slots: passphrases, recovery keys, TPMs.",
)
def key() -> None:
    """Keep the keys of a tree in slots: passphrases, recovery keys, TPMs.

    \b
    fusecrypt key create LOWER --keyslots F --passfile P     slots for an existing tree
    fusecrypt key add tpm2 --keyslots F --unlock-passfile P  one more, opened by this TPM
    fusecrypt key list --keyslots F                          what there is

    Nothing in the tree changes. Secrets come from files, descriptors or prompts, never from arguments.
    """
    harden_process()
