"""Write the vectors that concern the native part as C tables: ``vectors.py vectors.json > vectors.h``."""

import json
import sys
from pathlib import Path
from typing import Any

CODES = {"des3_ede": 0x02, "cast5": 0x03, "blowfish": 0x04, "twofish": 0x0A, "cast6": 0x0B}
AES = {16: 0x07, 24: 0x08, 32: 0x09}


def octets(hexadecimal: str) -> str:
    """A C string literal; every octet is an escape, so none can run into the next."""
    return '"' + "".join(f"\\x{octet:02x}" for octet in bytes.fromhex(hexadecimal)) + '"'


def string(text: str) -> str:
    return octets(text.encode().hex())


def size(hexadecimal: str) -> int:
    return len(hexadecimal) // 2


def code(vector: dict[str, Any]) -> int:
    return AES[vector["key_bytes"]] if vector["cipher"] == "aes" else CODES[vector["cipher"]]


def table(kind: str, rows: list[list[object]]) -> None:
    print(f"static const struct {kind}_vector {kind}_vectors[] = {{")
    for row in rows:
        print("    {" + ", ".join(map(str, row)) + "},")
    print("};\n")


def passphrase(v: dict[str, Any]) -> list[object]:
    secret = v["passphrase"]
    return [octets(secret), size(secret), octets(v["salt"]), octets(v["fekek"]), octets(v["sig"])]


def header(v: dict[str, Any]) -> list[object]:
    key, packet = v["keys"][0], v["packets"][0]
    wrapped = packet["encrypted_fek"]
    return [
        string(v["case"]), code(v), v["key_bytes"],
        string(key["passphrase_text"]), len(key["passphrase_text"].encode()), octets(key["salt"]),
        octets(wrapped), size(wrapped), octets(v["fek"]), octets(v["extent0_iv"]),
        octets(v["plaintext"]), size(v["plaintext"]), octets(v["extent0_ciphertext_sha256"]),
    ]  # fmt: skip


def name(v: dict[str, Any]) -> list[object]:
    # The packet : tag, one octet of length, 8 of signature, the cipher code, the ciphertext, filler.
    packet = bytes.fromhex(v["packet"])
    length = packet[1] - 9
    ciphertext = packet[11 : 11 + length].hex()
    return [
        code(v), v["key_bytes"],
        string(v["fnek_passphrase_text"]), len(v["fnek_passphrase_text"].encode()), octets(v["fnek_salt"]),
        octets(v["name"]), size(v["name"]), octets(v["prefix"]), size(v["prefix"]),
        octets(ciphertext), length, string(v["lower_text"]), len(v["lower_text"]),
    ]  # fmt: skip


def target(shared: dict[str, Any], v: dict[str, Any]) -> list[object]:
    return [
        code(shared), shared["key_bytes"],
        string(shared["fnek_passphrase_text"]), len(shared["fnek_passphrase_text"].encode()),
        octets(shared["fnek_salt"]), octets(v["target"]), size(v["target"]),
        string(v["lower_target_text"]), len(v["lower_target_text"]),
    ]  # fmt: skip


def main() -> None:
    data = json.loads(Path(sys.argv[1]).read_text())
    print("/* Made by check/vectors.py. */")
    table("passphrase", [passphrase(v) for v in data["passphrase_to_key"]["vectors"]])
    table(
        "iv",
        [
            [octets(v["fek"]), size(v["fek"]), f"{extent}u", octets(iv)]
            for v in data["extent_iv"]["vectors"]
            for extent, iv in v["ivs"].items()
        ],
    )
    table("header", [header(v) for v in data["file_header"]["vectors"]])
    table("name", [name(v) for v in data["file_name"]["vectors"]])
    targets = data["symlink_target"]
    table("target", [target(targets, v) for v in targets["vectors"]])


main()
