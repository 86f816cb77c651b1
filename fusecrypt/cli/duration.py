"""Times as people write them."""

from __future__ import annotations

import re

import click

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """For an option's callback: ``90``, ``90s``, ``10m`` (or ``min``), ``2h``, ``1d``, more than no time."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", value)
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise click.BadParameter(f"{value!r} is no time: write 90s, 10m or 2h", ctx, param)
    return float(found[1]) * _UNITS[found[2]]
