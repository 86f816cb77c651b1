"""TPM key files against blobs that a kernel made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusecrypt.keys import der
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.trusted import IMPORTABLE, TPMKey

BLOB = bytes.fromhex(
    "3082010906066781050a0105a0030101ff020500810000010430002e0008000b0000005200000010002018d21d6d0aafedfb"
    "17c682a0bdfc42d0aba926beaed74dd465b995500fc7c79a0481c000be00206f868994009ee539f141e5edc8634bc449767b"
    "44f54dde4405bfe0893871c641001075cd264464d88f677b27a03ede64c23e4d40ec8187372c1838051a5d19045e3e6e9769"
    "6fc4035ba055d5483e5654912519c11560ffe550644f33c47bc5578ac7944c3180950ba1af1b3bedaf2ec38425888c71bac9"
    "c49f07672ceaa9924b33c5040449aecf23cab1b1db070e2b1f48a615e4142dff2fa95ffa31eca408692a296a97de5197b248"
    "d550e0b14d1048ec5486572c6d271eaa71bde2"
)
KEY = TPMKey.parse(BLOB)


def test_the_fields_of_a_blob() -> None:
    assert (KEY.parent, KEY.empty_auth, KEY.policy, KEY.secret) == (0x81000001, True, (), b"")
    assert (KEY.sealed.name_alg, KEY.sealed.attributes, KEY.sealed.policy) == ("sha256", 0x52, b"")
    assert KEY.encode() == BLOB


def test_vectors(vectors: dict[str, Any]) -> None:
    for vector in vectors["trusted_key_tpm2"]["vectors"]:
        blob = bytes.fromhex(vector["blob"])
        key = TPMKey.parse(blob)
        assert key.public.hex() == vector["public"]
        assert key.private.hex() == vector["private"]
        assert key.parent == int(vector["parent_handle"], 16)
        assert (key.empty_auth is True) == vector["empty_auth_present"]
        assert f"{key.sealed.attributes:08x}" == vector["object_attributes"]
        # The kernel writes TRUE as 01 and we as FF; nothing else differs.
        assert key.encode() == blob.replace(bytes.fromhex("a003010101"), bytes.fromhex("a0030101ff"))


def test_every_optional_element_survives() -> None:
    full = replace(
        KEY,
        kind=IMPORTABLE,
        empty_auth=False,
        policy=((0x17F, b"\x01\x02"), (0x16B, b"")),
        secret=bytes(70),
        description="für morgen",
        rsa_parent=True,
        parent=0x40000001,
    )
    assert TPMKey.parse(full.encode()) == full
    assert TPMKey.parse_text(full.pem().encode()) == full


def test_the_form_before_linux_5_13() -> None:
    old = replace(KEY, parent=None, empty_auth=None)
    assert old.encode() == KEY.private + KEY.public
    assert TPMKey.parse(old.encode()) == old


def test_text_forms_are_the_same_key() -> None:
    for text in (BLOB, BLOB.hex().encode(), BLOB.hex().upper().encode() + b"\n", KEY.pem().encode()):
        assert TPMKey.parse_text(text) == KEY


def _damaged() -> list[bytes]:
    body = BLOB[4:]
    integer = bytes.fromhex("02050081000001")
    return [
        b"",
        b"\x30",
        BLOB[:-1],
        BLOB + b"\0",
        b"\x30\x80" + body + b"\0\0",
        b"\x30\x83\x00" + BLOB[2:],
        BLOB.replace(bytes.fromhex("6781050a0105"), bytes.fromhex("6781050a0103")),
        BLOB.replace(bytes.fromhex("6781050a0105"), bytes.fromhex("6781050a0104")),
        BLOB.replace(bytes.fromhex("a0030101ff"), bytes.fromhex("a0030201ff")),
        BLOB.replace(bytes.fromhex("a0030101ff"), b"").replace(b"\x30\x82\x01\x09", b"\x30\x82\x01\x08"),
        der.encode(der.SEQUENCE, body.replace(integer, bytes.fromhex("0206000081000001"))),
        der.encode(der.SEQUENCE, body.replace(integer, bytes.fromhex("020481000001"))),
        der.encode(der.SEQUENCE, body.replace(integer, bytes.fromhex("02060181000001ff"))),
        der.encode(der.SEQUENCE, body.replace(integer, bytes.fromhex("0200"))),
        der.encode(der.SEQUENCE, body + b"\x05\x00"),
        der.encode(der.SEQUENCE, body.replace(b"\x04\x30\x00\x2e", b"\x04\x30\x00\x2f")),
        der.encode(der.SEQUENCE, body.replace(b"\x00\x2e\x00\x08", b"\x00\x2e\x00\x01")),
        der.encode(der.SEQUENCE, body.replace(b"\x04\x81\xc0\x00\xbe", b"\x04\x81\xc0\x00\xbd")),
        der.encode(der.SEQUENCE, body.replace(b"\x04\x30", b"\x04\x81\x30")),
        KEY.private,
        KEY.private + KEY.public[:-1],
        bytes(20000),
        b"-----BEGIN TSS2 PRIVATE KEY-----\n!!!!\n-----END TSS2 PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----",
    ]


@pytest.mark.parametrize("data", _damaged())
def test_damaged_blobs_are_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        TPMKey.parse_text(data)


def test_a_key_of_a_tpm_1_2_is_told() -> None:
    with pytest.raises(KeyFileError, match=r"TPM 1\.2"):
        TPMKey.parse_text(b"01010000" + b"00" * 300)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, len(BLOB) - 1), st.integers(0, 255))
def test_a_changed_octet_is_refused_or_changes_the_key(position: int, octet: int) -> None:
    data = BLOB[:position] + bytes([octet]) + BLOB[position + 1 :]
    try:
        key = TPMKey.parse(data)
    except KeyFileError:
        return
    truth = position == BLOB.index(b"\xff")
    assert key.encode() == data or (truth and key.empty_auth)


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=200))
def test_any_octets_parse_or_are_refused(data: bytes) -> None:
    try:
        key = TPMKey.parse(data)
    except KeyFileError:
        return
    assert TPMKey.parse(key.encode()) == key
