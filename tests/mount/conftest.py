"""Fixtures of the mount tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.support import Mount, mounted


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Mount]:
    """A new tree, mounted, with encrypted names."""
    with mounted(tmp_path / "lower") as mount:
        yield mount


@pytest.fixture
def up(tree: Mount) -> Path:
    """The mount point of a new tree."""
    return tree.path
