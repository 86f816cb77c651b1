"""Headers: those the kernel wrote, the versions, and what is no header."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecrypt.errors import FormatError, NotEcryptfsError
from fusecrypt.ondisk import header as ondisk
from fusecrypt.ondisk.ciphers import AES, CipherChoice
from fusecrypt.ondisk.header import Header, encode_size, parse_header
from fusecrypt.ondisk.packets import PassphrasePacket, PublicKeyPacket
from tests.unit.ondisk import vectors
from tests.unit.ondisk.vectors import patched

GOOD = vectors.header()
PACKETS = GOOD[26:]
VERSION, FLAGS, EXTENT_SIZE, EXTENTS = 16, 17, 20, 24

every_header = pytest.mark.parametrize("vector", vectors.headers(), ids=lambda v: v["case"])


@every_header
def test_parses_what_the_kernel_wrote(vector: dict[str, Any]) -> None:
    parsed = parse_header(bytes.fromhex(vector["header"]).ljust(8192, b"\0"))
    assert parsed.size == vector["upper_size"]
    assert parsed.marker == int(vector["marker"][:8], 16)
    assert parsed.version << 24 | parsed.flags == int(vector["flags"], 16)
    assert (parsed.extent_size, parsed.extents) == (vector["header_extent_size"], vector["header_extents"])
    assert parsed.region == 8192
    assert [
        {
            "cipher_code": packet.cipher.code,
            "salt": packet.salt.hex(),
            "iterations_octet": 0x60,
            "encrypted_fek": packet.wrapped_fek.hex(),
            "sig": packet.signature.hex(),
        }
        for packet in parsed.passphrase_packets
    ] == vector["packets"]
    assert all(packet.cipher == vectors.cipher(vector) for packet in parsed.passphrase_packets)


@every_header
def test_writes_the_same_octets(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["header"])
    assert parse_header(data).encode() == data
    assert parse_header(data).encode_region() == data.ljust(8192, b"\0")
    assert encode_size(vector["upper_size"]) == data[:8]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions_one_to_three_are_read_alike(version: int) -> None:
    parsed = parse_header(patched(GOOD, VERSION, bytes([version])))
    assert parsed.version == version
    assert parsed.encode() == GOOD


def test_version_zero_has_no_extent_fields() -> None:
    parsed = parse_header(patched(GOOD, VERSION, b"\0")[:20] + PACKETS)
    assert parsed.version == 0
    assert parsed.region == 8192
    assert parsed.packets == parse_header(GOOD).packets


@pytest.mark.parametrize("version", [4, 5, 0x7F, 0xFF])
def test_newer_versions_are_refused(version: int) -> None:
    with pytest.raises(FormatError, match="newer"):
        parse_header(patched(GOOD, VERSION, bytes([version])))


@pytest.mark.parametrize("flags", [0, 0x000001, 0x000004, 0x7FFFF0, 0xFFFFFF])
def test_no_flag_is_needed_and_none_is_in_the_way(flags: int) -> None:
    parsed = parse_header(patched(GOOD, FLAGS, flags.to_bytes(3, "big")))
    assert parsed.flags == flags
    assert parsed.packets == parse_header(GOOD).packets


@pytest.mark.parametrize(
    ("extent_size", "extents"), [(4096, 4), (4096, 16), (65536, 1), (0, 0), (1, 1), (2**32 - 1, 65535)]
)
def test_the_region_is_what_the_fields_say(extent_size: int, extents: int) -> None:
    fields = struct.pack(">IH", extent_size, extents)
    assert parse_header(patched(GOOD, EXTENT_SIZE, fields)).region == extent_size * extents


@pytest.mark.parametrize("size", [0, 1, 2**40, ondisk.MAX_SIZE])
def test_sizes_that_a_file_can_have(size: int) -> None:
    parsed = parse_header(encode_size(size) + GOOD[8:])
    assert parsed.size == size
    # Whatever the header region and the rounding: the end of the lower file still fits off_t.
    assert size + 4095 + 0xFFFFFFFF * 0xFFFF < 2**63


@pytest.mark.parametrize("size", [ondisk.MAX_SIZE + 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_sizes_that_no_file_can_have(size: int) -> None:
    with pytest.raises(FormatError, match="size field"):
        parse_header(encode_size(size) + GOOD[8:])


@pytest.mark.parametrize("at", range(8, 16))
def test_a_damaged_marker_is_no_marker(at: int) -> None:
    with pytest.raises(NotEcryptfsError):
        parse_header(patched(GOOD, at, bytes([GOOD[at] ^ 0x10])))


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"hello" * 1000, b"\xff" * 8192])
def test_what_is_no_ecryptfs_file_at_all(data: bytes) -> None:
    with pytest.raises(NotEcryptfsError):
        parse_header(data)


def test_every_truncation_of_a_good_header() -> None:
    """Cut in the fixed part or inside a packet: refused. Cut between packets: what is left counts."""
    two_keys = vectors.header("two-keys")
    whole = parse_header(two_keys).packets
    ends = {26: 0, 26 + 55: 1, 26 + 110: 2}
    assert len(two_keys) == max(ends)
    for length in range(len(two_keys)):
        if length in ends:
            assert parse_header(two_keys[:length]).packets == whole[: ends[length]]
        else:
            with pytest.raises(NotEcryptfsError if length < 20 else FormatError):
                parse_header(two_keys[:length])


def test_a_hundred_octets_of_a_lower_file_are_enough() -> None:
    assert parse_header(GOOD.ljust(100, b"\0")) == parse_header(GOOD)


def test_packets_end_within_the_first_4096_octets() -> None:
    pair = vectors.header("aes32")[26:]
    room, rest = divmod(4096 - 26, len(pair))
    assert rest
    assert len(parse_header(GOOD[:26] + pair * room).packets) == room
    with pytest.raises(FormatError, match="cut short"):
        parse_header(GOOD[:26] + pair * (room + 1))


def test_as_many_keys_as_fit_can_be_written() -> None:
    parsed = parse_header(GOOD)
    room = (4096 - 26) // len(PACKETS)
    many = Header(0, 1, parsed.packets * room)
    assert parse_header(many.encode_region()).packets == parsed.packets * room
    with pytest.raises(FormatError, match="do not fit"):
        Header(0, 1, parsed.packets * (room + 1)).encode()


@pytest.mark.parametrize("size", [11, 191 - 10, 192 - 10, 256, 512])
def test_public_key_packets_are_named_and_kept(size: int) -> None:
    packet = PublicKeyPacket(bytes(range(256))[:size] * (1 if size <= 256 else 2), b"12345678")
    written = Header(5, 7, (packet, *parse_header(GOOD).packets))
    assert parse_header(written.encode_region()).packets == written.packets
    assert parse_header(written.encode_region()).passphrase_packets == parse_header(GOOD).packets


wrapped = st.builds(
    lambda choice, octets: (choice, (octets * 4)[: choice.wrapped_fek_size]),
    st.sampled_from([CipherChoice(AES, n) for n in AES.key_sizes]),
    st.binary(min_size=16, max_size=16),
)
eight = st.binary(min_size=8, max_size=8)
passphrase_packets = st.builds(
    lambda w, signature, salt: PassphrasePacket(w[0], w[1], signature, salt), wrapped, eight, eight
)
public_packets = st.builds(PublicKeyPacket, st.binary(min_size=1, max_size=512), eight)


@given(
    size=st.integers(0, ondisk.MAX_SIZE),
    marker=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 2**24 - 1),
    packets=st.lists(passphrase_packets | public_packets, max_size=5).map(tuple),
)
def test_any_header_survives_the_way_there_and_back(
    size: int, marker: int, flags: int, packets: tuple[PassphrasePacket | PublicKeyPacket, ...]
) -> None:
    header = Header(size, marker, packets, flags)
    assert parse_header(header.encode_region()) == header


@given(st.binary(max_size=300))
def test_arbitrary_octets_are_refused_or_parsed(data: bytes) -> None:
    with_marker = data[:8].ljust(8, b"\0") + bytes(4) + struct.pack(">I", ondisk.MARKER_XOR) + data[8:]
    for octets in (data, with_marker, GOOD[:16] + data, GOOD[:26] + data):
        try:
            parsed = parse_header(octets)
        except FormatError:
            continue
        assert parsed.region >= 0
        assert 0 <= parsed.size <= ondisk.MAX_SIZE


@given(at=st.integers(0, len(GOOD) - 1), octet=st.integers(0, 255), more=st.binary(max_size=20))
def test_damaged_headers_are_refused_or_parsed(at: int, octet: int, more: bytes) -> None:
    try:
        parsed = parse_header(patched(GOOD, at, bytes([octet])) + more)
    except FormatError:
        return
    assert parsed.packets[:1] or at >= 26
