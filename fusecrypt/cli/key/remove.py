"""fusecrypt key remove: a slot goes."""

from __future__ import annotations

import click

from fusecrypt.cli.key.access import Access, target_option, unlocking
from fusecrypt.cli.terminal import say


@click.command(short_help="Remove a slot.")
@unlocking
@target_option
def remove(access: Access, number: int) -> None:
    """Remove a slot. The last one that needs no TPM stays.

    No version of the file that the slot's secret opens is left beside it. What that cannot do: copies made
    earlier still open with the secret and give the same keys.
    """
    opened = access.open()
    opened.save(opened.volume.remove(number), revokes=True)
    say(f"slot {number} was removed")
