"""fusecrypt umount: take a mount down."""

from __future__ import annotations

import click

from fusecrypt.cli.completion import mount_points
from fusecrypt.mount.unmount import unmount


@click.command(short_help="Take a mount down, with everything written.")
@click.argument("mountpoint", shell_complete=mount_points)
@click.option("-l", "--lazy", is_flag=True, help="Detach now, even if it is busy; open files go on.")
def umount(mountpoint: str, lazy: bool) -> None:
    """Unmount MOUNTPOINT, after everything was written to the lower directory."""
    unmount(mountpoint, lazy)
