"""Looking into trees: golden ones whole, damaged ones as far as they go."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.errors import (
    DamagedError,
    KeyNotFoundError,
    NotEcryptfsError,
    UndecodableNameError,
    UsageError,
)
from fusecrypt.offline.health import State, examine
from fusecrypt.offline.show import PIECE, entries, facts, lower_path, node_at, pieces, upper_path
from fusecrypt.tree.resolve import Options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.golden import GoldenTree
from tests.tree.support import User, lower_name, lower_state, open_tree, opened, policy, token

every_tree = pytest.mark.parametrize("kernels", golden.passphrase_trees(), ids=lambda tree: tree.name)


@every_tree
def test_shows_what_the_kernel_shows(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    options = Options(read_only=True, passthrough="ecryptfs_passthrough" in kernels.flags)
    with open_tree(lower, kernels.passphrases, options, kernels.keys[0].salt) as tree:
        for entry in kernels.manifest():
            path = os.fsencode(entry["path"])
            found = facts(tree, path)
            assert os.path.lexists(lower / os.fsdecode(found.lower))
            assert found.lower == lower_path(tree, path)
            assert upper_path(tree, lower, lower / os.fsdecode(found.lower)) == path
            assert upper_path(tree, lower, Path(os.fsdecode(found.lower))) == path
            if "size" in entry:
                assert found.seen.size == entry["size"]
            if entry["type"] == "symlink":
                assert found.target == os.fsencode(entry["target"])
            if entry["type"] == "file":
                _same_contents(tree, path, entry)
    assert lower_state(lower) == before


def _same_contents(tree: Tree, path: bytes, entry: dict[str, object]) -> None:
    if "error" in entry:
        with pytest.raises(NotEcryptfsError):
            list(pieces(tree, path))
        assert facts(tree, path).health.state is State.FOREIGN  # type: ignore[union-attr]
        return
    digest = hashlib.sha256()
    for piece in pieces(tree, path):
        digest.update(piece)
    assert digest.hexdigest() == entry["sha256"]
    states = [State.GOOD, State.EMPTY, State.FOREIGN]  # a plain file under passthrough
    assert facts(tree, path).health.state in states  # type: ignore[union-attr]


def test_access_times_stay(tmp_path: Path) -> None:
    """Not those of symlinks: the system has no way to read one without a trace."""
    kernels = golden.tree("aes32")
    lower = kernels.unpack(tmp_path / "lower")
    control = tmp_path / "control"
    control.write_text("read as usual")
    everything = [lower, *(path for path in lower.rglob("*") if not path.is_symlink())]
    for path in (*everything, control):
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
    control.read_text()
    assert control.stat().st_atime_ns != 1, "this file system keeps no access times"
    with open_tree(lower, kernels.passphrases, Options(read_only=True)) as tree:
        for entry in kernels.manifest():
            upper = os.fsencode(entry["path"])
            facts(tree, upper)
            with node_at(tree, upper) as node:
                if node.is_directory:
                    entries(tree, node)
            if entry["type"] == "file":
                list(pieces(tree, upper))
    assert {path.stat().st_atime_ns for path in everything} == {1}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy()) as tree:
        yield tree


def lower_file(tree: Tree, tmp_path: Path, path: str) -> Path:
    return tmp_path / "lower" / lower_name(tree, path)


def test_entries_are_sorted_and_hidden_ones_counted(tree: Tree, tmp_path: Path) -> None:
    for name in ("b", "a", ".c"):
        User(tree).create(name)
    (tmp_path / "lower" / "plain").write_text("not of this tree")
    found, hidden = entries(tree, tree.root)
    assert [entry.name for entry in found] == [b".c", b"a", b"b"]
    assert hidden == 1


@pytest.mark.parametrize("size", [0, 1, 4096, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5000])
def test_pieces(tree: Tree, size: int) -> None:
    data = os.urandom(size)
    User(tree).create("file", data)
    assert b"".join(bytes(piece) for piece in pieces(tree, b"file")) == data


@pytest.mark.parametrize("whole", [0, 1, 5, 255, 256, 300])
def test_a_cut_file_gives_all_its_whole_extents_first(tree: Tree, tmp_path: Path, whole: int) -> None:
    data = os.urandom(PIECE + 300_000)
    User(tree).create("file", data)
    os.truncate(lower_file(tree, tmp_path, "file"), 8192 + whole * 4096 + 100)
    got = bytearray()
    with pytest.raises(DamagedError, match=f"{whole * 4096} of {len(data)} octets are there"):  # noqa: PT012
        for piece in pieces(tree, b"file"):
            got += piece
    assert got == data[: whole * 4096]


def test_health(tree: Tree, tmp_path: Path) -> None:
    user = User(tree)
    user.create("file", b"x" * 10_000)
    lower = lower_file(tree, tmp_path, "file")
    whole = lower.read_bytes()

    def state(data: bytes) -> State:
        lower.write_bytes(data)
        health = facts(tree, b"file").health
        assert health is not None
        return health.state

    assert state(whole) is State.GOOD
    assert state(b"") is State.EMPTY
    assert state(whole + bytes(4096)) is State.LONGER
    assert state(whole[:-1]) is State.CUT_IN_DATA
    assert state(whole[:8191]) is State.CUT_IN_HEADER
    assert state(whole[:200]) is State.CUT_IN_HEADER
    assert state(whole[:60]) is State.BAD_HEADER
    assert state(whole[:10]) is State.FOREIGN
    assert state(whole[:20] + bytes(6) + whole[26:]) is State.BAD_HEADER  # a region of no octets
    assert state(b"plain text, no header at all") is State.FOREIGN
    other = token(b"another passphrase").signature
    assert state(whole.replace(token().signature, other)) is State.UNKNOWN_KEY
    with pytest.raises(KeyNotFoundError, match=other.hex()):
        list(pieces(tree, b"file"))


def test_health_of_an_open_file(tree: Tree, tmp_path: Path) -> None:
    User(tree).create("file", b"x")
    with lower_file(tree, tmp_path, "file").open("rb") as file:
        health, found = examine(file.fileno(), tree.policy)
    assert str(health) == "good"
    assert found is not None
    assert found.header.size == 1


def test_paths_that_lead_nowhere(tree: Tree, tmp_path: Path) -> None:
    root = tmp_path / "lower"
    User(tree).create("file")
    User(tree).symlink(b"file", "link")
    (tmp_path / "outside").write_text("")
    (root / "plain").write_text("")
    for path in (b"none", b"file/none", b"link/none"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            lower_path(tree, path)
    with pytest.raises(OSError, match="not a file name"):
        lower_path(tree, b"../outside")
    with pytest.raises(UsageError, match="does not lie in"):
        upper_path(tree, root, tmp_path / "outside")
    with pytest.raises(UsageError, match="does not lie in"):
        upper_path(tree, root, root / ".." / "outside")
    with pytest.raises(UndecodableNameError):
        upper_path(tree, root, root / "plain")
    lower = lower_file(tree, tmp_path, "file")
    lower.unlink()
    with pytest.raises(FileNotFoundError):
        upper_path(tree, root, lower)
    assert upper_path(tree, root, lower_file(tree, tmp_path, "link")) == b"link"  # dangling now
