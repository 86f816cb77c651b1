"""Ciphers and runs of extents: engines against each other and against other implementations."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as Reference
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from fusecrypt import native
from fusecrypt.native import Cipher, FileKey, Secret

AES = [(0x07, 16), (0x08, 24), (0x09, 32)]
OTHERS = [(0x02, 24), (0x03, 8), (0x03, 16), *((0x04, n) for n in range(8, 57, 8))]
OTHERS += [(0x0A, 16), (0x0A, 32), (0x0B, 16), (0x0B, 32)]


@pytest.fixture(autouse=True)
def best_engine() -> Iterator[None]:
    best = native.engine()
    yield
    native.set_engine(best)


def seeded(n: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(n)


def reference_extents(fek: bytes, first: int, data: bytes) -> bytes:
    """AES-CBC of each extent by OpenSSL, with the IV by its definition."""
    root_iv = hashlib.md5(fek).digest()
    out = b""
    for i in range(len(data) // 4096):
        iv = hashlib.md5(root_iv + str(first + i).encode().ljust(16, b"\0")).digest()
        encryptor = Reference(algorithms.AES(fek), modes.CBC(iv)).encryptor()
        out += encryptor.update(data[4096 * i : 4096 * (i + 1)]) + encryptor.finalize()
    return out


@pytest.mark.parametrize(("code", "key_bytes"), AES)
@pytest.mark.parametrize("engine", ["ipsec-mb", "portable"])
def test_aes_extents(code: int, key_bytes: int, engine: str) -> None:
    native.set_engine(engine if native.engine() == "ipsec-mb" else "portable")
    fek = seeded(key_bytes)
    key = FileKey.from_secret(code, key_bytes, Secret.copy(fek))
    data = seeded(40 * 4096)
    expected = reference_extents(fek, 90, data)
    for count in range(1, 41):
        n = count * 4096
        assert key.encrypt_extents(90, data[:n]) == expected[:n]
        assert key.decrypt_extents(90, expected[:n]) == data[:n]


@given(st.binary(min_size=32, max_size=32), st.integers(0, 10**15 - 10), st.integers(0, 9))
def test_aes_extents_anywhere(fek: bytes, first: int, count: int) -> None:
    key = FileKey.from_secret(0x09, 32, Secret.copy(fek))
    data = seeded(count * 4096)
    assert key.encrypt_extents(first, data) == reference_extents(fek, first, data)


@pytest.mark.parametrize(("code", "key_bytes"), AES + OTHERS)
def test_engines_agree(code: int, key_bytes: int) -> None:
    key = FileKey.from_secret(code, key_bytes, Secret.copy(seeded(key_bytes)))
    data = seeded(40 * 4096)
    best = key.encrypt_extents(7, data)
    native.set_engine("portable")
    for count in range(1, 41):
        assert key.encrypt_extents(7, data[: count * 4096]) == best[: count * 4096]
    assert key.decrypt_extents(7, best) == data


@pytest.mark.parametrize(("code", "key_bytes"), AES)
def test_aes_blocks(code: int, key_bytes: int) -> None:
    key, data = seeded(key_bytes), seeded(160)
    encryptor = Reference(algorithms.AES(key), modes.ECB()).encryptor()
    cipher = Cipher(code, key_bytes, Secret.copy(key + bytes(8)))
    assert cipher.block_size == 16
    assert cipher.encrypt(data) == encryptor.update(data) + encryptor.finalize()
    assert cipher.decrypt(cipher.encrypt(data)) == data


@pytest.mark.parametrize(("code", "key_bytes"), AES + OTHERS)
def test_wrapping(code: int, key_bytes: int) -> None:
    fekek = Secret.copy(seeded(64))
    n = 32 if code == 0x08 else key_bytes
    key = FileKey.random(code, key_bytes)
    wrapped = key.wrap(fekek, n)
    again = FileKey.unwrap(code, key_bytes, fekek, wrapped)
    assert again.extent_iv(1) == key.extent_iv(1) != FileKey.random(code, key_bytes).extent_iv(1)
    for wrong in (wrapped[:-8], wrapped + bytes(8), b""):
        with pytest.raises(OSError, match="Invalid argument"):
            FileKey.unwrap(code, key_bytes, fekek, wrong)


def test_aes_192_is_padded_with_zeros() -> None:
    fekek, fek = seeded(64), seeded(24, 1)
    wrapped = FileKey.from_secret(0x08, 24, Secret.copy(fek)).wrap(Secret.copy(fekek), 32)
    assert Cipher(0x08, 24, Secret.copy(fekek)).decrypt(wrapped) == fek + bytes(8)


@pytest.mark.parametrize(("code", "key_bytes"), [(0x01, 16), (0x07, 32), (0x04, 64), (0x0A, 24), (0x0B, 24)])
def test_no_such_pair(code: int, key_bytes: int) -> None:
    key = Secret(64)
    for make in (
        lambda: Cipher(code, key_bytes, key),
        lambda: FileKey.random(code, key_bytes),
        lambda: FileKey.from_secret(code, key_bytes, key),
        lambda: FileKey.unwrap(code, key_bytes, key, bytes(key_bytes)),
    ):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            make()
        assert caught.value.errno == errno.EINVAL


def test_part_blocks_and_part_extents() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        Cipher(0x07, 16, Secret(16)).encrypt(bytes(17))
    with pytest.raises(ValueError, match="extents"):
        FileKey.random(0x07, 16).encrypt_extents(0, bytes(4097))


def test_closed_key() -> None:
    key = FileKey.random(0x07, 16)
    key.close()
    key.close()
    with pytest.raises(TypeError):
        key.encrypt_extents(0, bytes(4096))


def test_engine_names() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        native.set_engine("abacus")
    native.set_engine("portable")
    assert native.engine() == "portable"


@pytest.mark.parametrize(("code", "key_bytes"), [(0x09, 32), (0x0A, 32), (0x0B, 32)])
def test_threads_share_a_key(code: int, key_bytes: int) -> None:
    key = FileKey.from_secret(code, key_bytes, Secret.copy(seeded(key_bytes)))
    data = os.urandom(16 * 4096)
    expected = key.encrypt_extents(0, data)
    results: list[bytearray] = []
    workers = [
        threading.Thread(target=lambda: results.extend(key.encrypt_extents(0, data) for _ in range(5)))
        for _ in range(6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 30
    assert all(result == expected for result in results)


def test_many_open_files() -> None:
    """A key is a small block of memory: as many as there are descriptors, and more."""
    keys = [FileKey.random(0x04, 16) for _ in range(20000)]
    data = bytes(4096)
    assert len({bytes(key.encrypt_extents(0, data)) for key in keys[:: len(keys) // 50]}) == 50


@pytest.mark.parametrize("key_bytes", [16, 24, 32])
def test_the_machines_limit_is_measured_with_real_work(key_bytes: int) -> None:
    if native.engine() != "ipsec-mb":
        with pytest.raises(OSError, match=os.strerror(errno.ENOTSUP)):
            native.raw_cbc(key_bytes, False, bytes(4096), bytearray(4096), 1)
        return
    data, out, back = seeded(300 * 4096), bytearray(300 * 4096), bytearray(300 * 4096)
    native.raw_cbc(key_bytes, False, data, out, 2)
    for at in range(0, len(data), 4096):
        encryptor = Reference(algorithms.AES(bytes(key_bytes)), modes.CBC(bytes(16))).encryptor()
        assert encryptor.update(data[at : at + 4096]) == out[at : at + 4096]
    native.raw_cbc(key_bytes, True, out, back, 1)
    assert back == data


def test_extents_go_where_the_caller_says() -> None:
    key, data, out = FileKey.random(0x09, 32), seeded(3 * 4096), bytearray(3 * 4096)
    key.encrypt_into(7, data, out)
    assert out == key.encrypt_extents(7, data)
    key.decrypt_into(7, out, out)
    assert out == data
    with pytest.raises(ValueError, match="length"):
        key.encrypt_into(7, data, bytearray(4096))
