"""Recovery keys as text: every slip of the pen is noticed and its group named."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusecrypt.keys.slots.recovery import MistypedRecoveryKeyError, read_key, write_key
from tests.unit.keys.secrets import octets, secret

KEY = bytes(range(1, 33))
TEXT = octets(write_key(secret(KEY))).decode()
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(min_size=32, max_size=32))
def test_keys_come_back(key: bytes) -> None:
    text = write_key(secret(key))
    assert re.fullmatch(rf"([{ALPHABET}]{{5}}-){{12}}[{ALPHABET}]{{5}}", octets(text).decode())
    again = read_key(text)
    assert again is not None
    assert octets(again) == key


def test_case_blanks_and_hyphens_do_not_count() -> None:
    loose = TEXT.lower().replace("-", " ").replace("0", "o").replace("1", "l") + "\r\n"
    for text in (loose, TEXT.replace("-", ""), TEXT.replace("1", "I")):
        again = read_key(secret(text))
        assert again is not None
        assert octets(again) == KEY


def test_every_wrong_character_is_noticed_and_its_group_named() -> None:
    for position, character in enumerate(TEXT):
        for other in ALPHABET if character != "-" else "":
            if other != character:
                _check_group(TEXT[:position] + other + TEXT[position + 1 :], position // 6 + 1)


def test_every_swap_of_neighbours_is_noticed() -> None:
    for position in range(len(TEXT) - 1):
        a, b = TEXT[position], TEXT[position + 1]
        if "-" not in (a, b) and a != b:
            _check_group(TEXT[:position] + b + a + TEXT[position + 2 :], position // 6 + 1)


def test_groups_in_the_wrong_place_are_noticed() -> None:
    groups = TEXT.split("-")
    groups[3], groups[8] = groups[8], groups[3]
    _check_group("-".join(groups), 4)


@pytest.mark.parametrize("text", ["", "hunter2", TEXT[:-1], TEXT + "0", TEXT[:-1] + "U", "ä" * 40, "*" * 65])
def test_other_secrets_are_no_recovery_keys(text: str) -> None:
    assert read_key(secret(text)) is None


def _check_group(text: str, group: int) -> None:
    with pytest.raises(MistypedRecoveryKeyError, match=rf"group {group} of"):
        read_key(secret(text))
