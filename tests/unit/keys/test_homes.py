"""Layouts of ecryptfs-utils, recognised from their lower directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.homes import parse_signatures, rc_salt, recognise
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT, AuthToken
from fusecrypt.keys.wrapped import read_wrapped
from tests import golden
from tests.unit.keys.secrets import octets, secret

SIG = "0123456789abcdef"


def test_a_home_of_ecryptfs_setup_private_opens(tmp_path: Path) -> None:
    golden.unpack(golden.DIRECTORY / "userspace" / "home.tar.xz", tmp_path)
    facts = json.loads((golden.DIRECTORY / "userspace" / "home.json").read_text())
    home = recognise(next(tmp_path.rglob(".Private")))
    assert home is not None
    assert home.mount_point == Path("/home/alice/Private")
    assert (home.independent, home.whole_home, home.salt) == (False, False, DEFAULT_SALT)
    assert home.wrapped is not None
    passphrase = read_wrapped(home.wrapped).unwrap(secret(facts["login_passphrase"]))
    assert octets(passphrase).decode() == facts["mount_passphrase"]
    tokens = (AuthToken.from_passphrase(passphrase), AuthToken.from_passphrase(passphrase, FNEK_SALT))
    assert home.signatures == tuple(token.signature for token in tokens)


def _make(config: Path, lower: Path, **files: str) -> None:
    config.mkdir(parents=True)
    lower.mkdir(parents=True)
    for name, text in files.items():
        (config / name.replace("__", ".").replace("_", "-")).write_text(text)


def test_a_whole_home_is_recognised_through_its_symbolic_link(tmp_path: Path) -> None:
    hidden = tmp_path / "home" / ".ecryptfs" / "bob"
    home = tmp_path / "home" / "bob"
    _make(
        hidden / ".ecryptfs",
        hidden / ".Private",
        Private__sig=f"{SIG}\n",
        Private__mnt=f"{home}\n",
        wrapping_independent="",
    )
    home.mkdir()
    (home / ".Private").symlink_to(hidden / ".Private")
    (home / ".ecryptfsrc").write_text("key=passphrase,salt=0011223344556688\n")
    found = recognise(home / ".Private")
    assert found is not None
    assert found.lower == hidden / ".Private"
    assert (found.here, found.whole_home, found.independent, found.wrapped) == (True, True, True, None)
    assert found.mount_point == home
    assert found.signatures == (bytes.fromhex(SIG),)
    assert found.salt == bytes.fromhex("0011223344556688")


def test_an_alias_is_recognised_by_its_source(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    _make(
        tmp_path / ".ecryptfs",
        lower,
        Private__sig=f"{SIG}\n",
        photos__sig=f"{SIG[::-1]}\n",
        photos__conf=f"{lower} {tmp_path}/photos ecryptfs none 0 0\n",
    )
    found = recognise(lower)
    assert found is not None
    assert found.signatures == (bytes.fromhex(SIG[::-1]),)
    assert found.mount_point == tmp_path / "photos"


def test_other_directories_are_no_homes(tmp_path: Path) -> None:
    assert recognise(tmp_path) is None
    _make(tmp_path / ".ecryptfs", tmp_path / "vault", Private__sig=f"{SIG}\n")
    beside = recognise(tmp_path / "vault")
    assert beside is not None
    assert not beside.belongs([bytes(8)])
    assert beside.belongs([bytes(8), bytes.fromhex(SIG)])


def test_a_layout_without_signatures(tmp_path: Path) -> None:
    lower = tmp_path / ".Private"
    _make(tmp_path / ".ecryptfs", lower)
    assert recognise(lower) is None
    (tmp_path / ".ecryptfs" / "wrapped-passphrase").touch()
    for text in (None, "damaged"):
        if text:
            (tmp_path / ".ecryptfs" / "Private.sig").write_text(text)
        found = recognise(lower)
        assert found is not None
        assert (found.signatures, bool(found.damage)) == ((), bool(text))


@pytest.mark.parametrize("text", [b"", b"0123\n", b"0123456789abcdeg\n", SIG.encode() + b"\n" + b"x" * 16])
def test_damaged_signature_files_are_refused(text: bytes) -> None:
    with pytest.raises(KeyFileError):
        parse_signatures(text, "Private.sig")


@pytest.mark.parametrize(
    ("text", "salt"),
    [
        (b"salt=0123456789abcdef", "0123456789abcdef"),
        (b"key=passphrase,cipher=aes\nsalt=0123456789ABCDEF\n", "0123456789abcdef"),
        (b"salt=0123456789abcde", None),
        (b"salt=0123456789abcdef0", None),
        (b"salt=0123456789abcdeg", None),
        (b"passphrase_salt=0123456789abcdef", None),
        (b"#salt=0123456789abcdef", None),
        (b" " * 120 + b"salt=0123456789abcdef", None),
        (b"a=b\n" * 20000 + b"salt=0123456789abcdef", None),
        (b"", None),
    ],
)
def test_salt_of_an_rc_file(text: bytes, salt: str | None) -> None:
    assert rc_salt(text) == (None if salt is None else bytes.fromhex(salt))
