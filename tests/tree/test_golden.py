"""Trees that the kernel wrote, read with nothing but their passphrases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusecrypt.sources.options import parse
from fusecrypt.tree.resolve import Options
from tests import golden
from tests.golden import GoldenTree
from tests.manifest import diff
from tests.tree.support import lower_state, manifest, open_tree

every_tree = pytest.mark.parametrize("kernels", golden.passphrase_trees(), ids=lambda tree: tree.name)


def salt_of(tree: GoldenTree) -> bytes:
    return tree.keys[0].salt


def options_of(tree: GoldenTree) -> Options:
    """What only an option can say: that plain files are to be shown."""
    return Options(passthrough="ecryptfs_passthrough" in tree.flags)


@every_tree
def test_reads_with_only_the_passphrases(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    with open_tree(lower, kernels.passphrases, options_of(kernels), salt_of(kernels)) as tree:
        assert diff(kernels.manifest(), manifest(tree)) == []
        assert {token.sig for token in tree.policy.content} == {key.signature for key in kernels.keys}
        assert (tree.policy.names is None) == (kernels.fnek is None)
        assert tree.policy.xattr_metadata == ("ecryptfs_xattr_metadata" in kernels.flags)
    assert lower_state(lower) == before


@every_tree
def test_reads_with_the_kernels_option_string(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    options = parse([kernels.options]).tree_options()
    with open_tree(lower, kernels.passphrases, options, salt_of(kernels)) as tree:
        assert diff(kernels.manifest(), manifest(tree)) == []
        assert tuple(token.sig for token in tree.policy.content) == tuple(k.signature for k in kernels.keys)


@pytest.mark.parametrize("name", ["fnek-lengths", "fn-cipher-differs", "des3_ede24"])
def test_names_are_the_kernels_octet_for_octet(name: str, tmp_path: Path) -> None:
    kernels = next(tree for tree in golden.passphrase_trees() if tree.name == name)
    lower = kernels.unpack(tmp_path / "lower")
    with open_tree(lower, kernels.passphrases, options_of(kernels), salt_of(kernels)) as tree:
        uppers = set()
        for path in map(os.fsencode, lower.rglob("*")):
            upper = tree.codec.decode(os.path.basename(path))
            assert upper is not None
            assert tree.codec.encode(upper) == os.path.basename(path)
            uppers.add(upper)
            if os.path.islink(path):
                target = os.readlink(path)
                assert tree.codec.encode_target(tree.codec.decode_target(target)) == target
    if name == "fnek-lengths":
        assert {len(upper) for upper in uppers} >= set(range(1, 144))


def test_there_are_trees() -> None:
    assert len(golden.passphrase_trees()) >= 35
