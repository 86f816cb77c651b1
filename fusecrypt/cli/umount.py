"""fusecrypt umount: take a mount down."""

from __future__ import annotations

import click

from fusecrypt.mount.unmount import unmount


@click.command()
@click.argument("mountpoint")
@click.option("-l", "--lazy", is_flag=True, help="Detach now, even if it is busy; open files go on.")
def umount(mountpoint: str, lazy: bool) -> None:
    """Unmount MOUNTPOINT, after everything was written to the lower directory."""
    unmount(mountpoint, lazy)
