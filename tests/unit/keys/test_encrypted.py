"""Encrypted keys against blobs that kernels made or took."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.errors import KeyFileError, WrongSecretError
from fusecrypt.keys.token import ENCRYPTED_KEY_SALT
from tests.golden import DIRECTORY
from tests.unit.keys.secrets import octets, secret

TEXT = EncryptedBlob.seal(secret(bytes(64)), secret("master"), "user:m", iv=bytes(16)).text()


def test_vectors(vectors: dict[str, Any]) -> None:
    for vector in vectors["encrypted_key_blob"]["vectors"]:
        text, master = vector["blob_text"], secret(bytes.fromhex(vector["master"]))
        blob = EncryptedBlob.parse(text.encode())
        payload = blob.open(master)
        assert octets(payload).hex() == vector["decrypted"]
        assert blob.text() == text
        again = EncryptedBlob.seal(payload, master, blob.master, format=blob.format, iv=blob.iv)
        assert again.text() == text
        with pytest.raises(WrongSecretError):
            blob.open(secret(bytes.fromhex(vector["master"]) + b"x"))


def test_a_known_passphrase_key_under_a_known_master() -> None:
    """FEKEK of the passphrase "correct horse", accepted by a kernel under the master 00 01 ... 1f."""
    hexadecimal = (
        "8714a27682805abc1d90e0d2f656acaf0007ecca4f2708b3c6909a79e72c150e8b70b8eb60a9abf11b89a559222105995d"
        "1de50fb38d02c7dda35aaaa86568cddddbab95e979cb7d0cb2e54ec6661f7829100146ab44513a5ca6df2252ca230897e6"
        "d1ed893026f6372f75d8419b1db7b3"
    )
    blob = EncryptedBlob.parse(f"ecryptfs user:kmk 64 {hexadecimal}".encode())
    token = blob.token(bytes.fromhex("ffd652511eaff04a"), secret(bytes(range(32))))
    assert octets(token.key).hex().startswith("1e824977ead9fbef5e8764af69c6685c")
    assert token.salt == ENCRYPTED_KEY_SALT


@pytest.mark.parametrize("name", ["enc-user", "enc-user-text", "enc-user-updated", "enc-user-provided"])
def test_golden_blobs_open(name: str) -> None:
    mount = json.loads((DIRECTORY / name / "mount.json").read_text())
    master = secret(bytes.fromhex(mount["about_keys"]["master"]["hex"]))
    for described, text in mount["captured"].items():
        if described.startswith("encrypted:"):
            payload = EncryptedBlob.parse(text.encode()).open(master)
            assert len(payload) == 64
            if "decrypted_data" in mount["about_keys"]:
                assert octets(payload).hex() == mount["about_keys"]["decrypted_data"]


def test_an_updated_master_kept_the_payload() -> None:
    mount = json.loads((DIRECTORY / "enc-user-updated" / "mount.json").read_text())
    about = mount["about_keys"]
    before = EncryptedBlob.parse(mount["captured"]["before_update"].encode())
    after = EncryptedBlob.parse(mount["captured"]["encrypted:da0f3e63b846da51"].encode())
    assert before.open(secret(bytes.fromhex(about["master_before"]["hex"]))) == after.open(
        secret(bytes.fromhex(about["master"]["hex"]))
    )


def test_handmade_blobs_hold_passphrase_keys() -> None:
    facts = json.loads((DIRECTORY / "enc-handmade" / "handmade.json").read_text())
    for key in facts["keys"]:
        blob = EncryptedBlob.parse(key["blob"].encode() + b"\n")
        assert octets(blob.open(secret(bytes.fromhex(facts["master"]["hex"])))).hex() == key["key"]


def _cut(text: str) -> list[str]:
    head, _, digits = text.rpartition(" ")
    return [
        "",
        " ",
        digits,
        text[:-1],
        text[:-2],
        text + "00",
        text.replace("ecryptfs", "ecryptfz"),
        text.replace("user:", "users:"),
        text.replace("user:m", "user:"),
        text.replace(" 64 ", " 65 "),
        text.replace(" 64 ", " 064 "),
        text.replace(" 64 ", " +64 "),
        text.replace(" 64 ", "  64 "),
        text.replace(" 64 ", " \u0666\u0664 "),
        text.replace("ecryptfs", "default").replace(" 64 ", " 9999999999999999999 "),
        text.replace("ecryptfs ", "enc32 "),
        text.replace("ecryptfs ", "") + " x y",
        head + " " + "g" * len(digits),
        "\0" * 100,
        text * 100,
    ]


@pytest.mark.parametrize("text", _cut(TEXT))
def test_damaged_texts_are_refused(text: str) -> None:
    with pytest.raises(KeyFileError):
        EncryptedBlob.parse(text.encode())


@pytest.mark.parametrize("text", ["hunter2 hunter2 hunter2", "hunter2 hunter2 hunter2 hunter2"])
def test_a_passphrase_given_by_mistake_is_not_repeated(text: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        EncryptedBlob.parse(text.encode())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("position", [0, 31, 34, 161, 162, 225])
def test_damaged_octets_do_not_open(position: int) -> None:
    start = len(TEXT) - 226 + position
    other = "0" if TEXT[start] != "0" else "1"
    blob = EncryptedBlob.parse((TEXT[:start] + other + TEXT[start + 1 :]).encode())
    with pytest.raises(WrongSecretError):
        blob.open(secret("master"))


def test_the_octet_after_the_iv_does_not_count() -> None:
    start = len(TEXT) - 226 + 32
    blob = EncryptedBlob.parse((TEXT[:start] + "5a" + TEXT[start + 2 :]).encode())
    assert octets(blob.open(secret("master"))) == bytes(64)
    assert blob.text() == TEXT


@pytest.mark.parametrize(
    ("name", "digits"),
    [
        (
            "schlüssel".encode(),
            "5b1e8eb54c55f772e053c32c01cebb1f00165877128bcc35d605f9e200c11771bb67856572ecc403f914558c33b6eebe"
            "42c9313a47cff4284386f8a9ef9ea895fabc2df33353b291e460c2ace33d3b4f7c1ae11276f3bea55e03930a091b7489"
            "e75462709207265e66a62bcc9861bbbba7",
        ),
        (
            b"\xff\xfe",
            "f29e4dece765b76db578b5227fcdb088001a77f879b0438c63f3f42fdced29393d8ba6dfc6e395bfe04dbf46f77dc1b6"
            "fcf8d7fec639cefc5649295a16b724936240b7e9285a0753d8ba08e5d8313c4aed607621b341896acd3d8ff305ceba97"
            "69b97b8a3fa8c6870e56c7984abecf89e7",
        ),
    ],
)
def test_names_of_masters_may_hold_any_octets(name: bytes, digits: str) -> None:
    """As a kernel (6.18) printed them, under the master ``secret``."""
    text = b"ecryptfs user:" + name + b" 64 " + digits.encode()
    blob = EncryptedBlob.parse(text)
    with blob.open(secret("secret")) as payload:
        assert len(payload) == 64
    assert blob.text().encode(errors="surrogateescape") == text


def test_only_the_format_ecryptfs_makes_a_token() -> None:
    blob = EncryptedBlob.seal(secret(bytes(64)), secret("m"), "user:m", format="default")
    with pytest.raises(KeyFileError):
        blob.token(bytes(8), secret("m"))


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=300))
def test_any_octets_parse_or_are_refused(data: bytes) -> None:
    try:
        blob = EncryptedBlob.parse(data)
    except KeyFileError:
        return
    assert EncryptedBlob.parse(blob.text().encode(errors="surrogateescape")) == blob


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.binary(min_size=20, max_size=200),
    st.binary(min_size=1, max_size=140),
    st.sampled_from([None, "default"]),
)
def test_what_is_sealed_opens(payload: bytes, master: bytes, form: str | None) -> None:
    text = EncryptedBlob.seal(secret(payload), secret(master), "trusted:k", format=form).text()
    assert octets(EncryptedBlob.parse(text.encode()).open(secret(master))) == payload
