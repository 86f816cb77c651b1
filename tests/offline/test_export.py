"""Exporting trees: what arrives, what is told, what is never done."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests import golden
from tests.golden import GoldenTree
from tests.manifest import diff, manifest
from tests.offline.copies import exported, readable, rules, told_of
from tests.tree.support import lower_state, open_tree
from tests.tree.test_golden import every_tree, options_of, salt_of


@every_tree
def test_golden_trees_arrive_as_the_kernel_shows_them(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    options = replace(options_of(kernels), read_only=True)
    expected = kernels.manifest()
    with open_tree(lower, kernels.passphrases, options, salt_of(kernels)) as tree:
        told, tally = exported(tree, tmp_path / "out", rules(keep_going=True))
        assert diff(readable(expected), manifest(tmp_path / "out")) == []
        failed = {entry["path"] for entry in expected if "error" in entry}
        if tree.policy.names is not None:  # the kernel does not show plain names then
            failed |= {name for name in os.listdir(lower) if not name.startswith("ECRYPTFS_FNEK_ENCRYPTED.")}
        assert {path for path, (_, status) in told_of(told).items() if status} == failed
        assert tally.objects == tally.all_objects - len(failed & {entry["path"] for entry in expected})
        again, second = exported(tree, tmp_path / "out", rules(keep_going=True))
        assert second.there == second.objects
        assert again == told
    assert diff(readable(expected), manifest(tmp_path / "out")) == []
    assert lower_state(lower) == before
