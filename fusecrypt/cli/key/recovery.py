"""Giving out a new recovery key: once, on standard output or in a new file."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.terminal import say
from fusecrypt.errors import UnsupportedSystemError
from fusecrypt.keys.files import PRIVATE, sync_directory
from fusecrypt.keys.slots.recovery import RecoveryEnrolment, write_key
from fusecrypt.native import Secret

recovery_file_option = click.option(
    "--recovery-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the recovery key to this new file (mode 0600) instead of standard output.",
)
qr_option = click.option("--qr", is_flag=True, help="Show the recovery key as a QR code too.")


def check_qr(qr: bool) -> None:
    """Before anything is changed: UnsupportedSystemError if a QR code is wanted and cannot be made."""
    if qr:
        _segno()


@contextmanager
def kept(enrolment: RecoveryEnrolment, path: Path | None, qr: bool) -> Iterator[None]:
    """Give a recovery key out around the writing of its slot.

    Its file is written first, exclusively, and removed again if the slot could not be written: a slot whose
    key nobody has would be counted on. What is printed is printed last. Raises FileExistsError.
    """
    if path is not None:
        _write(enrolment, path)
    try:
        yield
    except BaseException:
        if path is not None:
            path.unlink(missing_ok=True)
        raise
    _show(enrolment, path, qr)


def _write(enrolment: RecoveryEnrolment, path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, PRIVATE)
    try:
        with write_key(enrolment.key) as text:
            os.writev(descriptor, [text.view(), b"\n"])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def _show(enrolment: RecoveryEnrolment, path: Path | None, qr: bool) -> None:
    with write_key(enrolment.key) as text:
        if path is None:
            say("this is the recovery key, shown once: write it down, keep it away from this machine")
            sys.stdout.flush()
            os.writev(1, [text.view(), b"\n"])
        else:
            say(f"the recovery key is in {path}: print it, keep it away from this machine, delete the file")
        if qr:
            _show_qr(text)


def _show_qr(text: Secret) -> None:
    # The library takes ordinary text, which cannot be wiped: the price of the picture.
    _segno().make(str(text.view(), "ascii"), micro=False).terminal(compact=True)


def _segno() -> Any:
    try:
        return importlib.import_module("segno")
    except ImportError as error:
        raise UnsupportedSystemError(
            "a QR code needs the package segno, which is not installed", "pip install 'fusecrypt[qr]'"
        ) from error
