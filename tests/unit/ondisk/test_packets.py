"""Packets: lengths, ciphers and key sizes, and every way to be malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecrypt.errors import FormatError
from fusecrypt.ondisk.ciphers import CIPHERS, CipherChoice
from fusecrypt.ondisk.packets import (
    PassphrasePacket,
    PublicKeyPacket,
    decode_length,
    encode_length,
    parse_packets,
)
from tests.unit.ondisk import vectors
from tests.unit.ondisk.vectors import patched

PAIR = vectors.header()[26:]
"""A tag 3 of 31 octets (the body starts at 2) and a tag 11 of 24 (the body starts at 33)."""

EVERY_CIPHER = [CipherChoice(spec, size) for spec in CIPHERS.values() for size in spec.key_sizes]


@pytest.mark.parametrize(
    ("n", "octets"),
    [
        (0, "00"), (1, "01"), (191, "bf"), (192, "c000"), (193, "c001"), (447, "c0ff"), (448, "c100"),
        (8127, "deff"), (8128, "df00"), (8383, "dfff"),
    ],
)  # fmt: skip
def test_lengths_both_ways(n: int, octets: str) -> None:
    assert encode_length(n) == bytes.fromhex(octets)
    assert decode_length(b"?" + bytes.fromhex(octets), 1) == (n, 1 + len(octets) // 2)


def test_all_lengths_survive() -> None:
    for n in range(8384):
        assert decode_length(encode_length(n), 0)[0] == n


@pytest.mark.parametrize("n", [-1, 8384, 65536, 2**64])
def test_lengths_without_an_encoding(n: int) -> None:
    with pytest.raises(ValueError, match="no length encoding"):
        encode_length(n)


@pytest.mark.parametrize(
    "octets", [b"", b"\xc0", b"\xdf", b"\xe0\0", b"\xe1\0", b"\xfe\0\0", b"\xff\0\0\0\1"]
)
def test_lengths_that_are_refused(octets: bytes) -> None:
    with pytest.raises(FormatError):
        decode_length(octets, 0)


@pytest.mark.parametrize("choice", EVERY_CIPHER, ids=str)
def test_every_cipher_and_key_size_both_ways(choice: CipherChoice) -> None:
    packet = PassphrasePacket(choice, bytes(range(choice.wrapped_fek_size)), b"signatur", b"salt5678")
    assert parse_packets(packet.encode() + bytes(50)) == (packet,)


def test_the_cipher_table() -> None:
    assert {(str(choice), choice.code, choice.wrapped_fek_size) for choice in EVERY_CIPHER} == {
        ("aes-128", 7, 16), ("aes-192", 8, 32), ("aes-256", 9, 32), ("des3_ede-192", 2, 24),
        ("cast5-64", 3, 8), ("cast5-128", 3, 16), ("blowfish-64", 4, 8), ("blowfish-128", 4, 16),
        ("blowfish-192", 4, 24), ("blowfish-256", 4, 32), ("blowfish-320", 4, 40), ("blowfish-384", 4, 48),
        ("blowfish-448", 4, 56), ("twofish-128", 10, 16), ("twofish-256", 10, 32), ("cast6-128", 11, 16),
        ("cast6-256", 11, 32),
    }  # fmt: skip


def tag_3(code: int, wrapped: int) -> bytes:
    """A tag 3 with an encrypted FEK of so many octets, and its tag 11."""
    body = bytes([4, code, 3, 1]) + bytes(8) + b"\x60" + bytes(wrapped)
    return b"\x8c" + encode_length(len(body)) + body + PAIR[31:]


def test_an_aes_key_size_comes_from_the_encrypted_key() -> None:
    """The kernel reads code 0x07 with 32 octets as AES-256."""
    for code, wrapped, key_bytes in [(7, 16, 16), (7, 32, 32), (9, 16, 16), (9, 32, 32), (8, 32, 24)]:
        (packet,) = parse_packets(tag_3(code, wrapped))
        assert isinstance(packet, PassphrasePacket)
        assert packet.cipher.key_bytes == key_bytes


@pytest.mark.parametrize(
    ("code", "wrapped"),
    [
        (7, 1), (7, 15), (7, 24), (7, 48), (7, 64), (8, 16), (8, 24), (9, 24), (2, 8), (2, 16), (2, 32),
        (3, 5), (3, 24), (4, 4), (4, 20), (4, 64), (10, 24), (10, 8), (11, 20), (11, 24),
    ],
)  # fmt: skip
def test_key_sizes_that_no_file_has(code: int, wrapped: int) -> None:
    with pytest.raises(FormatError, match="does not fit cipher"):
        parse_packets(tag_3(code, wrapped))


@pytest.mark.parametrize("code", sorted({*range(256)} - {choice.code for choice in EVERY_CIPHER}))
def test_unknown_ciphers(code: int) -> None:
    with pytest.raises(FormatError, match="unknown cipher"):
        parse_packets(tag_3(code, 16))


@pytest.mark.parametrize("wrapped", [0, 65, 128, 179, 512, 8000])
def test_encrypted_keys_of_absurd_lengths(wrapped: int) -> None:
    with pytest.raises(FormatError, match="no usable key"):
        parse_packets(tag_3(9, wrapped))


@pytest.mark.parametrize(
    ("at", "octet"),
    [(2, 3), (2, 5), (4, 0), (4, 1), (5, 2), (5, 8)],
    ids=["version 3", "version 5", "S2K 0", "S2K 1", "hash 2", "hash 8"],
)
def test_tag_3_of_another_kind(at: int, octet: int) -> None:
    with pytest.raises(FormatError, match="unknown kind"):
        parse_packets(patched(PAIR, at, bytes([octet])))


def test_salt_and_iterations_do_not_matter() -> None:
    (packet,) = parse_packets(patched(PAIR, 6, bytes(9)))
    assert isinstance(packet, PassphrasePacket)
    assert packet.salt == bytes(8)
    assert packet.wrapped_fek == PAIR[15:31]


@pytest.mark.parametrize("after", [b"", b"\0", b"\x8c", b"\x01", b"\xee"])
def test_tag_3_without_its_tag_11(after: bytes) -> None:
    with pytest.raises(FormatError, match="lacks the tag 11"):
        parse_packets(PAIR[:31] + after)


@pytest.mark.parametrize(
    ("at", "octets"),
    [(32, b"\0"), (32, b"\x15"), (32, b"\x0d"), (33, b"\x63"), (33, b"\x74"), (34, b"\x09"), (34, b"\0")],
)
def test_malformed_tag_11(at: int, octets: bytes) -> None:
    with pytest.raises(FormatError, match="tag 11 packet is malformed"):
        parse_packets(patched(PAIR, at, octets))


@pytest.mark.parametrize("length", [b"\x17", b"\xbf", b"\xdf\xff", b"\xe0", b"\xff"])
def test_tag_11_whose_length_leads_outside(length: bytes) -> None:
    with pytest.raises(FormatError):
        parse_packets(PAIR[:32] + length + PAIR[33:])


def test_file_name_and_date_in_tag_11_do_not_matter() -> None:
    assert parse_packets(patched(PAIR, 35, b"whatever....")) == parse_packets(PAIR)


def test_tag_11_alone() -> None:
    with pytest.raises(FormatError, match="alone"):
        parse_packets(PAIR[31:])
    with pytest.raises(FormatError, match="alone"):
        parse_packets(PAIR + PAIR[31:])


@pytest.mark.parametrize("tag", [0, 0x02, 0x46, 0x8B, 0xEE, 0xFF])
def test_an_octet_that_is_no_tag_ends_the_packets(tag: int) -> None:
    assert parse_packets(PAIR + bytes([tag]) + PAIR) == parse_packets(PAIR)
    assert parse_packets(bytes([tag]) + PAIR) == ()


def test_packets_keep_their_order() -> None:
    public = PublicKeyPacket(b"blob", b"publickk").encode()
    assert [type(packet) for packet in parse_packets(PAIR + public + PAIR)] == [
        PassphrasePacket, PublicKeyPacket, PassphrasePacket,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "packet",
    [
        b"\x01", b"\x01\0", b"\x01\x0a\x03" + bytes(9), b"\x01\x0b\x03" + bytes(9),
        b"\x01\x0b\x02" + bytes(10), b"\x01\xff" + bytes(20),
        b"\x01" + encode_length(523) + b"\x03" + bytes(522),
    ],
)  # fmt: skip
def test_malformed_tag_1(packet: bytes) -> None:
    with pytest.raises(FormatError):
        parse_packets(packet)


tags = st.sampled_from(
    [b"", b"\x01", b"\x8c", b"\xed", PAIR, PAIR[:31], PAIR[31:], b"\x8c\x1d\x04\x07\x03\x01"]
)
pieces = st.lists(tags | st.binary(max_size=40), max_size=6).map(b"".join)


@given(st.binary(max_size=200) | pieces)
def test_arbitrary_octets_are_refused_or_parsed(data: bytes) -> None:
    try:
        packets = parse_packets(data)
    except FormatError:
        return
    # What was parsed is what stands there, but for fields that are not read.
    assert sum(len(packet.encode()) for packet in packets) <= len(data) + len(packets)
    assert parse_packets(b"".join(packet.encode() for packet in packets)) == packets
