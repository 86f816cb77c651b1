"""docs/format.md is right: a reader that was written from it alone decodes what the kernel wrote."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from fusecrypt.ondisk.ciphers import CIPHERS
from tests import golden
from tests.docs.reader import DOCS

PAGE = (DOCS / "format.md").read_text()
ALPHABET = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "ECRYPTFS_FNEK_ENCRYPTED."
PASSPHRASE = b"The quick brown fox"


def derived(salt: bytes) -> bytes:
    key = hashlib.sha512(salt + PASSPHRASE).digest()
    for _ in range(65535):
        key = hashlib.sha512(key).digest()
    return key


def decrypted(data: bytes, key: bytes, iv: bytes | None = None) -> bytes:
    return Cipher(AES(key), CBC(iv) if iv else ECB()).decryptor().update(data)


def fek_of(header: bytes, fekek: bytes) -> bytes:
    """With one key, AES-128."""
    assert int.from_bytes(header[8:12]) ^ int.from_bytes(header[12:16]) == 0x3C81B7F5
    assert header[26:30] == bytes.fromhex("8c1d0407")
    assert header[73:81] == hashlib.sha512(fekek).digest()[:8]
    return decrypted(header[41:57], fekek[:16])


def iv(fek: bytes, number: int) -> bytes:
    root = hashlib.md5(fek, usedforsecurity=False).digest()
    return hashlib.md5(root + str(number).encode().ljust(16, b"\0"), usedforsecurity=False).digest()


def contents(lower: bytes, fekek: bytes) -> bytes:
    fek, size = fek_of(lower, fekek), int.from_bytes(lower[:8])
    at = int.from_bytes(lower[20:24]) * int.from_bytes(lower[24:26])
    assert len(lower) == 8192 + 4096 * -(-size // 4096)
    extents = [lower[start : start + 4096] for start in range(at, len(lower), 4096)]
    return b"".join(decrypted(each, fek, iv(fek, n)) for n, each in enumerate(extents))[:size]


def name(lower: str, fnek: bytes) -> bytes:
    assert lower.startswith(PREFIX)
    bits = "".join(f"{ALPHABET.index(character):06b}" for character in lower[len(PREFIX) :])
    packet = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) // 8 * 8, 8))
    start = 2 if packet[1] < 192 else 3
    size = packet[1] if start == 2 else ((packet[1] - 192) << 8) + packet[2] + 192
    assert packet[0] == 0x46
    assert packet[start : start + 8] == hashlib.sha512(fnek).digest()[:8]
    assert packet[start + 8] == 7
    return decrypted(packet[start + 9 : start + size], fnek[:16]).partition(b"\0")[2]


def lower_name(upper: bytes, fnek: bytes) -> str:
    """The way back, for names whose packets have a length of one octet."""
    filling, h = b"", hashlib.md5(fnek, usedforsecurity=False).digest()
    size = 16 + -(17 + len(upper)) % 16
    while len(filling) < size:
        filling, h = filling + h, hashlib.md5(h, usedforsecurity=False).digest()
    plain = filling[:size].replace(b"\0", b"\x42") + b"\0" + upper
    ciphertext = Cipher(AES(fnek[:16]), ECB()).encryptor().update(plain)
    packet = bytes([0x46, 9 + len(ciphertext)]) + hashlib.sha512(fnek).digest()[:8] + b"\7" + ciphertext
    packet += bytes(-len(packet) % 3)
    bits = "".join(f"{octet:08b}" for octet in packet)
    return PREFIX + "".join(ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def test_a_tree_of_the_kernel(tmp_path: Path) -> None:
    tree = golden.tree("aes16-fnek")
    lower = tree.unpack(tmp_path / "lower")
    fekek, fnek = derived(bytes.fromhex("0011223344556677")), derived(b"99887766")
    shown = {entry["path"]: entry for entry in tree.manifest()}
    found = set()
    for directory, _, files in os.walk(lower):
        for file in files:
            path = Path(directory, file)
            upper = b"/".join(name(part, fnek) for part in path.relative_to(lower).parts)
            entry = shown[os.fsdecode(upper)]
            assert lower_name(os.path.basename(upper), fnek) == file
            found.add(upper)
            if path.is_symlink():
                assert os.fsdecode(name(os.readlink(path), fnek)) == entry["target"]
            elif path.is_file():
                assert hashlib.sha256(contents(path.read_bytes(), fekek)).hexdigest() == entry["sha256"]
    assert len(found) > 20


def test_the_example() -> None:
    block = PAGE.partition("## An example")[2].partition("```text\n")[2].partition("```")[0]
    header = bytes.fromhex("".join(line[:38] for line in block.splitlines()))
    values = dict(re.findall(r"^\| ([\w `]+) \| `([^`]+)` \|$", PAGE, re.MULTILINE))
    fek = fek_of(header, derived(bytes.fromhex("0011223344556677")))
    assert fek.hex() == values["FEK"]
    assert iv(fek, 0).hex() == values["IV of extent 0"]
    first = decrypted(bytes.fromhex(values["extent 0 begins"]), fek, iv(fek, 0))
    assert first == b"inside" + bytes(10)
    assert name(values["the name `links` below"], derived(b"99887766")) == b"links"


def test_the_ciphers() -> None:
    rows = re.findall(r"^\| ([0-9a-f]{2}) \| (\w+) \| (\d+) \| ([\d, ]+) \|$", PAGE, re.MULTILINE)
    listed = {
        (word, int(block), int(size), int(code, 16))
        for code, word, block, sizes in rows
        for size in sizes.split(", ")
    }
    assert listed == {
        (spec.name, spec.block, size, code) for spec in CIPHERS.values() for size, code in spec.codes.items()
    }
