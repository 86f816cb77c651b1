"""What shells complete beyond words and paths."""

from __future__ import annotations

import click

from fusecrypt.mount.mounts import FSTYPE, mount_table


def mount_points(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For an argument's ``shell_complete``: our mounts."""
    return [m.path for m in mount_table() if m.fstype == FSTYPE and m.path.startswith(incomplete)]
