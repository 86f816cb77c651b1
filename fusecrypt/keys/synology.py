"""Key files that Synology's DSM exports for an encrypted shared folder (``NAME.key``).

Such a file is a wrapped passphrase, version 1, under a passphrase that is the same on every device.
"""

from __future__ import annotations

from fusecrypt.keys.errors import WrongSecretError
from fusecrypt.keys.wrapped import WrappedPassphrase
from fusecrypt.native import Secret

WRAPPING = b"$1$5YN01o9y"
"""The fixed wrapping passphrase; it is no secret."""


def unwrap_export(data: bytes) -> Secret:
    """The folder's passphrase; KeyFileError or WrongSecretError if the octets are no such export."""
    with Secret.copy(WRAPPING) as wrapping:
        return WrappedPassphrase.parse(data).unwrap(wrapping)


def is_export(data: bytes) -> bool:
    """Whether a wrapped passphrase is one that needs no secret. Raises KeyFileError if it is none at all."""
    try:
        unwrap_export(data).wipe()
    except WrongSecretError:
        return False
    return True


def wrap_export(passphrase: Secret) -> bytes:
    """The octets of a key file that DSM imports."""
    with Secret.copy(WRAPPING) as wrapping:
        return WrappedPassphrase.wrap(passphrase, wrapping, version=1).encode()
