"""fusecrypt and the kernel's eCryptfs understand one another, in both directions and by turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from fusecrypt.sources import options
from fusecrypt.tree.tree import Tree
from tests import golden, manifest
from tests.kernel import in_guest, mixed, plan, rebuild, trees
from tests.kernel.guest import Guest
from tests.kernel.random_plan import Model
from tests.kernel.through_tree import TreeActor
from tests.kernel.variants import VARIANTS, Variant
from tests.mount.support import mounted
from tests.tree.support import manifest as tree_manifest
from tests.tree.support import open_tree

Entries = list[manifest.Entry]

MOUNTED = ("aes-16", "blowfish-56", "xattr-aes-32", "plain-names-twofish-32", "two-keys")
"""Variants that also go through a real FUSE mount."""

BY_TURNS = ("aes-32", "xattr-aes-32", "plain-names-twofish-32", "blowfish-56", "xattr-plain-names-cast5-16")
PART = 120  # operations until the other one goes on

every_variant = pytest.mark.parametrize("name", VARIANTS)


class Written(NamedTuple):
    """A mixed tree that the kernel has written, and what it shows of it."""

    lower: Path
    outcomes: list[str]
    shown: Entries


@pytest.fixture(autouse=True, scope="module")
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def operations() -> list[plan.Operation]:
    return mixed.mixed()


@pytest.fixture(scope="module")
def model(operations: list[plan.Operation], tmp_path_factory: pytest.TempPathFactory) -> Entries:
    """What a plain directory shows after the mixed plan."""
    root = tmp_path_factory.mktemp("model")
    assert set(plan.execute(plan.Directory(root), operations)) == {"ok"}
    return manifest.manifest(root)


@pytest.fixture(scope="module")
def kernel_written(
    guest: Guest, operations: list[plan.Operation], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Written]:
    """Mixed trees by variant, each written once."""
    made: dict[str, Written] = {}

    def write(name: str) -> Written:
        if name not in made:
            lower = tmp_path_factory.mktemp(name) / "lower"
            outcomes, shown = in_guest.work(guest, VARIANTS[name], lower, operations)
            made[name] = Written(lower, outcomes, shown)
        return made[name]

    return write


def differences(expected: Entries, actual: Entries, timed: set[str] | None = None) -> list[str]:
    """Compare with a model: times only of the paths in `timed`."""
    lines = manifest.diff(expected, actual, ignore=("mtime_ns",))
    for path in sorted(timed or ()):
        times = [
            {entry["mtime_ns"] for entry in entries if entry["path"] == path}
            for entries in (expected, actual)
        ]
        if times[0] != times[1]:
            lines.append(f"{path!r}: times are {times[1]}, expected {times[0]}")
    return lines


@contextmanager
def fuse(variant: Variant, lower: Path, new: bool = False) -> Iterator[Path]:
    """A real mount of a variant's tree, by its passphrases alone unless it is new."""
    words = ("-o", variant.new_options) if new else ()
    with mounted(lower, *words, passphrases=variant.passphrases) as mount:
        yield mount.path


@contextmanager
def without_fuse(variant: Variant, lower: Path, new: bool = False) -> Iterator[Tree]:
    """The same through fusecrypt.tree."""
    words = [variant.new_options] if new else []
    with open_tree(lower, variant.passphrases, options.parse(words).tree_options()) as tree:
        yield tree


@every_variant
def test_kernel_reads_what_fusecrypt_writes(
    guest: Guest, operations: list[plan.Operation], model: Entries, tmp_path: Path, name: str
) -> None:
    variant = VARIANTS[name]
    lower = tmp_path / "lower"
    lower.mkdir()
    if name in MOUNTED:
        with fuse(variant, lower, new=True) as upper:
            outcomes = plan.execute(plan.Directory(upper), operations)
    else:
        with without_fuse(variant, lower, new=True) as tree:
            outcomes = plan.execute(TreeActor(tree), operations)
    assert set(outcomes) == {"ok"}
    with without_fuse(variant, lower) as tree:
        ours = tree_manifest(tree)
        assert differences(model, ours, mixed.stamped(operations)) == []
        assert rebuild.differences(lower, tmp_path / "copy", tree.policy) == []
    golden.pack(lower, guest.share / f"{name}.tar")
    shown = trees.kernel_manifest(guest, f"{name}.tar", variant.options, variant.add_keys)
    assert manifest.diff(ours, shown) == []


@every_variant
def test_fusecrypt_reads_what_the_kernel_writes(
    kernel_written: Callable[[str], Written], model: Entries, name: str
) -> None:
    written = kernel_written(name)
    assert set(written.outcomes) == {"ok"}
    assert differences(model, written.shown) == []
    with without_fuse(VARIANTS[name], written.lower) as tree:
        assert manifest.diff(written.shown, tree_manifest(tree)) == []
    if name in MOUNTED:
        with fuse(VARIANTS[name], written.lower) as upper:
            assert manifest.diff(written.shown, manifest.manifest(upper)) == []


@every_variant
def test_same_key_and_marker_make_the_same_file_as_the_kernel(
    kernel_written: Callable[[str], Written], tmp_path: Path, name: str
) -> None:
    lower = kernel_written(name).lower
    with without_fuse(VARIANTS[name], lower) as tree:
        assert rebuild.differences(lower, tmp_path / "copy", tree.policy) == []


@pytest.mark.parametrize("name", [tree.name for tree in golden.passphrase_trees()])
def test_same_key_and_marker_make_the_same_file_as_in_a_golden_tree(tmp_path: Path, name: str) -> None:
    written = golden.tree(name)
    lower = written.unpack(tmp_path / "lower")
    wanted = options.parse([written.options]).tree_options()
    with open_tree(lower, written.passphrases, wanted, written.keys[0].salt) as tree:
        assert rebuild.differences(lower, tmp_path / "copy", tree.policy) == []


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", BY_TURNS)
def test_by_turns(guest: Guest, tmp_path: Path, name: str, seed: int) -> None:
    take_turns(guest, tmp_path, name, seed, parts=4)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3, 9))
@pytest.mark.parametrize("name", BY_TURNS)
def test_by_turns_for_long(guest: Guest, tmp_path: Path, name: str, seed: int) -> None:
    take_turns(guest, tmp_path, name, seed, parts=12)


def take_turns(guest: Guest, directory: Path, name: str, seed: int, parts: int) -> None:
    """A random plan, part by part by fusecrypt and the kernel; after each part both agree with a plain
    directory, and lower files are what plain writes make. The seed says who begins."""
    variant = VARIANTS[name]
    lower = directory / "lower"
    plain = directory / "plain"
    plain.mkdir()
    model = Model(plain, f"{name} {seed}")
    for part in range(parts):
        operations, expected = model.extend(PART)
        if (part + seed) % 2:
            with fuse(variant, lower, new=part == 0) as upper:
                outcomes = plan.execute(plan.Directory(upper), operations)
            with fuse(variant, lower) as upper:
                shown = manifest.manifest(upper)
        else:
            outcomes, shown = in_guest.work(guest, variant, lower, operations)
        wrong = [line for line in zip(operations, expected, outcomes, strict=True) if line[1] != line[2]]
        assert wrong == [], f"part {part}"
        assert differences(manifest.manifest(plain), shown) == [], f"part {part}"
        with without_fuse(variant, lower) as tree:
            assert rebuild.differences(lower, directory / "copy", tree.policy) == [], f"part {part}"
