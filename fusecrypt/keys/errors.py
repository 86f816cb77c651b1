"""Errors of the key layer that callers tell apart; each derives from the project's exception tree."""

from __future__ import annotations

from fusecrypt.errors import FormatError, FusecryptError, SecretError, UnsupportedSystemError


class WrongSecretError(SecretError):
    """A well-formed secret that does not open what it was tried on."""


class KeyFileError(FormatError):
    """A wrapped passphrase, key blob or key-slot file whose octets are not valid."""


class UntrustedFileError(SecretError):
    """A key-slot file that others can write or own, and that was not named explicitly."""


class SlotError(FusecryptError):
    """A change to a key-slot file that would break one of its rules."""

    exit_status = 3


class KeyringError(UnsupportedSystemError):
    """The kernel's keyrings refuse or lack something."""
