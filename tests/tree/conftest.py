"""Fresh lower directories and trees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.tree.policy import Policy
from tests.tree.support import User, opened, policy


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    path = tmp_path / "lower"
    path.mkdir()
    return path


MODES = {
    "header": policy(),
    "xattr": policy(xattr_metadata=True),
    "plain names": policy("aes", 32, names=False),
    "blowfish": policy("blowfish", 24),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Policy:
    """Each way of keeping metadata and names, and both block sizes."""
    return MODES[request.param]


@pytest.fixture
def user(lower: Path, mode: Policy) -> Iterator[User]:
    """An empty tree in each mode."""
    with opened(lower, mode) as tree:
        yield User(tree)


@pytest.fixture
def plain(lower: Path) -> Iterator[User]:
    """An empty tree with plain names: upper names are lower names."""
    with opened(lower, MODES["plain names"]) as tree:
        yield User(tree)
