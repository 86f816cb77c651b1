"""The TPM of a command, opened when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from fusecrypt.keys.tpm.errors import TPMError
from fusecrypt.keys.tpm.facts import insecurity
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.sources.person import describe, say


@contextmanager
def open_tpm(tcti: str | None) -> Iterator[TPM]:
    """An open TPM; a software one is called insecure out loud. Raises TPMError."""
    with TPM(tcti) as tpm:
        warning = insecurity(tpm)
        if warning:
            say(warning)
        yield tpm


class LazyTPM:
    """A TPM that is opened when a slot first needs it. That it cannot be reached is said once."""

    def __init__(self, tcti: str | None) -> None:
        self._tcti = tcti
        self._manager: Any = None
        self._tpm: TPM | None = None

    def __enter__(self) -> LazyTPM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tpm is not None:
            self._manager.__exit__(kind, error, trace)

    def get(self) -> TPM | None:
        """The TPM, or None if it cannot be reached."""
        if self._manager is None:
            self._manager = open_tpm(self._tcti)
            try:
                self._tpm = self._manager.__enter__()
            except TPMError as error:
                say(f"the TPM slots are passed over: {describe(error)}")
        return self._tpm
