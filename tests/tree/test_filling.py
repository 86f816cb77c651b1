"""What the files of a tree tell of a content key: which one opens them, and when they cannot tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusecrypt.keys.token import AuthToken
from fusecrypt.tree import filling
from fusecrypt.tree.place import LocalEntry, LocalPlace
from tests.tree.support import User, token

ANOTHER = AuthToken(token().signature, token(b"another").key)


def told(lower: Path) -> tuple[bool | None, bool | None]:
    """What the files say of the right key, and of another one."""
    fd = os.open(lower, os.O_RDONLY)
    try:
        right, wrong = (filling.opens_files(LocalPlace(fd), each) for each in (token(), ANOTHER))
    finally:
        os.close(fd)
    return right, wrong


def test_an_end_within_an_extent_tells(user: User, lower: Path) -> None:
    assert told(lower) == (True, True)  # nothing is there that another one could not open
    user.create("whole", bytes(4096))
    assert told(lower) == (None, None)
    user.create("file", b"text")
    assert told(lower) == (True, False)


def test_one_file_that_opens_is_proof(plain: User, lower: Path) -> None:
    """However many are damaged, the key is right, and what is left can be saved with it."""
    for number in range(4):
        plain.create(f"{number}", b"text")
    for path in [*lower.iterdir()][:3]:
        with path.open("r+b") as file:
            file.seek(8192 + 2048)
            file.write(b"damage")
    assert told(lower) == (True, False)


def test_many_files_without_contents_prove_nothing(
    plain: User, lower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond those that are looked at there may be others."""
    monkeypatch.setattr(filling, "_FILES", 4)
    plain.mkdir("d")
    plain.create("d/file", b"text")
    for number in range(3):
        (lower / f"{number}").touch()
    assert told(lower) == (True, False)
    (lower / "3").touch()
    assert told(lower) == (None, None)


def test_what_cannot_be_read_proves_nothing(
    plain: User, lower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it hide the files that are listed after it."""
    plain.create("file", b"text")
    opened = LocalEntry.open

    def refused(entry: LocalEntry) -> int:
        if entry.name == b"file":
            raise PermissionError
        return opened(entry)

    with monkeypatch.context() as patch:
        patch.setattr(LocalEntry, "open", refused)
        assert told(lower) == (None, None)
        for number in range(3):
            plain.create(f"{number}", b"text")
        assert told(lower) == (True, False)
    for path in lower.iterdir():
        os.truncate(path, 8192)
    assert told(lower) == (None, None)
