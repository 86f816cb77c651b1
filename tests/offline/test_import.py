"""Importing into trees: what arrives is what was there, and what the kernel would have written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fusecrypt.errors import UsageError
from fusecrypt.offline.check import Checker
from fusecrypt.offline.rules import UnfinishedError
from fusecrypt.offline.target import WORK
from fusecrypt.tree import changes
from fusecrypt.tree.tree import Tree
from tests.golden import GoldenTree
from tests.manifest import diff
from tests.offline.copies import exported, imported, rules, told_of
from tests.tree.support import User, lower_header, lower_name, manifest, open_tree, opened, policy
from tests.tree.test_golden import every_tree, options_of, salt_of


@every_tree
def test_out_of_one_tree_and_into_another(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    options = replace(options_of(kernels), read_only=True)
    with open_tree(lower, kernels.passphrases, options, salt_of(kernels)) as tree:
        exported(tree, tmp_path / "plain", rules(keep_going=True))
        expected = [entry for entry in manifest(tree) if "error" not in entry]
    (tmp_path / "new").mkdir()
    with opened(tmp_path / "new", policy(names=kernels.fnek is not None)) as tree:
        told, tally = imported(tmp_path / "plain", tree, rules())
        assert told == []
        assert tally.objects == tally.all_objects
        assert diff(expected, manifest(tree)) == []
        assert {f.kind.value for f in Checker(tree.root_fd, tree.policy, 1).findings()} == {"good"}
        told, tally = imported(tmp_path / "plain", tree, rules())
        assert (told, tally.there) == ([], tally.objects)
        assert diff(expected, manifest(tree)) == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "one").write_bytes(b"1" * 5000)
    (source / "d" / "two").write_bytes(bytes(range(256)) * 3000)
    return source


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy()) as tree:
        yield tree


def test_what_is_too_long_is_named_before_anything_is_written(
    tree: Tree, source: Path, tmp_path: Path
) -> None:
    (source / "d" / ("n" * 144)).write_text("x")
    (source / ("m" * 200)).mkdir()
    (source / ("m" * 200) / "in it").write_text("x")
    (source / "link").symlink_to("t" * 4000)
    with pytest.raises(UnfinishedError, match="its name has 200 octets, at most 143 fit"):
        imported(source, tree, rules())
    assert User(tree).list() == []
    told, _ = imported(source, tree, rules(keep_going=True))
    assert told_of(told) == {
        f"d/{'n' * 144}": ("its name has 144 octets, at most 143 fit", 1),
        "m" * 200: ("its name has 200 octets, at most 143 fit; nothing in it was copied", 1),
        "link": ("its target has 4000 octets, at most 3007 fit", 1),
    }
    assert User(tree).list() == [b"d", b"one"]


def test_what_is_there_is_left_unless_told(tree: Tree, source: Path) -> None:
    imported(source, tree, rules())
    user = User(tree)
    user.write("one", 0, b"mine")
    told, tally = imported(source, tree, rules(keep_going=True))
    assert list(told_of(told)) == ["one"]
    assert tally.there == 1
    assert user.read("one", 0, 5) == b"mine1"
    imported(source, tree, rules(overwrite=True))
    assert user.read("one") == b"1" * 5000
    assert user.list() == [b"d", b"one"]


def test_what_a_killed_run_left_goes(tree: Tree, source: Path) -> None:
    user = User(tree)
    user.mkdir(os.fsdecode(WORK))
    user.create(f"{os.fsdecode(WORK)}/17", b"half")
    imported(source, tree, rules())
    assert user.list() == [b"d", b"one"]


def test_no_room_while_writing_leaves_no_half_file(
    tree: Tree, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = changes.rename

    def full(tree: Tree, *arguments: object) -> None:
        if b"two" in arguments:
            raise OSError(28, os.strerror(28))
        real(tree, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(changes, "rename", full)
    with pytest.raises(Exception, match="the target takes no more: No space left on device"):
        imported(source, tree, rules(keep_going=True))
    monkeypatch.undo()
    assert User(tree).list("d") == []
    imported(source, tree, rules())
    assert User(tree).list("d") == [b"two"]


def test_a_header_attribute_in_the_source_is_not_taken(tree: Tree, source: Path, tmp_path: Path) -> None:
    os.setxattr(source / "one", "user.ecryptfs", b"x")
    os.setxattr(source / "one", "user.other", b"y")
    imported(source, tree, rules())
    path = tmp_path / "lower" / lower_name(tree, "one")
    assert os.listxattr(path) == ["user.other"]
    assert lower_header(path).size == 5000


def test_one_in_the_other_is_refused(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "lower" / "inside").mkdir()
    for place in ("lower", "lower/inside", "."):
        with pytest.raises(UsageError):
            imported(tmp_path / place, tree, rules())
    (tmp_path / "lower" / "inside").rmdir()


def test_a_file_that_grows_meanwhile_is_whole(tree: Tree, source: Path) -> None:
    """What is read is what counts, not the size that was listed."""
    big = source / "big"
    big.write_bytes(b"b" * 100)
    grown = iter([b"c" * 300_000])
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/big"):
            for data in grown:
                with big.open("ab") as file:
                    file.write(data)
        return real(fd, buffers, offset, flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        imported(source, tree, rules())
    assert User(tree).read("big") == b"b" * 100 + b"c" * 300_000
