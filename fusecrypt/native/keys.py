"""From passphrases to keys and their signatures, and keyed block ciphers."""

from __future__ import annotations

from typing import Any

from fusecrypt._native import ffi, lib
from fusecrypt.native.base import KEY_BYTES, SALT_BYTES, SIGNATURE_BYTES, check
from fusecrypt.native.secret import Secret, octets_of


def passphrase_key(passphrase: Secret, salt: bytes) -> Secret:
    """The FEKEK or FNEK (64 octets) of a passphrase: 65536 rounds of SHA-512, salt first."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} octets")
    key = Secret(KEY_BYTES)
    check(lib.fc_passphrase_key(passphrase._memory, len(passphrase), salt, key._memory))
    return key


def signature(key: Secret) -> bytes:
    """The signature (8 octets) that names a FEKEK or FNEK: the beginning of its SHA-512."""
    out = ffi.new("uint8_t[]", SIGNATURE_BYTES)
    check(lib.fc_signature(octets_of(key, KEY_BYTES), out))
    return bytes(ffi.buffer(out))


def name_prefix(key: Secret, n: int) -> bytes:
    """``n`` octets (16 to 64) that stand before an encrypted name: the MD5 chain of the FNEK.

    Zero octets are replaced by 0x42, since the first zero octet marks the beginning of the name.
    """
    out = ffi.new("uint8_t[]", max(n, 0))
    check(lib.fc_name_prefix(octets_of(key, KEY_BYTES), out, n))
    return bytes(ffi.buffer(out))


class Cipher:
    """A block cipher in ECB mode, keyed: for FEKs, file names and symlink targets.

    ``code`` is the cipher's code on disk, ``key`` has at least ``key_bytes`` octets of which the first
    are used. Raises OSError: EINVAL if the two are no pair that eCryptfs can use, ENOTSUP if this
    system's library lacks the cipher. Any number of blocks may be taken in one call.
    """

    __slots__ = ("_cipher", "block_size")

    def __init__(self, code: int, key_bytes: int, key: Secret) -> None:
        self.block_size: int = check(lib.fc_block_size(code, key_bytes))
        out = ffi.new("fc_cipher **")
        check(lib.fc_cipher_new(code, key_bytes, octets_of(key, key_bytes), out))
        self._cipher = ffi.gc(out[0], lib.fc_cipher_free)

    def encrypt(self, data: bytes) -> bytes:
        """Whole blocks; OSError (EINVAL) otherwise."""
        return _transform(lib.fc_ecb_encrypt, self._cipher, data)

    def decrypt(self, data: bytes) -> bytes:
        """Whole blocks; OSError (EINVAL) otherwise."""
        return _transform(lib.fc_ecb_decrypt, self._cipher, data)


def _transform(function: Any, cipher: Any, data: bytes) -> bytes:
    out = ffi.new("uint8_t[]", len(data))
    check(function(cipher, data, out, len(data)))
    result: bytes = ffi.buffer(out)[:]
    return result
