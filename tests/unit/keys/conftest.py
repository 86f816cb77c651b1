"""Vectors of the key formats: made by the kernel and by ecryptfs-utils, or accepted by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """The vectors by format."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())
    return loaded
