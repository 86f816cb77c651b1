"""tpm2-pytss, imported when something needs it, and its sized buffers, which secrets pass through."""

from __future__ import annotations

import importlib
import os
from typing import Any

from fusecrypt.keys.tpm.errors import TPMError, TPMUnavailableError
from fusecrypt.native import Secret


class Library:
    """The library, without any TPM: ``lib`` is its module. Raises TPMUnavailableError if it is missing."""

    def __init__(self) -> None:
        self.lib = _library()
        self._ffi = importlib.import_module("tpm2_pytss._libtpm2_pytss").ffi

    def fill(self, structure: Any, secret: Secret | None) -> None:
        """Copy a secret into a sized buffer of the library. Its own constructors want bytes objects."""
        if secret is None:
            return
        if len(secret) > self._ffi.sizeof(structure.buffer):
            raise TPMError("a TPM seals at most 128 octets", "", 0x1D5)
        structure.size = len(secret)
        self._ffi.memmove(structure.buffer, secret.view(), len(secret))

    def wipe(self, structure: Any) -> None:
        """Overwrite a sized buffer of the library."""
        Secret.take(memoryview(self._ffi.buffer(structure.buffer)).cast("B")).wipe()

    def take(self, value: Any) -> Secret:
        """The octets of one of the library's sized buffers, which is wiped."""
        structure = value._cdata
        return Secret.take(memoryview(self._ffi.buffer(structure.buffer, structure.size)).cast("B"))


def _library() -> Any:
    # Without this the TSS library writes to standard error on its own.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        return importlib.import_module("tpm2_pytss")
    except (ImportError, OSError) as error:
        raise TPMUnavailableError(
            "a TPM needs tpm2-pytss and libtss2, which are not installed",
            "apt install libtss2-dev, then pip install 'fusecrypt[tpm]'",
        ) from error
