"""The kernel reads what daemons that were killed under load have left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import golden, manifest
from tests.kernel import trees
from tests.kernel.guest import Guest
from tests.kernel.variants import VARIANTS
from tests.reliability.cycles import Cycles
from tests.tree.support import manifest as tree_manifest
from tests.tree.support import open_tree


@pytest.mark.parametrize("name", ["aes-32", "xattr-aes-32"])
def test_the_kernel_reads_what_killed_daemons_left(guest: Guest, tmp_path: Path, name: str) -> None:
    variant = VARIANTS[name]
    lower = tmp_path / "lower"
    options = ("-o", variant.new_options) if variant.new_options else ()
    cycles = Cycles(lower, seed=1, options=options, passphrases=variant.passphrases)
    for _ in range(2):
        cycles.kill_once()
    # As the last kill left it: nothing of ours has looked at it since.
    golden.pack(lower, guest.share / f"killed-{name}.tar")
    shown = trees.kernel_manifest(guest, f"killed-{name}.tar", variant.options, variant.add_keys)
    assert sum(entry["type"] == "file" for entry in shown) > 0
    with open_tree(lower, variant.passphrases) as tree:
        assert manifest.diff(tree_manifest(tree), shown) == []
    cycles.judge_at_the_end()
    assert cycles.figures.wrong == []
