"""Secrets of tests, from and to ordinary octets."""

from __future__ import annotations

from fusecrypt.native import Secret


def secret(value: str | bytes) -> Secret:
    """A secret of known octets; text is UTF-8."""
    return Secret.copy(value.encode() if isinstance(value, str) else value)


def octets(value: Secret) -> bytes:
    """A secret's octets."""
    return bytes(value.view())
