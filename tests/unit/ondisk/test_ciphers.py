"""Cipher names and key sizes as mount options have them, and extent arithmetic."""

from __future__ import annotations

import pytest

from fusecrypt.errors import UsageError
from fusecrypt.ondisk.ciphers import choose
from fusecrypt.ondisk.extents import lower_size, round_up, upper_capacity


@pytest.mark.parametrize("name", ["", "serpent", "AES", "rijndael", "cast-256", "des", "aes\0"])
def test_unknown_ciphers(name: str) -> None:
    with pytest.raises(UsageError, match="unknown cipher"):
        choose(name, 16)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("aes", 0), ("aes", 20), ("aes", 64), ("aes", -16), ("des3_ede", 16), ("cast5", 5), ("cast5", 12),
        ("blowfish", 4), ("blowfish", 20), ("blowfish", 64), ("twofish", 24), ("cast6", 20), ("cast6", 24),
    ],
)  # fmt: skip
def test_key_sizes_that_cannot_create_files(name: str, size: int) -> None:
    with pytest.raises(UsageError, match="cannot have a key") as caught:
        choose(name, size)
    assert "its key sizes are" in caught.value.hint


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        (0, 8192),
        (1, 12288),
        (4095, 12288),
        (4096, 12288),
        (4097, 16384),
        (8192, 16384),
        (2**40, 2**40 + 8192),
    ],
)
def test_lower_sizes(upper: int, lower: int) -> None:
    assert lower_size(upper, 8192) == lower
    assert lower_size(upper, 0) == lower - 8192 == round_up(upper)


def test_whole_extents_of_a_lower_file() -> None:
    for lower, upper in [(0, 0), (8192, 0), (12287, 0), (12288, 4096), (16383, 4096), (16384, 8192)]:
        assert upper_capacity(lower, 8192) == upper
