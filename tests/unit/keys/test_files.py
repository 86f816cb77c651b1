"""Replacing small files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fusecrypt.keys.files import replace_file, replacing


def test_a_file_is_replaced_and_its_neighbours_stay(tmp_path: Path) -> None:
    path, neighbour = tmp_path / "file", tmp_path / "file.tmp"
    path.write_bytes(b"before")
    os.chown(path, 1234, 1234)
    neighbour.write_bytes(b"not ours")
    replace_file(path, b"after")
    st = path.stat()
    assert (path.read_bytes(), st.st_uid, stat.S_IMODE(st.st_mode)) == (b"after", 1234, 0o600)
    assert neighbour.read_bytes() == b"not ours"
    assert sorted(os.listdir(tmp_path)) == ["file", "file.tmp"]


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def write() -> None:
        with replacing(path) as file:
            file.write(b"half of")
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        write()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]
