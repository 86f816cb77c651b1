"""Extent arithmetic: where upper octets lie in the lower file."""

from __future__ import annotations

EXTENT = 4096
"""Octets of an extent, the unit of content encryption."""


def round_up(size: int) -> int:
    """``size`` in whole extents, in octets."""
    return -(-size // EXTENT) * EXTENT


def lower_size(size: int, data_offset: int) -> int:
    """How long the kernel makes a lower file whose upper file has ``size`` octets."""
    return data_offset + round_up(size)


def upper_capacity(lower: int, data_offset: int) -> int:
    """Upper octets that the whole extents of a lower file of ``lower`` octets can hold."""
    return max(0, lower - data_offset) // EXTENT * EXTENT
