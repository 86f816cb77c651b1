"""Encrypted names wherever they stand in a text, and paths, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable

from fusecrypt.errors import FormatError
from fusecrypt.ondisk.names import PREFIX
from fusecrypt.tree.names import NameCodec

_LOWER = re.compile(re.escape(PREFIX) + rb"[-.0-9A-Za-z]+")
_PUNCTUATION = b"-."
"""What may end a sentence after a name, and is in the alphabet of names too."""


def decrypt_text(codec: NameCodec, text: bytes, shown: Callable[[bytes], bytes]) -> tuple[bytes, int]:
    """A text with its encrypted names and symlink targets decrypted; ``shown`` makes each fit to be shown.

    The second value counts names that are left because they are of another key, or damaged.
    """
    failed = 0

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal failed
        for lower in dict.fromkeys((match[0], match[0].rstrip(_PUNCTUATION))):
            try:
                return shown(codec.decode_target(lower)) + match[0][len(lower) :]
            except FormatError:
                continue
        failed += 1
        return match[0]

    return (text, 0) if codec.plain else (_LOWER.sub(replace, text), failed)


def encrypt_path(codec: NameCodec, path: bytes) -> bytes:
    """A path with each name encrypted. Raises OSError (EINVAL), NameTooLongError."""
    return b"/".join(name if name in (b"", b".", b"..") else codec.encode(name) for name in path.split(b"/"))
