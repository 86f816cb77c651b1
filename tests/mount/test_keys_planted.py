"""Keys in a key-slot file whose signatures say nothing of them: right ones open the tree, others are noticed.

The MAC of each file here is right: whoever can seal for a TPM can make a whole file that it opens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusecrypt.keys.crypto import random_secret
from fusecrypt.keys.slotfile import CONTENT, NAMES
from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.token import ENCRYPTED_KEY_SALT, KEY_BYTES, AuthToken
from fusecrypt.keys.volume import Volume
from tests.mount.support import mounted, run
from tests.unit.keys.secrets import octets, secret

WORDS = "words that open the slot"
NOT_WRITTEN = "nothing in the tree proves the key"


def key(sig: int) -> AuthToken:
    """A random key under a signature that says nothing of it, as the kernel's type `encrypted` makes them."""
    return AuthToken(bytes([sig] * 8), random_secret(KEY_BYTES), ENCRYPTED_KEY_SALT)


FILES, FNEK = key(1), key(2)


def options(directory: Path, files: AuthToken, names: AuthToken) -> list[str]:
    """A key-slot file with these keys, and what opens it."""
    path = directory / f"{len(os.listdir(directory))}.keyslots"
    volume = Volume.create([(files, (CONTENT,)), (names, (NAMES,))])
    SlotStore(path).create(volume.add(PassphraseEnrolment(secret(WORDS))))
    (directory / "words").write_text(WORDS)
    return ["--keyslots", str(path), "--passfile", str(directory / "words")]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree under these keys with a file that has an end within an extent."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "mnt").mkdir()
    with mounted(tmp_path / "lower", *options(tmp_path, FILES, FNEK), passphrases=()) as mount:
        (mount.path / "file").write_text("text")
    return tmp_path / "lower"


def test_the_right_keys_write(tree: Path) -> None:
    with mounted(tree, *options(tree.parent, FILES, FNEK), passphrases=()) as mount:
        (mount.path / "more").write_text("text")
        assert (mount.path / "file").read_text() == "text"


@pytest.mark.parametrize(
    ("files", "names", "said"),
    [
        (key(1), FNEK, "0101010101010101 is not the one that this tree's files are encrypted with"),
        (FILES, key(2), "0202020202020202 does not open the names of this tree"),
        (
            AuthToken(FILES.signature, FNEK.key),
            AuthToken(FNEK.signature, FILES.key),
            "does not open the names",
        ),
    ],
    ids=["files", "names", "exchanged"],
)
def test_other_keys_are_refused(tree: Path, files: AuthToken, names: AuthToken, said: str) -> None:
    words = options(tree.parent, files, names)
    for more in ([], ["-o", "ro"]):
        done = run("mount", *words, *more, tree, tree.with_name("mnt"), status=3, start_new_session=True)
        assert said in done.stderr
    assert said in run("ls", *words, tree, status=3).stderr
    (tree.parent / "new").write_text("new words")
    done = run("rekey", *words, "--new-passfile", tree.parent / "new", tree, status=3)
    assert said in done.stderr


def test_a_damaged_file_does_not_decide(tree: Path) -> None:
    words = options(tree.parent, FILES, FNEK)
    with mounted(tree, *words, passphrases=()) as mount:
        for name in ("second", "third"):
            (mount.path / name).write_text("text")
    (lower, *_) = (path for path in tree.iterdir() if path.is_file())
    with lower.open("r+b") as file:
        file.seek(8192 + 2048)
        file.write(b"damage")
    with mounted(tree, *words, passphrases=()) as mount:
        (mount.path / "fourth").write_text("text")


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (lambda top: (top / "directory").mkdir(), True),
        (lambda top: (top / "empty").touch(), True),
        (lambda top: (top / "whole").write_bytes(bytes(4096)), False),
        (lambda top: (top / "almost").write_bytes(bytes(4081)), False),
    ],
    ids=["directory", "empty", "whole", "almost"],
)
def test_files_that_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], written: bool
) -> None:
    """Where nothing is encrypted with a key, another one spoils nothing; elsewhere it has to be proven."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    words = options(tmp_path, FILES, FNEK)
    lower = tmp_path / "lower"
    with mounted(lower, *words, passphrases=()) as mount:
        make(mount.path)
    before = sorted(os.listdir(lower))
    with mounted(lower, *words, passphrases=(), log_allows=(NOT_WRITTEN,)) as mount:
        assert (NOT_WRITTEN in mount.messages) is not written
        assert bool(os.statvfs(mount.path).f_flag & os.ST_RDONLY) is not written
    assert sorted(os.listdir(lower)) == before
    if not written:
        done = run("import", *words, tmp_path / "state", lower, status=3)
        assert "the keys may be forged" in done.stderr
        raw = []
        for token in (FILES, FNEK):
            (tmp_path / token.sig).write_bytes(octets(token.key))
            raw += ["--raw-key", f"{token.sig}={tmp_path / token.sig}"]
        made = ("--keyslots", tmp_path / "made.keyslots", "--recovery-file", tmp_path / "recovery")
        said = run("key", "create", lower, *raw, *made).stderr
        assert f"nothing in the tree proves that this key is {FILES.sig}" in said
        with mounted(lower, *raw, passphrases=()) as mount:
            (mount.path / "file").write_text("text")
        with mounted(lower, *words, passphrases=()) as mount:
            (mount.path / "more").write_text("text")
