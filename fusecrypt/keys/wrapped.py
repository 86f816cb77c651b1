"""Wrapped passphrases of ecryptfs-utils: a mount passphrase encrypted under another passphrase.

The wrapping passphrase and a salt give 64 octets as for a mount key; their first 16 are an AES-128
key, and the passphrase, filled with zero octets to whole blocks, is encrypted with it in ECB. The
signature of the wrapping key is stored and tells a wrong wrapping passphrase.

Version 1 is ``signature as 16 hex digits || body``, its salt is not stored. Version 2 is
``":" 02 || salt (8) || signature as 16 hex digits || body``.
"""

from __future__ import annotations

import os
import string
from dataclasses import dataclass, field, replace
from pathlib import Path

from fusecrypt.errors import SecretError
from fusecrypt.keys.crypto import BLOCK, ecb_decrypt, ecb_encrypt
from fusecrypt.keys.errors import KeyFileError, WrongSecretError
from fusecrypt.keys.files import read_small, replace_file
from fusecrypt.keys.token import DEFAULT_SALT, MAX_PASSPHRASE
from fusecrypt.native import Secret, passphrase_key, signature

MAX_FILE = 4096
"""Wrapped passphrases have at most 90 octets; more than this is something else."""

VERSION_2 = b":\x02"
_AES_128 = 16
_SALT = 8
_SIG_TEXT = 16


@dataclass(frozen=True)
class WrappedPassphrase:
    """``version`` is 1 or 2, ``salt`` 8 octets, ``signature`` 8, ``body`` 16 to 64; ``path`` is the file."""

    version: int
    salt: bytes
    signature: bytes
    body: bytes
    path: Path | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, data: bytes, salt: bytes = DEFAULT_SALT) -> WrappedPassphrase:
        """Take a file's octets apart; ``salt`` is used for version 1, which does not store it.

        Raises KeyFileError. Zero blocks at the end are not part of the body: there are version 1
        files that are filled with zeros to 80 octets.
        """
        if data[:1] == b":":
            if data[:2] != VERSION_2:
                raise KeyFileError("this version of wrapped passphrases is not known", "versions 1 and 2 are")
            version, salt, rest = 2, data[2 : 2 + _SALT], data[2 + _SALT :]
        else:
            version, rest = 1, data
        sig, body = rest[:_SIG_TEXT], rest[_SIG_TEXT:]
        if len(sig) != _SIG_TEXT or any(octet not in string.hexdigits.encode() for octet in sig):
            raise KeyFileError("this is no wrapped passphrase: its signature is not 16 hex digits")
        if len(body) % BLOCK or not BLOCK <= len(body) <= MAX_PASSPHRASE:
            raise KeyFileError(f"this is no wrapped passphrase: its body has {len(body)} octets")
        while len(body) > BLOCK and body.endswith(bytes(BLOCK)):
            body = body[:-BLOCK]
        return cls(version, salt, bytes.fromhex(sig.decode()), body)

    def unwrap(self, wrapping: Secret) -> Secret:
        """The mount passphrase; it ends at the first zero octet.

        Raises WrongSecretError if the wrapping passphrase is wrong.
        """
        with _wrapping_key(wrapping, self.salt) as key:
            if signature(key) != self.signature:
                raise WrongSecretError(
                    "the wrapping passphrase is wrong",
                    "it is usually the login password that was set when the file was made",
                )
            with key.part(0, _AES_128) as cipher_key, ecb_decrypt(cipher_key, self.body) as plain:
                length = next((n for n, octet in enumerate(plain.view()) if octet == 0), len(plain))
                if length == 0:
                    raise KeyFileError("the wrapped passphrase is empty")
                return plain.part(0, length)

    @classmethod
    def wrap(
        cls, passphrase: Secret, wrapping: Secret, *, version: int = 2, salt: bytes | None = None
    ) -> WrappedPassphrase:
        """Wrap a passphrase; the salt is random for version 2 and the default for version 1.

        Raises SecretError for passphrases that are empty, too long or contain a zero octet.
        """
        _check(passphrase, "passphrase")
        if salt is None:
            salt = os.urandom(_SALT) if version == 2 else DEFAULT_SALT
        with _wrapping_key(wrapping, salt) as key, key.part(0, _AES_128) as cipher_key:
            with Secret(-(-len(passphrase) // BLOCK) * BLOCK) as padded:
                padded.view()[: len(passphrase)] = passphrase.view()
                body = ecb_encrypt(cipher_key, padded)
            return cls(version, salt, signature(key), body)

    def encode(self) -> bytes:
        """The file's octets."""
        head = VERSION_2 + self.salt if self.version == 2 else b""
        return head + self.signature.hex().encode() + self.body


def read_wrapped(path: Path, salt: bytes = DEFAULT_SALT) -> WrappedPassphrase:
    """Read a file; OSError or KeyFileError."""
    data = read_small(path, MAX_FILE)
    try:
        return replace(WrappedPassphrase.parse(data, salt), path=path)
    except KeyFileError as error:
        hint = error.hint or f"`fusecrypt identify {path}` says what it is"
        raise KeyFileError(f"{path}: {error}", hint) from None


def write_wrapped(path: Path, wrapped: WrappedPassphrase) -> None:
    """Write a file, mode 0600, of the same owner as before; after a crash it is the old or the new one."""
    replace_file(path, wrapped.encode())


def _wrapping_key(wrapping: Secret, salt: bytes) -> Secret:
    _check(wrapping, "wrapping passphrase")
    return passphrase_key(wrapping, salt)


def _check(passphrase: Secret, what: str) -> None:
    if not 1 <= len(passphrase) <= MAX_PASSPHRASE:
        raise SecretError(f"the {what} has {len(passphrase)} octets; eCryptfs takes 1 to {MAX_PASSPHRASE}")
    if any(octet == 0 for octet in passphrase.view()):
        raise SecretError(f"the {what} contains a zero octet, which ecryptfs-utils cannot store")
