"""Encrypted names and symlink targets: text, packets, padding, lengths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecrypt.errors import FormatError, UndecodableNameError
from fusecrypt.native import Cipher, name_prefix
from fusecrypt.ondisk import names
from fusecrypt.ondisk.ciphers import CIPHERS
from fusecrypt.ondisk.names import NamePacket, decode_name, decode_text, encode_name, encode_text
from tests.unit.ondisk import vectors
from tests.unit.ondisk.vectors import VECTORS

TARGETS = VECTORS["symlink_target"]
ALPHABET = VECTORS["name_text_encoding"]["alphabet_text"].encode()
PREFIX = b"ECRYPTFS_FNEK_ENCRYPTED."


def cases() -> list[tuple[dict[str, Any], bytes, bytes]]:
    """Names and symlink targets: whose keys, upper, lower."""
    found = [(v, bytes.fromhex(v["name"]), v["lower_text"].encode()) for v in vectors.names()]
    return found + [
        (TARGETS, bytes.fromhex(v["target"]), v["lower_target_text"].encode()) for v in TARGETS["vectors"]
    ]


every_case = pytest.mark.parametrize(
    ("vector", "upper", "lower"),
    cases(),
    ids=[f"{v.get('case', 'target')}-{len(upper)}-{upper[:6].hex()}" for v, upper, _ in cases()],
)


@every_case
def test_upper_to_lower(vector: dict[str, Any], upper: bytes, lower: bytes) -> None:
    token = vectors.token(vector["fnek_passphrase_text"], vector["fnek_salt"])
    choice = vectors.cipher(vector)
    filling = name_prefix(token.key, names.fill_size(len(upper), choice.spec.block))
    ciphertext = Cipher(choice.code, choice.key_bytes, token.key).encrypt(names.pad_name(upper, filling))
    assert encode_name(NamePacket(token.signature, choice.code, ciphertext)) == lower
    assert names.lower_length(len(upper), choice.spec.block) == len(lower)


@every_case
def test_lower_to_upper(vector: dict[str, Any], upper: bytes, lower: bytes) -> None:
    token = vectors.token(vector["fnek_passphrase_text"], vector["fnek_salt"])
    choice = vectors.cipher(vector)
    packet = decode_name(lower)
    assert packet.signature.hex() == vector["fnek_sig"]
    assert packet.code == choice.code
    plaintext = Cipher(choice.code, choice.key_bytes, token.key).decrypt(packet.ciphertext)
    assert names.unpad_name(plaintext) == upper
    assert encode_name(packet) == lower


@pytest.mark.parametrize("vector", vectors.names(), ids=lambda v: f"{v['case']}-{v['name'][:12]}")
def test_the_packet_and_its_filling(vector: dict[str, Any]) -> None:
    """The vectors' packets carry the zero octets that fill up their text."""
    packet = bytes.fromhex(vector["packet"])
    assert decode_text(vector["lower_text"].encode()[len(PREFIX) :]) == packet
    size = names.fill_size(len(vector["name"]) // 2, vectors.cipher(vector).spec.block)
    assert size == len(vector["prefix"]) // 2


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


@pytest.mark.parametrize("block", [8, 16])
def test_lower_lengths_and_the_longest_name(block: int) -> None:
    """24 + 4 * ceil((11 + A) / 3), where A is 17 + n in whole blocks; 143 octets fit a name of 255."""
    for n in range(1, 160):
        a = -(-(17 + n) // block) * block
        assert names.lower_length(n, block) == 24 + 4 * -(-(11 + a) // 3)
        assert (17 + n) <= a == names.fill_size(n, block) + 1 + n
    assert names.lower_length(143, block) <= 255 < names.lower_length(144, block)
    assert names.longest_name(255, block) == 143


def test_lower_lengths_with_aes() -> None:
    for shortest, longest, lower in [(1, 15, 84), (16, 31, 104), (32, 47, 124), (128, 143, 252)]:
        for n in range(shortest, longest + 1):
            assert names.lower_length(n, 16) == lower


def test_longest_targets() -> None:
    assert names.longest_name(4095, 16) == 3007
    assert names.longest_name(4095, 8) == 3015


@pytest.mark.parametrize("block", [8, 16])
def test_the_longest_name_of_any_limit(block: int) -> None:
    for limit in range(600):
        longest = names.longest_name(limit, block)
        assert longest == 0 or names.lower_length(longest, block) <= limit
        assert names.lower_length(longest + 1, block) > limit


def test_the_packet_length_takes_two_octets_from_160_up() -> None:
    for n, octets in [(143, 1), (159, 1), (160, 2), (3007, 2)]:
        body = 9 + names.fill_size(n, 16) + 1 + n
        lower = encode_name(NamePacket(b"signatur", 7, bytes(body - 9)))
        assert len(lower) == names.lower_length(n, 16)
        decoded = decode_text(lower[24:])
        assert decoded[1] < 192 if octets == 1 else decoded[1] >= 192
        assert decode_name(lower).ciphertext == bytes(body - 9)


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


@pytest.mark.parametrize(
    "plaintext", [b"", b"\0", b"no separator....", b"filling\0", b"filling\0na\0me", b"\0\0name"]
)
def test_plaintexts_without_a_name(plaintext: bytes) -> None:
    with pytest.raises(UndecodableNameError):
        names.unpad_name(plaintext)


@pytest.mark.parametrize("name", [b".", b"..", b"/", b"a/b", b"/etc/passwd", b"../x"])
def test_names_that_lead_elsewhere(name: bytes) -> None:
    with pytest.raises(UndecodableNameError):
        names.check_component(name)


@pytest.mark.parametrize("name", [b"...", b".a", b"..a", b"\xff\xfe", b"a\nb", PREFIX])
def test_unusual_names_are_names(name: bytes) -> None:
    assert names.check_component(name) == name


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


@given(st.binary(min_size=1, max_size=143), st.sampled_from([spec.block for spec in CIPHERS.values()]))
def test_padding_fills_whole_blocks(name: bytes, block: int) -> None:
    name = name.replace(b"\0", b"0")
    filling = b"\x42" * names.fill_size(len(name), block)
    padded = names.pad_name(name, filling)
    assert len(filling) >= 16
    assert len(padded) % block == 0
    assert names.unpad_name(padded) == name
