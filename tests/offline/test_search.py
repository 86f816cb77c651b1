"""Which directories are trees, and what lies about."""

from __future__ import annotations

import os
from pathlib import Path

from fusecrypt.offline.search import search
from tests import golden
from tests.offline.support import alice, made_tree, nas_share, whole_home
from tests.tree.support import lower_state, token


def test_homes_and_shares_below_one_directory(tmp_path: Path) -> None:
    trees = [alice(tmp_path / "a" / "home"), whole_home(tmp_path / "b"), nas_share(tmp_path / "volume1")]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "wrapped-passphrase").write_text("not by name alone")
    before = lower_state(tmp_path)
    found = search(tmp_path)
    assert found.trees == trees
    names = {path.name for path in found.material}
    assert names == {"wrapped-passphrase", "Private.sig", "photos.key"}
    assert found.links == [(tmp_path / "b/home/alice/.Private", Path("/home/.ecryptfs/alice/.Private"))]
    assert found.unreadable == []
    assert lower_state(tmp_path) == before


def test_the_directory_itself_and_its_parents(tmp_path: Path) -> None:
    lower = golden.tree("aes32").unpack(tmp_path / "x" / "lower")
    for directory in (lower, lower.parent, tmp_path):
        assert search(directory).trees == [lower]


def test_plain_names_begin_where_files_of_one_key_meet(tmp_path: Path) -> None:
    for xattr in (False, True):
        top = tmp_path / str(xattr)
        lower = made_tree(top / "share", "docs/a", "music/b", names=False, xattr=xattr)
        assert search(top).trees == [lower]
        (lower / "docs" / "plain").write_text("passed through")
        assert search(top).trees == [lower / "docs", lower / "music"]
        made_tree(top / "x", "top", "docs/c", names=False, xattr=xattr)
        (top / "x" / "docs" / "plain").write_text("passed through")
        assert top / "x" in search(top).trees
        assert top / "x" / "docs" not in search(top).trees


def test_trees_of_other_keys_stay_apart(tmp_path: Path) -> None:
    first = made_tree(tmp_path / "a", "x", names=False)
    second = made_tree(tmp_path / "b", "x", names=False)
    assert search(tmp_path).trees == [tmp_path]
    file = second / "x"
    file.write_bytes(file.read_bytes().replace(token().signature, bytes(8)))
    assert search(tmp_path).trees == [first, second]


def test_a_tree_may_hold_files_that_are_named_like_other_kinds(tmp_path: Path) -> None:
    lower = made_tree(tmp_path / "lower", "cryfs.config", "docs/.encfs6.xml", names=False)
    found = search(tmp_path)
    assert (found.trees, found.others) == ([lower], [])


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("plain")
    (tmp_path / "sub" / "ECRYPTFS_FNEK_ENCRYPTED.nothing").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert search(tmp_path).trees == []


def test_very_deep(tmp_path: Path) -> None:
    """It ends, and says what it did not look at."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert len(search(tmp_path).unreadable) == 1
