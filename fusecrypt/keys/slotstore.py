"""A key-slot file on disk: who may have written it, and how a change survives a crash.

``FILE.bak`` is the version before the last change, if that only added something. When a secret was
removed or changed no earlier version may stay, for the removed secret would still open it: the new
version is written, read back and opened, then replaces ``FILE.bak``, and only then ``FILE``. A crash
at any moment leaves at ``FILE`` the old or the new version.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusecrypt.errors import FusecryptError
from fusecrypt.keys.errors import KeyFileError, SlotError, UntrustedFileError
from fusecrypt.keys.files import open_regular, read_descriptor, read_small, sync_directory, write_new
from fusecrypt.keys.slotfile import MAX_FILE, SlotFile
from fusecrypt.keys.volume import Volume

_WITHOUT = "restore it from a backup; the tree's own mount passphrase opens it without this file"

LOCK_SECONDS = 10
"""How long to wait for another process that changes files of the same directory."""


class SlotStore:
    """The file at ``path``. ``explicit`` says that the user named it, not a search."""

    def __init__(self, path: Path, *, explicit: bool = True) -> None:
        # Where a named link leads to: a link put in its place would leave the earlier version there.
        self.path = Path(os.path.realpath(path)) if explicit and path.is_symlink() else path
        self._explicit = explicit

    @property
    def backup(self) -> Path:
        """Where the version before the last additive change is."""
        return self.path.with_name(self.path.name + ".bak")

    def read(self) -> SlotFile:
        """Read and parse the file.

        Raises OSError, KeyFileError, and UntrustedFileError for a file that others may write or own,
        or a symbolic link, if a search found it.
        """
        try:
            descriptor = open_regular(self.path, follow=self._explicit)
        except OSError as error:
            if error.errno == errno.ELOOP and not self._explicit:
                raise self._untrusted("is a symbolic link") from None
            raise
        try:
            doubt = distrust(os.fstat(descriptor))
            if doubt and not self._explicit:
                raise self._untrusted(doubt)
            return SlotFile.parse(read_descriptor(descriptor, MAX_FILE, str(self.path)))
        except KeyFileError as error:
            hint = f"the version before is at {self.backup}" if self.backup.exists() else _WITHOUT
            raise KeyFileError(f"{self.path}: {error}", error.hint or hint) from error
        finally:
            os.close(descriptor)

    def _untrusted(self, doubt: str) -> UntrustedFileError:
        return UntrustedFileError(
            f"{self.path} is not used: it {doubt}", "name it with --keyslots if it is right"
        )

    def create(self, volume: Volume) -> None:
        """Write a new file; FileExistsError if there is one."""
        with self.locked():
            if os.path.lexists(self.path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
            with self._tidied():
                self._write(self._temporary(self.path), volume)
                os.replace(self._temporary(self.path), self.path)
                sync_directory(self.path.parent)

    def save(self, volume: Volume, before: SlotFile, *, revokes: bool) -> None:
        """Replace the file, which must still be ``before``, by a changed volume.

        ``revokes``: a secret was removed or changed, so no earlier version may stay. Raises SlotError
        if the file was changed meanwhile, KeyFileError if what was written does not read back.
        """
        with self.locked():
            if self.read() != before:
                raise SlotError("the key-slot file was changed by another process meanwhile", "try again")
            with self._tidied():
                self._write(self._temporary(self.path), volume)
                if revokes:
                    self._write(self._temporary(self.backup), volume)
                else:
                    self._write_anew(self._temporary(self.backup), before.encode())
                os.replace(self._temporary(self.backup), self.backup)
                sync_directory(self.path.parent)
                os.replace(self._temporary(self.path), self.path)
                sync_directory(self.path.parent)

    def may_hold(self, volume: Volume) -> bool:
        """Whether this volume may be what is on the disk now: also where that cannot be read."""
        try:
            return self.read() == volume.file
        except FileNotFoundError:
            return False
        except (OSError, FusecryptError):
            return True

    @contextmanager
    def _tidied(self) -> Iterator[None]:
        """A full disk is not made fuller by what a change that failed has written."""
        try:
            yield
        except (OSError, FusecryptError):
            for path in (self.path, self.backup):
                with suppress(OSError):
                    self._temporary(path).unlink()
            raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing key-slot files of this directory; SlotError if one does."""
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise SlotError(f"another process is changing {self.path}", "try again") from None
                    time.sleep(0.05)
                else:
                    break
            yield
        finally:
            os.close(descriptor)

    def _write(self, path: Path, volume: Volume) -> None:
        """Write a version that is not in use yet, read it back and open it."""
        self._write_anew(path, volume.file.encode())
        if not volume.holds_same(SlotFile.parse(read_small(path, MAX_FILE))):
            raise KeyFileError(f"{path} does not hold what was written to it: the disk may be failing")
        volume.tokens()

    def _write_anew(self, path: Path, data: bytes) -> None:
        with suppress(FileNotFoundError):
            path.unlink()
        write_new(path, data, instead_of=self.path)

    @staticmethod
    def _temporary(path: Path) -> Path:
        # Fixed names: what a crash left is found, and replaced, by the next change.
        return path.with_name(path.name + ".tmp")


def distrust(status: os.stat_result) -> str:
    """Why a file that nobody named must not be used; empty if it may."""
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others"
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (uid {status.st_uid})"
    return ""
