"""What root finds in a daemon's memory: keys in their own pages only, what opened the tree nowhere."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.keys.token import FNEK_SALT, AuthToken
from fusecrypt.native import Cipher
from fusecrypt.ondisk.extents import EXTENT
from fusecrypt.ondisk.header import READ_SIZE, parse_header
from tests.mount.support import PATIENCE, Mount, mounted
from tests.mount.test_keys_custody import Region, memory_of
from tests.unit.keys.secrets import octets, secret

PASSPHRASE = b"mQ7 words that stand nowhere else"
TEXT = b"something"
CIPHERS = {"aes": 16, "twofish": 32, "cast6": 32, "blowfish": 16}


def places_of(pid: int, word: bytes) -> list[Region]:
    return [region for region, data in memory_of(pid) if word in data]


def fek_of(lower: Path, key: AuthToken) -> bytes:
    """The FEK of a lower file that holds TEXT, proved by its first octets."""
    data = lower.read_bytes()
    (packet,) = parse_header(data[:READ_SIZE]).passphrase_packets
    choice = packet.cipher
    fek = Cipher(choice.code, choice.key_bytes, key.key).decrypt(packet.wrapped_fek)[: choice.key_bytes]
    with secret(fek) as itself:
        chained = Cipher(choice.code, choice.key_bytes, itself).decrypt(data[8192:][:16])
    iv = hashlib.md5(hashlib.md5(fek).digest() + b"0".ljust(16, b"\0")).digest()
    assert bytes(a ^ b for a, b in zip(chained[:8], iv, strict=False)) == TEXT[:8]
    return fek


@pytest.fixture(params=CIPHERS)
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mount]:
    words = f"ecryptfs_cipher={request.param},ecryptfs_key_bytes={CIPHERS[request.param]}"
    with mounted(tmp_path / "lower", "-o", words, passphrases=[PASSPHRASE]) as mount:
        yield mount


def test_where_keys_are(mount: Mount) -> None:
    with secret(PASSPHRASE) as passphrase:
        content, names = (
            AuthToken.from_passphrase(passphrase),
            AuthToken.from_passphrase(passphrase, FNEK_SALT),
        )
    path = mount.path / "file"
    path.write_bytes(b"something")
    fek = fek_of(next(mount.lower.iterdir()), content)
    with path.open("r+b") as file:
        for n in (1, 40):  # by either engine, and on several cores
            file.write(os.urandom(n * EXTENT))
            os.fsync(file.fileno())
            file.seek(0)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.read()
        for key in (octets(content.key)[:16], octets(names.key)[:16], fek):
            assert all({"lo", "dd"} <= region.flags for region in places_of(mount.pid, key))
        assert not places_of(mount.pid, PASSPHRASE)
    deadline = time.monotonic() + PATIENCE
    while found := places_of(mount.pid, fek):
        assert time.monotonic() < deadline, f"the FEK is still in {found}"
        time.sleep(0.05)
