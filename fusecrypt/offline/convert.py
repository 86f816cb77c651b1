"""Encrypted names wherever they stand in a text, and paths, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable

from fusecrypt.errors import FormatError, NameTooLongError
from fusecrypt.ondisk.names import PREFIX
from fusecrypt.tree.names import NameCodec

_LOWER = re.compile(re.escape(PREFIX) + rb"[-.0-9A-Za-z]+")
_NAME_MAX = 255
"""Octets of the longest lower name, on every file system that matters."""


def decrypt_text(codec: NameCodec, text: bytes, shown: Callable[[bytes], bytes]) -> tuple[bytes, int]:
    """A text with its encrypted names and symlink targets decrypted; ``shown`` makes each fit to be shown.

    The second value counts names that are left because they are of another key, or damaged.
    """
    failed = 0

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal failed
        try:
            name = codec.decode_target(match[0])
        except FormatError:
            failed += 1
            return match[0]
        # A full stop, or what rsync adds to a temporary name, looks like more of the name.
        rest = match[0].removeprefix(codec.encode_target(name))
        return shown(name) + (b"" if rest == match[0] else rest)

    return (text, 0) if codec.plain else (_LOWER.sub(replace, text), failed)


def encrypt_path(codec: NameCodec, path: bytes) -> bytes:
    """A path with each name encrypted. Raises OSError (EINVAL), NameTooLongError."""
    return b"/".join(
        name if name in (b"", b".", b"..") else _encrypt(codec, name) for name in path.split(b"/")
    )


def _encrypt(codec: NameCodec, name: bytes) -> bytes:
    lower = codec.encode(name)
    if len(lower) > _NAME_MAX:
        most = codec.longest(_NAME_MAX)
        raise NameTooLongError(f"a name of {len(name)} octets is too long; at most {most} can be encrypted")
    return lower
