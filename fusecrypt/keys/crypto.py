"""The few primitives of the key layer, with keys in Secret memory on both sides.

`cryptography` takes any buffer and writes into one, so no key passes through an ordinary Python
object. What OpenSSL keeps inside its own contexts is freed, and wiped, by OpenSSL.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fusecrypt.native import Secret

BLOCK = 16
"""Octets of an AES block."""

TAG = 16
"""Octets that AES-GCM adds."""


def random_secret(size: int) -> Secret:
    """``size`` random octets, read from the kernel straight into secret memory."""
    secret = Secret(size)
    descriptor = os.open("/dev/urandom", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.readv(descriptor, [secret.view()]) != size:
            raise OSError("/dev/urandom gave too little")
    finally:
        os.close(descriptor)
    return secret


def hkdf(key: Secret, salt: bytes, info: bytes, size: int = 32) -> Secret:
    """HKDF-SHA256 of a key."""
    derived = Secret(size)
    HKDF(hashes.SHA256(), size, salt, info).derive_into(key.view(), derived.view())
    return derived


def hmac_sha256(key: Secret, data: bytes) -> bytes:
    """HMAC-SHA256, 32 octets."""
    context = hmac.HMAC(key.view(), hashes.SHA256())
    context.update(data)
    return context.finalize()


def hmac_matches(key: Secret, data: bytes, expected: bytes) -> bool:
    """Whether ``expected`` is the HMAC-SHA256 of the data, compared in constant time."""
    context = hmac.HMAC(key.view(), hashes.SHA256())
    context.update(data)
    try:
        context.verify(expected)
    except InvalidSignature:
        return False
    return True


def gcm_encrypt(key: Secret, nonce: bytes, data: Secret, associated: bytes) -> bytes:
    """AES-256-GCM; the result is 16 octets longer than the data."""
    sealed = bytearray(len(data) + TAG)
    AESGCM(key.view()).encrypt_into(nonce, data.view(), associated, sealed)
    return bytes(sealed)


def gcm_decrypt(key: Secret, nonce: bytes, data: bytes, associated: bytes) -> Secret | None:
    """The plain octets, or None if key, nonce, data or associated data do not belong together."""
    plain = Secret(len(data) - TAG)
    try:
        AESGCM(key.view()).decrypt_into(nonce, data, associated, plain.view())
    except InvalidTag:
        plain.wipe()
        return None
    return plain


def ecb_encrypt(key: Secret, data: Secret) -> bytes:
    """AES-ECB of whole blocks."""
    return _encrypt(_ecb(key).encryptor(), data)


def ecb_decrypt(key: Secret, data: bytes) -> Secret:
    """The reverse of ecb_encrypt()."""
    return _decrypt(_ecb(key).decryptor(), data)


def cbc_encrypt(key: Secret, iv: bytes, data: Secret) -> bytes:
    """AES-CBC of whole blocks."""
    return _encrypt(Cipher(algorithms.AES(key.view()), modes.CBC(iv)).encryptor(), data)


def cbc_decrypt(key: Secret, iv: bytes, data: bytes) -> Secret:
    """The reverse of cbc_encrypt()."""
    return _decrypt(Cipher(algorithms.AES(key.view()), modes.CBC(iv)).decryptor(), data)


def _ecb(key: Secret) -> Cipher[modes.ECB]:
    mode = modes.ECB()  # noqa: S305 - what wrapped passphrases are made with; there is no choice
    return Cipher(algorithms.AES(key.view()), mode)


def _encrypt(context: CipherContext, data: Secret) -> bytes:
    return context.update(data.view()) + context.finalize()


def _decrypt(context: CipherContext, data: bytes) -> Secret:
    # update_into() asks for room for one block more than it writes.
    with Secret(len(data) + BLOCK - 1) as room:
        context.update_into(data, room.view())
        context.finalize()
        return room.part(0, len(data))
