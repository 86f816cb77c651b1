"""The auth token: a mount-wide key, its signature, and the salt it was derived with."""

from __future__ import annotations

from dataclasses import dataclass

from fusecrypt.errors import SecretError
from fusecrypt.native import Secret, passphrase_key, signature

KEY_BYTES = 64
"""Octets of a FEKEK or FNEK; a cipher uses the first key_bytes of them."""

MAX_PASSPHRASE = 64
"""eCryptfs refuses longer passphrases (they are not cut)."""

DEFAULT_SALT = bytes.fromhex("0011223344556677")

FNEK_SALT = b"99887766"
"""ecryptfs-utils passes the hex text of its file-name salt on undecoded; eight characters are used."""

ENCRYPTED_KEY_SALT = bytes(8)
"""What headers carry for keys of the kernel's type `encrypted`."""


@dataclass(frozen=True)
class AuthToken:
    """A FEKEK or FNEK. ``signature`` is 8 octets, ``key`` 64, ``salt`` 8 (copied into headers)."""

    signature: bytes
    key: Secret
    salt: bytes = DEFAULT_SALT

    @property
    def sig(self) -> str:
        """The signature as text: 16 lower-case hex digits."""
        return self.signature.hex()

    @classmethod
    def from_passphrase(cls, passphrase: Secret, salt: bytes = DEFAULT_SALT) -> AuthToken:
        """Derive a token as ecryptfs-utils does: 65,536 rounds of SHA-512 over salt and passphrase.

        Raises SecretError for a passphrase that is empty or longer than 64 octets.
        """
        if not 1 <= len(passphrase) <= MAX_PASSPHRASE:
            what = "is empty" if len(passphrase) == 0 else f"has {len(passphrase)} octets"
            raise SecretError(
                f"the passphrase {what}; eCryptfs takes 1 to {MAX_PASSPHRASE} octets",
                "check the file or prompt that it came from",
            )
        key = passphrase_key(passphrase, salt)
        return cls(signature(key), key, salt)
