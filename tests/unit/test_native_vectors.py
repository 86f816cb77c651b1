"""The native part against data that the kernel and ecryptfs-utils wrote (tests/data/vectors.json)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecrypt import native
from fusecrypt.native import Cipher, FileKey, Secret

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "vectors.json").read_text())
CODES = {"des3_ede": 0x02, "cast5": 0x03, "blowfish": 0x04, "twofish": 0x0A, "cast6": 0x0B}
AES = {16: 0x07, 24: 0x08, 32: 0x09}


def octets(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name])


def code(vector: dict[str, Any]) -> int:
    return AES[vector["key_bytes"]] if vector["cipher"] == "aes" else CODES[vector["cipher"]]


def key_of(passphrase: str, salt: str) -> Secret:
    return native.passphrase_key(Secret.copy(passphrase.encode()), bytes.fromhex(salt))


@pytest.fixture(params=["ipsec-mb", "portable"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine; a machine without ipsec-mb runs the portable one twice."""
    best = native.engine()
    native.set_engine(request.param if best == "ipsec-mb" else "portable")
    yield native.engine()
    native.set_engine(best)


@pytest.mark.parametrize("vector", VECTORS["passphrase_to_key"]["vectors"])
def test_passphrase(vector: dict[str, Any]) -> None:
    key = native.passphrase_key(Secret.copy(octets(vector, "passphrase")), octets(vector, "salt"))
    assert bytes(key.view()) == octets(vector, "fekek")
    assert native.signature(key) == octets(vector, "sig")


@pytest.mark.parametrize("vector", VECTORS["extent_iv"]["vectors"])
def test_extent_iv(vector: dict[str, Any]) -> None:
    fek = octets(vector, "fek")
    key = FileKey.from_secret(AES.get(len(fek), 0x04), len(fek), Secret.copy(fek))
    got = {extent: key.extent_iv(int(extent)).hex() for extent in vector["ivs"]}
    assert got == vector["ivs"]


@pytest.mark.parametrize("vector", VECTORS["file_header"]["vectors"], ids=lambda v: v["case"])
def test_file(vector: dict[str, Any], engine: str) -> None:
    """The FEK in a header, and the first extent after it."""
    fekek = key_of(vector["keys"][0]["passphrase_text"], vector["keys"][0]["salt"])
    wrapped = octets(vector["packets"][0], "encrypted_fek")
    key = FileKey.unwrap(code(vector), vector["key_bytes"], fekek, wrapped)
    assert key.wrap(fekek, len(wrapped)) == wrapped
    plaintext = octets(vector, "plaintext").ljust(4096, b"\0")
    extent = key.encrypt_extents(0, plaintext)
    assert hashlib.sha256(extent).hexdigest() == vector["extent0_ciphertext_sha256"]
    known = FileKey.from_secret(code(vector), vector["key_bytes"], Secret.copy(octets(vector, "fek")))
    assert known.decrypt_extents(0, extent) == plaintext


@pytest.mark.parametrize("vector", VECTORS["file_name"]["vectors"], ids=lambda v: f"{v['case']}-{v['name']}")
def test_name(vector: dict[str, Any]) -> None:
    fnek = key_of(vector["fnek_passphrase_text"], vector["fnek_salt"])
    prefix, name, packet = (octets(vector, part) for part in ("prefix", "name", "packet"))
    assert native.name_prefix(fnek, len(prefix)) == prefix
    cipher = Cipher(code(vector), vector["key_bytes"], fnek)
    plaintext = prefix + b"\0" + name
    ciphertext = cipher.encrypt(plaintext)
    assert ciphertext == packet[11 : 11 + len(plaintext)]
    assert cipher.decrypt(ciphertext) == plaintext
