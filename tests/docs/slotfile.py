"""Key-slot files read and made from docs/keys.md alone: nothing of fusecrypt is used."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Json = dict[str, Any]

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GROUPS = 13
MASTER = "trusted:fusecrypt"


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def hkdf(key: bytes, volume: str, info: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, bytes.fromhex(volume), info.encode()).derive(key)


def argon2id(kdf: Json, typed: str, length: int) -> bytes:
    stretch = Argon2id(
        salt=base64.b64decode(kdf["salt"]),
        length=length,
        iterations=kdf["time"],
        lanes=kdf["lanes"],
        memory_cost=kdf["memory"],
    )
    return stretch.derive(unicodedata.normalize("NFC", typed).encode())


def associated(volume: str, slot: Json) -> bytes:
    members = {name: value for name, value in slot.items() if name not in ("wrap", "label", "created")}
    return canonical({"volume": volume, "slot": members})


def check_character(number: int, values: list[int]) -> int:
    for value in values:
        number = (number ^ value) << 1
        number ^= 0b100101 if number & 32 else 0
    return number


def recovery_octets(written: str) -> bytes:
    values = [ALPHABET.index(each) for each in written.replace("-", "")]
    bits = 0
    for group in range(GROUPS):
        *data, check = values[5 * group : 5 * group + 5]
        assert check_character(group + 1, data) == check
        for value in data:
            bits = bits << 5 | value
    return (bits >> 4).to_bytes(32, "big")


def recovery_text(octets: bytes) -> str:
    bits = int.from_bytes(octets, "big") << 4
    values = [bits >> 5 * place & 31 for place in reversed(range(4 * GROUPS))]
    groups = []
    for group in range(GROUPS):
        data = values[4 * group : 4 * group + 4]
        groups.append("".join(ALPHABET[each] for each in [*data, check_character(group + 1, data)]))
    return "-".join(groups)


def volume_key(document: Json, slot: Json, typed: str, tcti: str, directory: Path) -> bytes:
    """What a slot yields to what its user has."""
    volume = document["volume"]
    if slot["type"] == "passphrase":
        key = argon2id(slot["kdf"], typed, 32)
    elif slot["type"] == "recovery":
        key = hkdf(recovery_octets(typed), volume, "fusecrypt/v1/recovery")
    else:
        both = argon2id(slot["tpm2"]["pin"]["kdf"], typed, 52) if "pin" in slot["tpm2"] else b""
        sealed = unsealed(slot["tpm2"], both[:20], tcti, directory)
        if slot["tpm2"]["mode"] == "direct":
            return sealed
        key = hkdf(sealed + both[20:], volume, "fusecrypt/v1/tpm2-split")
    wrap = slot["wrap"]
    nonce, data = base64.b64decode(wrap["nonce"]), base64.b64decode(wrap["data"])
    return AESGCM(key).decrypt(nonce, data, associated(volume, slot))


def unsealed(tpm2: Json, auth: bytes, tcti: str, directory: Path) -> bytes:
    """What tpm2-tools unseal of a blob, whose two last elements are the public and the private part."""
    (octets, *_) = elements(base64.b64decode(tpm2["blob"]))
    for name, part in zip(("public", "private"), elements(octets)[-2:], strict=True):
        (directory / name).write_bytes(part)

    def tool(*words: str) -> bytes:
        return subprocess.run([*words, "--tcti", tcti], cwd=directory, capture_output=True, check=True).stdout

    parent = tpm2["parent"]["handle"]
    tool("tpm2_load", "-C", parent, "-u", "public", "-r", "private", "-c", "loaded")
    tool("tpm2_flushcontext", "-t")
    octets = tool("tpm2_unseal", "-c", "loaded", *(["-p", f"hex:{auth.hex()}"] if auth else []))
    tool("tpm2_flushcontext", "-t")
    return octets


def elements(data: bytes) -> list[bytes]:
    """The contents of the DER elements in a row."""
    found = []
    while data:
        length, rest = data[1], data[2:]
        if length & 0x80:
            size = length & 0x7F
            length, rest = int.from_bytes(rest[:size], "big"), rest[size:]
        found.append(rest[:length])
        data = rest[length:]
    return found


def mac(document: Json, key: bytes) -> str:
    members = {name: value for name, value in document.items() if name != "mac"}
    made = hmac.digest(hkdf(key, document["volume"], "fusecrypt/v1/file-mac"), canonical(members), "sha256")
    return text(made)


def blob_key(label: str, master: bytes) -> bytes:
    return hashlib.sha256((label.encode() + b"\0" + master).ljust(9 + 32, b"\0")).digest()


def blob_mac(master: bytes, iv: bytes, sealed: bytes) -> bytes:
    head = b"\0".join([b"ecryptfs", MASTER.encode(), b"64", iv])
    return hmac.digest(blob_key("AUTH_KEY", master), head + b"\0" + sealed, "sha256")


def keys(document: Json, master: bytes) -> dict[str, bytes]:
    """The tree's keys by their signatures."""
    found = {}
    for each in document["keys"]:
        kind, name, size, digits = each["blob"].split(" ")
        assert (kind, name, size) == ("ecryptfs", MASTER, "64")
        octets = bytes.fromhex(digits)
        iv, sealed = octets[:16], octets[17:81]
        assert octets == iv + b"\0" + sealed + blob_mac(master, iv, sealed)
        cipher = Cipher(algorithms.AES(blob_key("ENC_KEY", master)), modes.CBC(iv)).decryptor()
        found[each["sig"]] = cipher.update(sealed) + cipher.finalize()
    return found


def make(tree_keys: dict[str, tuple[str, bytes]], typed: str, recovery: bytes) -> Json:
    """A file with these keys (use and octets by signature), a passphrase slot and a recovery slot."""
    volume, master = os.urandom(16).hex(), os.urandom(32)
    listed = []
    for sig, (use, octets) in tree_keys.items():
        iv = os.urandom(16)
        cipher = Cipher(algorithms.AES(blob_key("ENC_KEY", master)), modes.CBC(iv)).encryptor()
        sealed = cipher.update(octets) + cipher.finalize()
        digits = (iv + b"\0" + sealed + blob_mac(master, iv, sealed)).hex()
        listed.append({"sig": sig, "use": [use], "blob": f"ecryptfs {MASTER} 64 {digits}"})
    kdf = {"name": "argon2id", "salt": text(os.urandom(16)), "time": 3, "memory": 65536, "lanes": 4}
    slots: list[Json] = [
        {"id": 0, "type": "passphrase", "kdf": kdf, "label": "mühle"},
        {"id": 7, "type": "recovery"},
    ]
    wraps = [argon2id(kdf, typed, 32), hkdf(recovery, volume, "fusecrypt/v1/recovery")]
    for slot, key in zip(slots, wraps, strict=True):
        nonce = os.urandom(12)
        data = AESGCM(key).encrypt(nonce, master, associated(volume, slot))
        slot["wrap"] = {"alg": "aes-256-gcm", "nonce": text(nonce), "data": text(data)}
    document: Json = {"format": "fusecrypt-keyslots", "version": 1, "volume": volume, "seq": 5}
    document |= {"keys": listed, "slots": slots}
    return {**document, "mac": mac(document, master)}
