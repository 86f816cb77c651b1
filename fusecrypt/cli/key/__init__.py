"""The commands ``fusecrypt key …``, one module each."""

from __future__ import annotations

import click

from fusecrypt.cli.key.add import add
from fusecrypt.cli.key.change import change
from fusecrypt.cli.key.create import create
from fusecrypt.cli.key.export import export
from fusecrypt.cli.key.import_ import import_
from fusecrypt.cli.key.list import list_
from fusecrypt.cli.key.load import load
from fusecrypt.cli.key.lockout import lockout
from fusecrypt.cli.key.remove import remove
from fusecrypt.cli.key.reseal import reseal
from fusecrypt.cli.key.rotate import rotate
from fusecrypt.cli.key.test import test
from fusecrypt.native import harden_process


@click.group()
def key() -> None:
    """Keep the keys of a tree in slots: passphrases, recovery keys, TPMs.

    \b
    fusecrypt key create LOWER --keyslots F --passfile P     slots for an existing tree
    fusecrypt key add tpm2 --keyslots F --unlock-passfile P  one more, opened by this TPM
    fusecrypt key list --keyslots F                          what there is

    Nothing in the tree changes. Secrets come from files, descriptors or prompts, never from arguments.
    """
    harden_process()


for command in (create, add, change, export, import_, list_, load, lockout, remove, reseal, rotate, test):
    key.add_command(command)
