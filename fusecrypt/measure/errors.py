"""What makes a row, or a run, impossible."""

from __future__ import annotations

from fusecrypt.errors import FusecryptError


class BenchError(FusecryptError):
    """A program that failed or is missing, a directory that cannot be used; its text is one line."""
