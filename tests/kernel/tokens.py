"""Passphrases as the kernel's keyring wants them: eCryptfs authentication tokens.

Independent of fusecrypt's own derivation, so that the two check one another.
"""

from __future__ import annotations

import hashlib
import struct

DEFAULT_SALT = bytes.fromhex("0011223344556677")
NAME_SALT = b"99887766"  # the tools take the text of a hex constant, not its value


def passphrase_key(passphrase: bytes, salt: bytes) -> tuple[bytes, str]:
    """The 64-octet key of a passphrase and its signature (16 hex digits)."""
    key = salt + passphrase
    for _ in range(65536):
        key = hashlib.sha512(key).digest()
    return key, hashlib.sha512(key).hexdigest()[:16]


def auth_token(key: bytes, signature: str, salt: bytes) -> bytes:
    """The kernel's struct ecryptfs_auth_tok for a passphrase key: 740 octets, little endian."""
    outer = struct.pack("<HHI", 4, 0, 0)  # version 0.4, a passphrase, no flags
    session_key = bytes(12 + 512 + 64)  # lengths, encrypted and decrypted FEK: left to the kernel
    reserved = bytes(32)
    password = struct.pack("<IiIII", 0, 10, 0, len(key), 2)  # SHA-512; the key is set
    return outer + session_key + reserved + password + key + signature.encode() + b"\0" + salt + bytes(3)
