"""The project's vectors, and malformed octets made from them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from fusecrypt.keys.token import AuthToken
from fusecrypt.native import Secret
from fusecrypt.ondisk.ciphers import CipherChoice, choose

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "vectors.json").read_text())


def headers() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = VECTORS["file_header"]["vectors"]
    return found


def names() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = VECTORS["file_name"]["vectors"]
    return found


@functools.cache
def token(passphrase: str, salt: str) -> AuthToken:
    return AuthToken.from_passphrase(Secret.copy(passphrase.encode()), bytes.fromhex(salt))


def cipher(vector: dict[str, Any]) -> CipherChoice:
    return choose(vector["cipher"], vector["key_bytes"])


def header(case: str = "aes16-fnek") -> bytes:
    """A header that the kernel wrote, without its zero fill."""
    return next(bytes.fromhex(vector["header"]) for vector in headers() if vector["case"] == case)


def patched(data: bytes, at: int, octets: bytes) -> bytes:
    """``data`` with some octets replaced."""
    return data[:at] + octets + data[at + len(octets) :]
