"""Express lanes for tests that have no mount."""

from __future__ import annotations

from fusecrypt.lane import Lane, Storage


def plain_lane() -> Lane:
    """That of a mount that writes, over a plain lower tree in memory."""
    return Lane(
        (),
        simple=True,
        read_only=False,
        quiet=False,
        owns_sizes=True,
        shared=False,
        storage=Storage.MEMORY,
        valid=1.0,
    )
