"""What proves that a manifest is the one that was made: a key of the tree, or an Ed25519 key.

Both act on the same message: a prefix of their own, and the SHA-256 of the manifest before its last line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from fusecrypt.errors import FormatError, KeyNotFoundError, SecretError, UsageError
from fusecrypt.keys.crypto import hkdf, hmac_matches, hmac_sha256
from fusecrypt.keys.files import read_secret, read_small
from fusecrypt.keys.strictjson import Fields
from fusecrypt.keys.token import AuthToken
from fusecrypt.tree.policy import Policy

PREFIX = b"fusecrypt/v1/manifest\0"
_INFO = b"fusecrypt/v1/manifest-mac"
_MAX_PEM = 1 << 14


class Seal(Protocol):
    """Makes the last line of a manifest. ``digest`` is the SHA-256 before it, ``salt`` the manifest's."""

    def line(self, salt: bytes, digest: bytes) -> dict[str, Any]: ...


class Check(Protocol):
    """Judges a last line. Raises FormatError if it is not right, other errors if it cannot be judged."""

    def verify(self, line: Fields, salt: bytes, digest: bytes) -> None: ...


class KeySeal:
    """HMAC-SHA256 under a key that derives from a FEKEK."""

    def __init__(self, token: AuthToken) -> None:
        self._token = token

    def line(self, salt: bytes, digest: bytes) -> dict[str, Any]:
        with hkdf(self._token.key, salt, _INFO) as key:
            return {"hmac": hmac_sha256(key, PREFIX + digest).hex(), "key": self._token.sig}


class KeyCheck:
    """The same, with the key of a tree that the line names."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def verify(self, line: Fields, salt: bytes, digest: bytes) -> None:
        if "ed25519" in line:
            raise UsageError(
                "the manifest is signed", "name the public key that it must be signed with: --verify-key"
            )
        line.only("hmac", "key")
        signature = line.hexadecimal("key", 8, 8)
        token = self._policy.token(signature)
        if token is None:
            raise KeyNotFoundError(
                f"the manifest was made with the key {signature.hex()}, which is not at hand",
                "give its passphrase too; after `fusecrypt rekey` make a new manifest",
            )
        with hkdf(token.key, salt, _INFO) as key:
            if not hmac_matches(key, PREFIX + digest, line.hexadecimal("hmac", 32, 32)):
                raise _changed()


class SignatureSeal:
    """An Ed25519 signature."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def read(cls, path: Path) -> SignatureSeal:
        """The private key in a PEM file. Raises OSError, SecretError, KeyFileError."""
        with read_secret(path, _MAX_PEM) as pem:
            try:
                key = load_pem_private_key(pem.view(), password=None)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                raise _no_key(path, "private key without a passphrase") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(path, "private key without a passphrase")
        return cls(key)

    def line(self, salt: bytes, digest: bytes) -> dict[str, Any]:
        public = self._key.public_key().public_bytes_raw()
        return {"ed25519": self._key.sign(PREFIX + digest).hex(), "public": public.hex()}


class SignatureCheck:
    """The same, with a public key that is known from elsewhere."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @classmethod
    def read(cls, path: Path) -> SignatureCheck:
        """The public key in a PEM file. Raises OSError, SecretError, KeyFileError."""
        try:
            key = load_pem_public_key(read_small(path, _MAX_PEM))
        except (ValueError, UnsupportedAlgorithm):
            raise _no_key(path, "public key") from None
        if not isinstance(key, Ed25519PublicKey):
            raise _no_key(path, "public key")
        return cls(key)

    def verify(self, line: Fields, salt: bytes, digest: bytes) -> None:
        if "ed25519" not in line:
            raise FormatError("the manifest is not signed", "without --verify-key the tree's key is taken")
        line.only("ed25519", "public")
        if line.hexadecimal("public", 32, 32) != self._key.public_bytes_raw():
            raise FormatError(
                "the manifest is signed with another key",
                "it must be the one that --verify-key names: do not trust it",
            )
        try:
            self._key.verify(line.hexadecimal("ed25519", 64, 64), PREFIX + digest)
        except InvalidSignature:
            raise _changed() from None


def _no_key(path: Path, what: str) -> SecretError:
    return SecretError(
        f"{path} holds no Ed25519 {what} in PEM", "`openssl genpkey -algorithm ed25519` makes one"
    )


def _changed() -> FormatError:
    return FormatError(
        "the manifest is not the one that was made: its last line does not fit the rest",
        "take another copy of it; nothing was compared",
    )
