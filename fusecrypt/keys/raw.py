"""Keys that have no passphrase: a file of 64 octets, and the signature that the tree knows it by.

Chromium OS kept such keys; any other tool's keys can be brought into this form.
"""

from __future__ import annotations

import re
from pathlib import Path

from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys.files import read_secret
from fusecrypt.keys.token import DEFAULT_SALT, KEY_BYTES, AuthToken
from fusecrypt.native import signature

_OTHERS = (
    "it is neither hex nor does a newline end it; a passphrase goes into --passfile, a wrapped one into "
    "--wrapped-passphrase"
)


def read_raw_key(path: Path, sig: bytes | None = None, salt: bytes = DEFAULT_SALT) -> AuthToken:
    """A token from a file or pipe of exactly 64 octets; without ``sig`` (8 octets) it is the key's own.

    Raises OSError, KeyFileError, or SecretError for a file of another size.
    """
    try:
        key = read_secret(path, KEY_BYTES)
    except SecretError as error:
        raise SecretError(f"{error}; a raw key has {KEY_BYTES}", _OTHERS) from None
    if len(key) != KEY_BYTES:
        raise SecretError(f"{path} has {len(key)} octets; a raw key has {KEY_BYTES}", _OTHERS)
    return AuthToken(signature(key) if sig is None else sig, key, salt)


def is_sig(text: str) -> bool:
    """Whether a text is a signature: 16 hex digits."""
    return re.fullmatch("[0-9A-Fa-f]{16}", text, re.ASCII) is not None


def parse_sig(text: str) -> bytes:
    """8 octets from 16 hex digits, as options give them; UsageError otherwise."""
    if not is_sig(text):
        raise UsageError(f"{text!r} is no key signature", "a signature has 16 hex digits")
    return bytes.fromhex(text)


def split_assignment(text: str) -> tuple[bytes | None, Path]:
    """``SIG=FILE`` or ``FILE`` as options give them. A name that looks like SIG= needs a ``./`` before it."""
    sig, equals, name = text.partition("=")
    if equals and is_sig(sig) and name:
        return bytes.fromhex(sig), Path(name)
    return None, Path(text)
