"""Secrets: octets in locked memory."""

from __future__ import annotations

import copy
import os
import pickle
import re
from pathlib import Path

import pytest

from fusecrypt import native
from fusecrypt.native import Secret


def octets(secret: Secret) -> bytes:
    return bytes(secret.view())


def test_new_secret_is_zero_and_writable() -> None:
    secret = Secret(40)
    assert octets(secret) == bytes(40)
    secret.view()[3] = 7
    assert octets(secret)[3] == 7


def test_negative_length() -> None:
    with pytest.raises(ValueError, match="negative"):
        Secret(-1)


def test_too_much() -> None:
    with pytest.raises(MemoryError):
        Secret(1 << 62)


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_take_wipes_the_source(kind: type[bytearray]) -> None:
    source = kind(b"passphrase")
    assert octets(Secret.take(source)) == b"passphrase"
    assert bytes(source) == bytes(10)


def test_take_refuses_what_it_cannot_wipe() -> None:
    with pytest.raises((BufferError, ValueError)):
        Secret.take(memoryview(b"immutable"))


def test_read_straight_into_a_secret() -> None:
    secret = Secret(6)
    readable, writable = os.pipe()
    os.write(writable, b"secret")
    assert os.readv(readable, [secret.view()]) == 6
    os.close(readable)
    os.close(writable)
    assert octets(secret) == b"secret"


def test_parts_and_join() -> None:
    secret = Secret.copy(b"abcdefgh")
    first, second = secret.part(0, 3), secret.part(3, 8)
    assert octets(second) == b"defgh"
    assert Secret.join([second, first]) == Secret.copy(b"defghabc")
    assert len(Secret.join([])) == 0
    assert len(secret.part(8, 8)) == 0


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 9), (9, 9)])
def test_not_a_part(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="part"):
        Secret.copy(b"abcdefgh").part(start, stop)


def test_equality() -> None:
    secret = Secret.copy(b"abc")
    assert secret == Secret.copy(b"abc")
    assert secret != Secret.copy(b"abd")
    assert secret != Secret.copy(b"abcd")
    assert secret != b"abc"
    with pytest.raises(TypeError):
        hash(secret)


def test_wipe_reaches_those_who_hold_a_view() -> None:
    secret = Secret.copy(b"abc")
    view = secret.view()
    secret.wipe()
    assert bytes(view) == bytes(3)
    assert len(secret) == 0
    assert octets(secret) == b""


def test_view_outlives_its_secret() -> None:
    view = Secret.copy(b"abc").view()
    others = [Secret.copy(b"xyz") for _ in range(50)]
    assert bytes(view) == b"abc"
    assert len(others) == 50


def test_context_manager_wipes() -> None:
    with Secret.copy(b"abc") as secret:
        view = secret.view()
    assert bytes(view) == bytes(3)


def test_shown_by_length_only() -> None:
    assert repr(Secret.copy(b"abc")) == "<Secret of 3 octets>"
    assert "abc" not in f"{Secret.copy(b'abc')}"


def test_never_copied_behind_our_back() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied"):
            attempt(Secret.copy(b"abc"))


def test_memory_is_left_out_of_dumps() -> None:
    """/proc/self/smaps marks the mapping as not dumped ("dd") and not forked ("dc")."""
    secret = Secret(64)
    address = int(re.findall(r"0x[0-9a-f]+", repr(secret._memory))[0], 16)
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            assert {"dd", "dc"} <= set(line.split())
            if native.memory_locked():
                assert "lo" in line.split()
            return
    pytest.fail("the mapping was not found")


def test_export_and_import() -> None:
    fd = native.export_memory([Secret.copy(b"abc"), Secret.copy(b"defgh")])
    try:
        assert not os.get_inheritable(fd)
        secret = native.import_memory(fd, 8)
        assert octets(secret) == b"abcdefgh"
        assert octets(native.import_memory(fd, 8)) == bytes(8)
        with pytest.raises(OSError, match="Invalid argument"):
            native.import_memory(fd, 9)
    finally:
        os.close(fd)


def test_a_short_key_is_refused() -> None:
    short = Secret(63)
    with pytest.raises(ValueError, match="63 octets, 64 are needed"):
        native.signature(short)
    with pytest.raises(ValueError, match="63 octets"):
        native.name_prefix(short, 16)
    with pytest.raises(ValueError, match="octets"):
        native.Cipher(0x09, 32, Secret(31))
    with pytest.raises(ValueError, match="salt"):
        native.passphrase_key(Secret.copy(b"test"), b"1234567")
