"""Small files: read with a limit, replaced so that a crash leaves the old or the new one."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fusecrypt.errors import SecretError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.native import Secret, open_quietly

PRIVATE = 0o600


def open_regular(path: Path, *, follow: bool = True) -> int:
    """A read-only descriptor of a regular file; anything else is refused without waiting for it.

    Raises OSError if it cannot be opened and KeyFileError if it is no regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = open_quietly(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise KeyFileError(f"{path} is not a regular file", "name the file itself")
    return descriptor


def open_named(path: Path) -> int:
    """A descriptor of what a user named: a regular file, or a pipe, whose writer is waited for.

    So a key need not be written to a file: ``<(keyctl pipe …)``. Raises as :func:`open_regular`.
    """
    if stat.S_ISFIFO(os.stat(path).st_mode):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return open_regular(path)


def read_descriptor(descriptor: int, limit: int, what: str) -> bytes:
    """Everything from a descriptor of a file; KeyFileError if that is more than ``limit`` octets."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise KeyFileError(f"{what} is larger than {limit} octets: this is no such file")
    return data


def read_small(path: Path, limit: int) -> bytes:
    """A file of at most ``limit`` octets."""
    descriptor = open_regular(path)
    try:
        return read_descriptor(descriptor, limit, str(path))
    finally:
        os.close(descriptor)


def read_named(path: Path, limit: int) -> bytes:
    """At most ``limit`` octets of a file or pipe that a user named."""
    descriptor = open_named(path)
    try:
        return read_descriptor(descriptor, limit, str(path))
    finally:
        os.close(descriptor)


def list_quietly(directory: Path) -> list[str]:
    """The names in a directory, read without a trace in its access time, where we may. Raises OSError."""
    fd = open_quietly(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def read_secret(path: Path, limit: int) -> Secret:
    """The octets of a file or pipe that a user named, unchanged, read straight into secret memory.

    Raises OSError, KeyFileError for something else, and SecretError if it is empty or larger than
    ``limit`` octets.
    """
    descriptor = open_named(path)
    try:
        with Secret(limit + 1) as room:
            count = 0
            while count <= limit and (more := os.readv(descriptor, [room.view()[count:]])):
                count += more
            if not 1 <= count <= limit:
                why = "is empty" if count == 0 else f"is larger than {limit} octets"
                raise SecretError(f"{path} {why}")
            return room.part(0, count)
    finally:
        os.close(descriptor)


def write_new(
    path: Path, data: bytes | memoryview, *, mode: int = PRIVATE, instead_of: Path | None = None
) -> None:
    """Create a file exclusively and flush it to the disk; FileExistsError if there is one, OSError.

    It gets the owner of the file that it will stand ``instead_of``, where this process may: root may be at
    work for somebody else.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        if instead_of is not None:
            _take_owner(descriptor, instead_of)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError as error:
        os.unlink(path)
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _take_owner(descriptor: int, before: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        status = before.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)


@contextmanager
def replacing(path: Path, *, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` once the context ends well, whole and on the disk.

    It has a name that nobody knows before, and none at all after an exception. Raises OSError.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # which people know
        raise
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:
            _take_owner(descriptor, path)
            os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_file(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Put ``data`` into the place of a file, so that a crash leaves the old or the new one.

    Its owner stays, where this process may give files away. Raises OSError.
    """
    with replacing(path, mode=mode) as file:
        file.write(data)


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
