"""Encrypted names in texts."""

from __future__ import annotations

import pytest

from fusecrypt.errors import NameTooLongError
from fusecrypt.offline.convert import decrypt_text, encrypt_path
from fusecrypt.tree.names import PlainNames, name_codec
from tests.tree.support import policy

CODEC = name_codec(policy().names)
OTHER = name_codec(policy("twofish", 32).names)


def decrypted(text: bytes) -> tuple[bytes, int]:
    return decrypt_text(CODEC, text, bytes)


@pytest.mark.parametrize(
    "template",
    [b"%s", b"/home/%s/x", b"cannot open %s.", b"<%s>: gone", b"%s/%s", b"%s -> %s...", b"\xff .%s.a1B2c3"],
)
def test_names_are_found_in_any_text(template: bytes) -> None:
    names = [b"first name", "zweite Größe".encode()][: template.count(b"%s")]
    lower = template % tuple(map(CODEC.encode, names))
    assert decrypted(lower) == (template % tuple(names), 0)


def test_symlink_targets_too() -> None:
    assert decrypted(b"l -> " + CODEC.encode_target(b"../a/b")) == (b"l -> ../a/b", 0)


def test_what_is_of_another_key_stays_and_is_counted() -> None:
    text = b"%s %s %s" % (OTHER.encode(b"x"), CODEC.encode(b"y"), b"ECRYPTFS_FNEK_ENCRYPTED.damaged")
    converted, failed = decrypted(text)
    assert converted == text.replace(CODEC.encode(b"y"), b"y")
    assert failed == 2


def test_what_is_shown_is_made_fit() -> None:
    assert decrypt_text(CODEC, CODEC.encode(b"a\nb"), lambda name: name.replace(b"\n", b"?")) == (b"a?b", 0)


def test_paths_are_encrypted_name_by_name() -> None:
    path = b"/a/../b//./c/"
    encrypted = encrypt_path(CODEC, path)
    assert encrypted == b"/%s/../%s//./%s/" % (CODEC.encode(b"a"), CODEC.encode(b"b"), CODEC.encode(b"c"))
    assert decrypted(encrypted) == (path, 0)
    assert len(encrypt_path(CODEC, b"x" * 143)) <= 255
    with pytest.raises(NameTooLongError, match="at most 143"):
        encrypt_path(CODEC, b"a/" + b"x" * 144)


def test_plain_names_stay() -> None:
    text = CODEC.encode(b"x")
    assert decrypt_text(PlainNames(), text, bytes) == (text, 0)
    assert encrypt_path(PlainNames(), b"a/b") == b"a/b"
