"""Argon2id for what people type: its parameters in a slot, their limits, and text in one form."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from fusecrypt.errors import SecretError
from fusecrypt.keys.errors import SlotError
from fusecrypt.keys.strictjson import Fields, encode_base64
from fusecrypt.native import Secret

TIME = 3
MEMORY = 65536
"""KiB."""

LANES = 4
SALT = 16

MAX_TIME = 64
MAX_LANES = 64
MIN_MEMORY = 19 * 1024
"""KiB; with less, or with less than half the default's work, a planted file makes guessing cheap."""

MAX_MEMORY = 1024 * 1024
"""KiB; what a file may make us allocate, unless half of this machine's memory is less."""


@dataclass(frozen=True)
class Argon2:
    """Parameters of a slot; ``memory`` is in KiB."""

    salt: bytes
    time: int = TIME
    memory: int = MEMORY
    lanes: int = LANES

    @classmethod
    def new(cls) -> Argon2:
        """The defaults with a random salt."""
        return cls(os.urandom(SALT))

    @classmethod
    def parse(cls, fields: Fields) -> Argon2:
        """Take a KDF object apart; KeyFileError if it is none."""
        fields.only("name", "salt", "time", "memory", "lanes").text("name", "argon2id")
        return cls(
            fields.base64("salt", SALT, SALT),
            fields.integer("time", 1, MAX_TIME),
            fields.integer("memory", 8 * MAX_LANES, 0xFFFFFFFF),
            fields.integer("lanes", 1, MAX_LANES),
        )

    def document(self) -> dict[str, object]:
        """The KDF object."""
        return {
            "name": "argon2id",
            "salt": encode_base64(self.salt),
            "time": self.time,
            "memory": self.memory,
            "lanes": self.lanes,
        }

    def check(self, *, large: bool = False) -> None:
        """Refuse parameters that make guessing cheap, or that take much memory unless ``large``."""
        if self.memory < MIN_MEMORY or 2 * self.time * self.memory < TIME * MEMORY:
            raise SlotError(
                "this slot's argon2id parameters are too weak to be used",
                "the file may have been tampered with: use another slot, then remove this one",
            )
        most = min(MAX_MEMORY, _memory_kib() // 2)
        if self.memory > most and not large:
            need, limit = self.memory // 1024, most // 1024
            raise SlotError(
                f"this slot needs {need} MiB of memory; unless it is named, {limit} is the limit",
                "name it to allow that (--slot N, --unlock-slot N), or use another slot",
            )

    def derive(self, secret: Secret, size: int, *, large: bool = False) -> Secret:
        """``size`` octets from a secret that is in normal form; SlotError as check() says."""
        self.check(large=large)
        derived = Secret(size)
        kdf = Argon2id(
            salt=self.salt, length=size, iterations=self.time, lanes=self.lanes, memory_cost=self.memory
        )
        # The stub asks for bytes, the code takes any buffer: no copy of the secret is made.
        kdf.derive_into(secret.view(), derived.view())  # type: ignore[arg-type]
        self._overwrite(len(secret), size)
        return derived

    def _overwrite(self, length: int, size: int) -> None:
        """OpenSSL leaves its copy of the secret in memory: the next of the same length takes its place."""
        kdf = Argon2id(salt=bytes(SALT), length=size, iterations=1, lanes=1, memory_cost=8)
        with Secret(length) as zeros, Secret(size) as nothing:
            kdf.derive_into(zeros.view(), nothing.view())  # type: ignore[arg-type]


def normal(secret: Secret) -> Secret:
    """A passphrase or PIN in Unicode's normal form C, so that it does not depend on the keyboard.

    Octets that are no UTF-8 stay as they are. Raises SecretError for an empty secret.
    """
    if len(secret) == 0:
        raise SecretError("the passphrase or PIN is empty", "type or give it again")
    if all(octet < 0x80 for octet in secret.view()):
        return secret.part(0, len(secret))
    # Normalising needs ordinary text, which cannot be wiped; ASCII, the usual case, has no need of it.
    try:
        text = str(secret.view(), "utf-8")
    except UnicodeDecodeError:
        return secret.part(0, len(secret))
    return Secret.take(bytearray(unicodedata.normalize("NFC", text).encode()))


def _memory_kib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
