"""Names through the native part, against the kernel's vectors and against plain Python."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecrypt.errors import FormatError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import Names, Secret
from fusecrypt.ondisk.ciphers import CIPHERS, CipherChoice, choose
from tests import names
from tests.unit.ondisk import vectors
from tests.unit.ondisk.vectors import VECTORS

TARGETS = VECTORS["symlink_target"]
CHOICES = [choose(name, key_bytes) for name, spec in CIPHERS.items() for key_bytes in spec.key_sizes]
TOKEN = AuthToken(b"\x92\0signat", Secret.copy(bytes(range(100, 164))))
PREFIX = b"ECRYPTFS_FNEK_ENCRYPTED."


def native(choice: CipherChoice, token: AuthToken = TOKEN) -> Names:
    return Names(choice.code, choice.key_bytes, token.key, token.signature)


CODECS = {choice: native(choice) for choice in CHOICES}

choices = st.sampled_from(CHOICES)
uppers = st.binary(min_size=1, max_size=300).map(lambda name: name.replace(b"\0", b"0"))


def pairs() -> list[tuple[dict[str, Any], bytes, bytes]]:
    """Names and symlink targets: whose keys, upper, lower."""
    found = [(v, bytes.fromhex(v["name"]), v["lower_text"].encode()) for v in vectors.names()]
    return found + [
        (TARGETS, bytes.fromhex(v["target"]), v["lower_target_text"].encode()) for v in TARGETS["vectors"]
    ]


@pytest.mark.parametrize(("vector", "upper", "lower"), pairs())
def test_vectors(vector: dict[str, Any], upper: bytes, lower: bytes) -> None:
    token = vectors.token(vector["fnek_passphrase_text"], vector["fnek_salt"])
    codec = native(vectors.cipher(vector), token)
    assert codec.length(len(upper)) == len(lower)
    assert codec.encode(upper) == lower
    assert codec.decode_target(lower) == upper
    assert codec.decode(lower) == (None if b"/" in upper else upper)
    assert names.encode(token, vectors.cipher(vector), upper) == lower


def target_of(codec: Names, lower: bytes) -> bytes | None:
    """What the target decodes to, or None."""
    try:
        return codec.decode_target(lower)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def agree(choice: CipherChoice, lower: bytes) -> None:
    """The native part and plain Python think the same of a lower name."""
    try:
        expected = names.decode_target(TOKEN, choice, lower)
    except FormatError:
        expected = None
    assert target_of(CODECS[choice], lower) == expected
    assert CODECS[choice].decode(lower) == names.decode(TOKEN, choice, lower)


@given(choices, uppers)
def test_both_ways(choice: CipherChoice, upper: bytes) -> None:
    lower = CODECS[choice].encode(upper)
    assert lower == names.encode(TOKEN, choice, upper)
    assert CODECS[choice].decode_target(lower) == upper
    agree(choice, lower)


@given(choices, uppers, st.data())
def test_damaged_names(choice: CipherChoice, upper: bytes, data: st.DataObject) -> None:
    lower = bytearray(CODECS[choice].encode(upper))
    at = data.draw(st.integers(0, len(lower) - 1))
    lower[at] = data.draw(st.sampled_from(names.ALPHABET) | st.integers(0, 255))
    cut = data.draw(st.integers(0, 5))
    agree(choice, bytes(lower[: len(lower) - cut]) + data.draw(st.sampled_from([b"", b"-", b"----", b"."])))


@given(choices, st.lists(st.binary(min_size=16, max_size=16), max_size=5), st.integers(0, 15))
def test_any_plaintext(choice: CipherChoice, blocks: list[bytes], zeros: int) -> None:
    plaintext = b"".join(blocks) + b"name".ljust(16, b"x")
    agree(choice, names.seal(TOKEN, choice, plaintext))
    agree(choice, names.seal(TOKEN, choice, plaintext[:zeros] + b"\0" + plaintext[zeros + 1 :]))


@given(st.binary(max_size=60) | st.lists(st.sampled_from(names.ALPHABET), max_size=60).map(bytes))
def test_arbitrary_octets(octets: bytes) -> None:
    for lower in (octets, PREFIX + octets, PREFIX + b"FW" + octets):
        agree(CHOICES[0], lower)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_lengths(choice: CipherChoice) -> None:
    codec, block = CODECS[choice], choice.spec.block
    longest = 8374 // block * block - 17
    for n in (1, 15, 16, 143, 144, 158, 159, 160, 167, 168, 3007, longest):
        lower = names.encode(TOKEN, choice, b"n" * n)
        assert codec.length(n) == len(lower)
        assert codec.encode(b"n" * n) == lower
        assert codec.decode_target(lower) == b"n" * n
    for n in (longest + 1, 9000):
        with pytest.raises(OSError, match="too long") as caught:
            codec.encode(b"n" * n)
        assert caught.value.errno == errno.ENAMETOOLONG
        with pytest.raises(ValueError, match="no length encoding"):
            names.encode(TOKEN, choice, b"n" * n)
    assert [codec.longest(limit) for limit in (0, 83, 255)] == [0, 0 if block == 16 else 7, 143]


@pytest.mark.parametrize("upper", [b"", b"\0", b"a\0b"])
def test_what_cannot_be_read_back_is_not_written(upper: bytes) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        CODECS[CHOICES[0]].encode(upper)


def test_wrong_keys() -> None:
    with pytest.raises(ValueError, match="64 are needed"):
        Names(0x07, 16, Secret(63), bytes(8))
    with pytest.raises(ValueError, match="a signature has 8 octets"):
        Names(0x07, 16, Secret(64), bytes(7))
    with pytest.raises(OSError, match="Invalid argument"):
        Names(0x07, 32, Secret(64), bytes(8))
