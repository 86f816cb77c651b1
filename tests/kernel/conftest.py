"""The guest for all kernel tests. What keeps it from running is an error, never a skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.guest import Guest


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    with Guest() as machine:
        yield machine
