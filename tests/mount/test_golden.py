"""The trees that the kernel wrote, seen through a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import golden, manifest
from tests.mount.support import lower_state, mounted

DEFAULT_SALT = bytes.fromhex("0011223344556677")
TREES = [pytest.param(tree, id=tree.name) for tree in golden.passphrase_trees()]


def options(tree: golden.GoldenTree) -> list[str]:
    """What the trees that are out of the ordinary need beside their passphrases."""
    salt = next((key.salt for key in tree.keys if key.salt != DEFAULT_SALT), None)
    return ["--salt", salt.hex()] if salt else []


@pytest.mark.parametrize("tree", TREES)
def test_golden_tree(tree: golden.GoldenTree, tmp_path: Path) -> None:
    """Every tree shows what the kernel shows, with its passphrases alone and with the kernel's options,
    and reading changes nothing below, not even on a writable mount."""
    lower = tree.unpack(tmp_path / "lower")
    before = lower_state(lower)
    flags = ["-o", ",".join(tree.flags)] if tree.flags else []
    expected = tree.manifest()
    for words in (flags, ["-o", f"ro,{tree.options}"]):
        unreadable = [f" {each['path']} cannot be read" for each in expected if "error" in each]
        keys = tree.passphrases
        with mounted(lower, *options(tree), *words, passphrases=keys, log_allows=unreadable) as mount:
            assert manifest.diff(expected, manifest.manifest(mount.path)) == []
            assert (os.statvfs(mount.path).f_flag & os.ST_RDONLY != 0) == ("ro" in ",".join(words).split(","))
    assert manifest.diff(before, lower_state(lower)) == []
