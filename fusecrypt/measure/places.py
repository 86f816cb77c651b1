"""Where lower directories lie: in memory, or on the disk of a directory of the user's choice."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusecrypt.measure.errors import BenchError

TMPFS = "tmpfs"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made there, with mkdtemp


@contextmanager
def working_directory(place: str) -> Iterator[Path]:
    """A new directory, removed at the end. Raises BenchError if none can be made there."""
    parent = _SHARED_MEMORY if place == TMPFS else Path(place)
    try:
        directory = Path(tempfile.mkdtemp(prefix="fusecrypt-bench-", dir=parent))
    except OSError as error:
        raise BenchError(f"cannot use {parent}: {os.strerror(error.errno or 0)}") from None
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def file_system(directory: Path) -> str:
    """Its type, as `tmpfs` or `ext2/ext3`."""
    command = ["stat", "--file-system", "--format=%T", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
