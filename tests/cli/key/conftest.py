"""Fixtures of the tests of ``fusecrypt key``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import golden
from tests.cli.key.support import Bench
from tests.tpm.conftest import make_tpm, swtpm

__all__ = ["bench", "made", "make_tpm", "swtpm"]

TREE = "aes16-fnek"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty directory, a wrong secret, and the mount passphrase of the tree that `made` has."""
    bench = Bench(tmp_path)
    bench.secret("P", golden.tree(TREE).passphrases[0])
    bench.secret("WRONG", b"quite another secret")
    return bench


@pytest.fixture(scope="session")
def _first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a key-slot file F, made once: unpacking and argon2id take time."""
    directory = tmp_path_factory.mktemp("made")
    golden.tree(TREE).unpack(directory / "lower")
    bench = Bench(directory)
    bench.secret("P", golden.tree(TREE).passphrases[0])
    bench.run("create", "lower", "--keyslots", "F", "--passfile", "P", "--recovery-file", "R")
    return directory


@pytest.fixture
def made(bench: Bench, _first: Path) -> Bench:
    """A tree ``lower``, its key-slot file F with a passphrase slot (P) and a recovery slot (R)."""
    for name in ("F", "R"):
        shutil.copy2(_first / name, bench.path(name))
    bench.path("lower").symlink_to(_first / "lower")
    bench.recovery("R")
    return bench
