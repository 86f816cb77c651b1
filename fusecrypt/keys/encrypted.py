"""Keys of the kernel's type ``encrypted`` in their text form, opened and made without the kernel.

``FORMAT MASTER LEN HEX`` is what ``keyctl pipe`` prints. HEX is ``iv (16) || 00 || ciphertext ||
hmac (32)``. From the master secret M two keys derive: SHA-256 over ``"AUTH_KEY" 00 M`` and over
``"ENC_KEY" 00 M``, *both* filled with zeros to max(9 + len(M), 32) octets, so that the second always
ends with a spare zero. The payload, filled with zeros to whole blocks, is encrypted with AES-256-CBC;
the HMAC-SHA256 covers the words, each ended by NUL, then ``iv 00 ciphertext``.

An old form lacks the FORMAT word; it means ``default``, and its HMAC leaves the word out.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes

from fusecrypt.keys.crypto import BLOCK, cbc_decrypt, cbc_encrypt, hmac_matches, hmac_sha256
from fusecrypt.keys.errors import KeyFileError, WrongSecretError
from fusecrypt.keys.token import ENCRYPTED_KEY_SALT, KEY_BYTES, AuthToken
from fusecrypt.native import Secret

MAX_TEXT = 16384
"""Octets of the longest text: 4096 octets of payload in hex, and the words."""

_LENGTHS = {"default": (20, 4096), "ecryptfs": (KEY_BYTES, KEY_BYTES), "enc32": (32, 32)}
_HMAC = 32
_IV = 16
_MINIMUM = 32
_MASTER = re.compile(r"(user|trusted):[^\x00-\x20\x7f]+")


@dataclass(frozen=True)
class EncryptedBlob:
    """An encrypted key. ``format`` is None for the old form; ``master`` is ``TYPE:NAME``.

    A name is any octets but blanks; what is no UTF-8 stands in it as surrogates.
    """

    format: str | None
    master: str
    length: int
    iv: bytes
    ciphertext: bytes
    hmac: bytes

    @property
    def master_type(self) -> str:
        """``user`` or ``trusted``."""
        return self.master.partition(":")[0]

    @property
    def master_name(self) -> str:
        """The description of the master key."""
        return self.master.partition(":")[2]

    @classmethod
    def parse(cls, text: bytes) -> EncryptedBlob:
        """Take the text apart, with or without a newline at its end; KeyFileError if it is none."""
        words = re.split(r"[ \t]", text[: MAX_TEXT + 1].decode(errors="surrogateescape").strip("\r\n"))
        if len(text) > MAX_TEXT or len(words) not in (3, 4):
            raise KeyFileError("this is no text of an encrypted key", "keyctl pipe prints it")
        word = words.pop(0) if len(words) == 4 else None
        master, number, digits = words
        if word is not None and word not in _LENGTHS:
            raise KeyFileError("the encrypted key has an unknown format")
        if not _MASTER.fullmatch(master):
            # The words are not repeated: a file given by mistake may hold a passphrase.
            raise KeyFileError("the encrypted key's master is neither user:NAME nor trusted:NAME")
        length = _length(word, number)
        padded = -(-length // BLOCK) * BLOCK
        if len(digits) != 2 * (_IV + 1 + padded + _HMAC) or not re.fullmatch("[0-9A-Fa-f]+", digits):
            raise KeyFileError("the encrypted key's hex digits are damaged or incomplete")
        data = bytes.fromhex(digits)
        # The octet after the IV ends a string inside the kernel, which ignores it when loading.
        ciphertext = data[_IV + 1 : _IV + 1 + padded]
        return cls(word, master, length, data[:_IV], ciphertext, data[-_HMAC:])

    def text(self) -> str:
        """The text form, as ``keyctl pipe`` prints it."""
        words = self._words()
        return " ".join([*words, (self.iv + b"\0" + self.ciphertext + self.hmac).hex()])

    def open(self, master: Secret) -> Secret:
        """The payload; WrongSecretError if the master secret is not the one it was made with."""
        with _derive(b"AUTH_KEY", master) as key:
            if not hmac_matches(key, self._authenticated(), self.hmac):
                raise WrongSecretError(
                    f"the encrypted key does not open with this master key ({self.master})",
                    "the master may have been changed by keyctl update, or the text is damaged",
                )
        with _derive(b"ENC_KEY", master) as key, cbc_decrypt(key, self.iv, self.ciphertext) as padded:
            return padded.part(0, self.length)

    def token(self, sig: bytes, master: Secret) -> AuthToken:
        """The auth token that eCryptfs makes of this key.

        Its signature is the key's description and does not derive from the key; headers get a salt of
        zeros. Raises WrongSecretError, and KeyFileError for a format that eCryptfs cannot use.
        """
        if self.format != "ecryptfs":
            raise KeyFileError(
                f"eCryptfs cannot use an encrypted key of the format {self.format or 'default'}",
                "only those of the format ecryptfs are keys of trees",
            )
        return AuthToken(sig, self.open(master), ENCRYPTED_KEY_SALT)

    @classmethod
    def seal(
        cls,
        payload: Secret,
        master: Secret,
        name: str,
        *,
        format: str | None = "ecryptfs",  # noqa: A002 - the kernel's own word for it
        iv: bytes | None = None,
    ) -> EncryptedBlob:
        """Encrypt a payload; ``name`` is ``TYPE:NAME`` of the master, the IV is random if not given.

        Raises KeyFileError for a name or a payload length that the kernel would refuse.
        """
        if not _MASTER.fullmatch(name):
            raise KeyFileError(f"{name!r} cannot name a master key")
        _length(format, str(len(payload)))
        iv = os.urandom(_IV) if iv is None else iv
        with Secret(-(-len(payload) // BLOCK) * BLOCK) as padded, _derive(b"ENC_KEY", master) as key:
            padded.view()[: len(payload)] = payload.view()
            ciphertext = cbc_encrypt(key, iv, padded)
        blob = cls(format, name, len(payload), iv, ciphertext, b"")
        with _derive(b"AUTH_KEY", master) as key:
            hmac = hmac_sha256(key, blob._authenticated())
        return cls(format, name, len(payload), iv, ciphertext, hmac)

    def _words(self) -> list[str]:
        return [word for word in (self.format, self.master, str(self.length)) if word is not None]

    def _authenticated(self) -> bytes:
        words = b"".join(word.encode(errors="surrogateescape") + b"\0" for word in self._words())
        return words + self.iv + b"\0" + self.ciphertext


def _length(word: str | None, number: str) -> int:
    low, high = _LENGTHS[word or "default"]
    if not re.fullmatch("[1-9][0-9]{0,3}", number) or not low <= int(number) <= high:
        raise KeyFileError(f"an encrypted key of the format {word or 'default'} cannot have this length")
    return int(number)


def _derive(label: bytes, master: Secret) -> Secret:
    with Secret(max(len(b"AUTH_KEY") + 1 + len(master), _MINIMUM)) as buffer:
        start = len(label) + 1
        buffer.view()[: len(label)] = label
        buffer.view()[start : start + len(master)] = master.view()
        digest = hashes.Hash(hashes.SHA256())
        digest.update(buffer.view())
        # finalize() gives an immutable copy; it lives until the next line only.
        return Secret.take(bytearray(digest.finalize()))
