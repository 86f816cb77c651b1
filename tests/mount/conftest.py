"""Fixtures of the mount tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests import watch
from tests.mount.support import Mount, mounted

_number = count(1)


@pytest.fixture(scope="module")
def open_directory() -> Iterator[Path]:
    """A temporary directory that other users reach too."""
    with tempfile.TemporaryDirectory(prefix="fusecrypt-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        watch.MOUNT_ROOTS.append(path)
        yield path
        watch.unmount_below(path)


@pytest.fixture(scope="module")
def tree(open_directory: Path) -> Iterator[Mount]:
    """A new tree with encrypted names, mounted for everybody, shared by the tests of a module."""
    with mounted(open_directory / "lower", "-o", "allow_other,suid,dev") as mount:
        yield mount


@pytest.fixture
def up(tree: Mount) -> Path:
    """A new directory in a mounted tree."""
    path = tree.path / f"test{next(_number)}"
    path.mkdir()
    return path
