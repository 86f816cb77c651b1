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
from fusecrypt.errors import FusecryptError, UnsupportedSystemError, UsageError
from fusecrypt.keys.files import sync_directory, write_new
from fusecrypt.keys.slots.recovery import RecoveryEnrolment, write_key
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.volume import Volume
from fusecrypt.native import Secret

recovery_file_option = click.option(
    "--recovery-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the recovery key to this new file (mode 0600) instead of standard output.",
)
qr_option = click.option("--qr", is_flag=True, help="Show the recovery key as a QR code too.")


def check(path: Path | None, qr: bool) -> None:
    """Before anything is changed: whether the key can be given out so.

    Raises UsageError without a standard output that is needed, UnsupportedSystemError if a QR code is wanted
    and cannot be made.
    """
    if (path is None or qr) and sys.stdout is None:
        raise UsageError("there is no standard output for the recovery key", "use --recovery-file FILE")
    if qr:
        _segno()


@contextmanager
def given_out(
    enrolment: RecoveryEnrolment, path: Path | None, qr: bool, store: SlotStore, volume: Volume
) -> Iterator[None]:
    """Give a recovery key out, then let the caller write its slot: the volume, to the store.

    A slot whose key nobody has would be counted on, so the key comes first: into a new file, which goes again
    if the slot was not written, or onto standard output. Raises OSError (FileExistsError), FusecryptError.
    """
    if path is not None:
        _write(enrolment, path)
    shown = False
    try:
        _show(enrolment, path, qr)
        shown = True
        yield
    except BaseException:
        # It may have been written nevertheless: then the key stays.
        if not store.may_hold(volume):
            if path is None and shown:
                say("a recovery key that was shown just now opens nothing: its slot was not written")
            elif path is not None:
                path.unlink(missing_ok=True)
        raise


def _write(enrolment: RecoveryEnrolment, path: Path) -> None:
    with write_key(enrolment.key) as text, Secret.copy(b"\n") as end, Secret.join([text, end]) as line:
        write_new(path, line.view())
    sync_directory(path.parent)


def _show(enrolment: RecoveryEnrolment, path: Path | None, qr: bool) -> None:
    with write_key(enrolment.key) as text:
        if path is None:
            say("this is the recovery key, shown once: write it down, keep it away from this machine")
            _print(text)
        else:
            say(f"the recovery key is in {path}: print it, keep it away from this machine, delete the file")
        if qr:
            _show_qr(text)


def _print(text: Secret) -> None:
    """A line on standard output; short enough for any pipe to take at once."""
    sys.stdout.flush()
    try:
        os.writev(1, [text.view(), b"\n"])
    except OSError as error:
        raise FusecryptError(
            f"the recovery key cannot be shown: {error.strerror}", "use --recovery-file FILE"
        ) from error


def _show_qr(text: Secret) -> None:
    # The library takes ordinary text, which cannot be wiped: the price of the picture.
    _segno().make(str(text.view(), "ascii"), micro=False).terminal(compact=True)
    sys.stdout.flush()


def _segno() -> Any:
    try:
        return importlib.import_module("segno")
    except ImportError as error:
        raise UnsupportedSystemError(
            "a QR code needs the package segno, which is not installed", "pip install 'fusecrypt[qr]'"
        ) from error
