"""Encrypted names and symlink targets without their key: text and packets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecrypt.errors import FormatError, UndecodableNameError
from fusecrypt.ondisk.names import NamePacket, decode_name, decode_text
from tests.names import ALPHABET, encode_name, encode_text
from tests.unit.ondisk import vectors
from tests.unit.ondisk.vectors import VECTORS

TARGETS = VECTORS["symlink_target"]
PREFIX = b"ECRYPTFS_FNEK_ENCRYPTED."


def test_the_alphabet() -> None:
    assert VECTORS["name_text_encoding"]["alphabet_text"].encode() == ALPHABET


def lowers() -> list[tuple[dict[str, Any], bytes]]:
    """Names and symlink targets: under which key and cipher, and what stands on disk."""
    found = [(v, v["lower_text"].encode()) for v in vectors.names()]
    return found + [(TARGETS, v["lower_target_text"].encode()) for v in TARGETS["vectors"]]


@pytest.mark.parametrize(("vector", "lower"), lowers())
def test_the_packet_of_a_name(vector: dict[str, Any], lower: bytes) -> None:
    packet = decode_name(lower)
    assert packet.signature.hex() == vector["fnek_sig"]
    assert packet.code == vectors.cipher(vector).code
    assert encode_name(packet) == lower


@pytest.mark.parametrize("vector", vectors.names(), ids=lambda v: f"{v['case']}-{v['name'][:12]}")
def test_the_packet_and_its_zero_octets(vector: dict[str, Any]) -> None:
    """The vectors' packets carry those that fill up their text."""
    packet = bytes.fromhex(vector["packet"])
    assert decode_text(vector["lower_text"].encode()[len(PREFIX) :]) == packet


@pytest.mark.parametrize("vector", VECTORS["name_text_encoding"]["vectors"], ids=lambda v: v["bytes"])
def test_text(vector: dict[str, str]) -> None:
    octets, text = bytes.fromhex(vector["bytes"]), vector["text"].encode()
    assert encode_text(octets) == text
    assert decode_text(text) == octets.ljust(-(-len(octets) // 3) * 3, b"\0")


def test_every_character_has_its_value() -> None:
    for value, character in enumerate(ALPHABET):
        assert decode_text(bytes([character]) + b"---") == bytes([value << 2, 0, 0])


@pytest.mark.parametrize("octet", sorted({*range(256)} - {*ALPHABET}))
def test_foreign_characters_are_refused(octet: int) -> None:
    for text in (bytes([octet]), b"FU-" + bytes([octet]), b"FU--" + bytes([octet]) + b"---"):
        with pytest.raises(UndecodableNameError):
            decode_text(text)


@given(st.binary(max_size=400))
def test_text_both_ways(octets: bytes) -> None:
    text = encode_text(octets)
    assert len(text) % 4 == 0
    assert set(text) <= set(ALPHABET)
    assert decode_text(text)[: len(octets)] == octets
    assert not any(decode_text(text)[len(octets) :])


@pytest.mark.parametrize(("size", "octets"), [(1, 1), (182, 1), (183, 2), (8374, 2)])
def test_long_packets_have_two_octets_of_length(size: int, octets: int) -> None:
    packet = NamePacket(b"signatur", 7, bytes(size))
    lower = encode_name(packet)
    assert (decode_text(lower[24:])[1] >= 192) == (octets == 2)
    assert decode_name(lower) == packet


def lower_of(packet: bytes) -> bytes:
    return PREFIX + encode_text(packet)


@pytest.mark.parametrize(
    "lower",
    [
        b"", b"lost+found", b"ECRYPTFS_FNEK_ENCRYPTED", PREFIX, b"ECRYPTFS_FEK_ENCRYPTED.FWaGeZtZ",
        PREFIX[:-1] + b"_FWaGeZtZ", PREFIX + b"F", PREFIX + b"FW", PREFIX + b"----", PREFIX + b"FWaG/ZtZ",
        PREFIX + b"F\nW\n",
        lower_of(b"\x47\x29" + bytes(41)),
        lower_of(b"\x46"),
        lower_of(b"\x46\x09" + bytes(60)),
        lower_of(b"\x46\x29" + bytes(30)),
        lower_of(b"\x46\xbf" + bytes(189)),
        lower_of(b"\x46\xdf\xff" + bytes(200)),
        lower_of(b"\x46\xe0" + bytes(200)),
        lower_of(b"\x46\xff\0\0\0\x29" + bytes(200)),
        lower_of(b"\x46\xc0"),
    ],
)  # fmt: skip
def test_what_is_no_encrypted_name(lower: bytes) -> None:
    with pytest.raises(FormatError):
        decode_name(lower)


def test_octets_behind_the_packet_do_not_matter() -> None:
    packet = b"\x46\x19signatur\x07" + bytes(16)
    assert decode_name(lower_of(packet + b"more")) == NamePacket(b"signatur", 7, bytes(16))


letters = st.lists(st.sampled_from(list(ALPHABET)), max_size=120).map(bytes)


@given(
    st.binary(max_size=200) | letters.map(lambda text: PREFIX + b"FW" + text) | letters.map(PREFIX.__add__)
)
def test_arbitrary_names_are_refused_or_decoded(lower: bytes) -> None:
    for text in (lower, PREFIX + lower):
        try:
            packet = decode_name(text)
        except FormatError:
            continue
        assert len(packet.signature) == 8
        assert packet.ciphertext


@given(st.binary(max_size=100))
def test_arbitrary_text_is_refused_or_decoded(text: bytes) -> None:
    try:
        assert len(decode_text(text)) == -(-len(text) // 4) * 3
    except UndecodableNameError:
        assert set(text) - set(ALPHABET)
