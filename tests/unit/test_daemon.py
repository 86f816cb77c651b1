"""What the process behind a mount tells the command that waits for it."""

from __future__ import annotations

import os
from pathlib import Path

from fusecrypt.errors import UnsupportedSystemError
from fusecrypt.mount.config import error_from
from fusecrypt.mount.daemon import _first, _tell


def test_a_failure_is_told_until_the_mount_answers(tmp_path: Path) -> None:
    reading, number = os.pipe()
    with open(number, "wb", buffering=0) as ready:
        assert _tell(ready, UnsupportedSystemError("it lacks something", "install it"))
    error = error_from(os.read(reading, 4096))
    assert isinstance(error, UnsupportedSystemError)
    assert (str(error), error.hint) == ("it lacks something", "install it")
    # Afterwards the number is soon that of another file, such as a lower one.
    lower = tmp_path / "lower"
    fd = os.open(lower, os.O_RDWR | os.O_CREAT)
    os.dup2(fd, number)
    assert not _tell(ready, OSError("it failed later"))
    assert lower.read_bytes() == b""
    for each in {reading, number, fd}:
        os.close(each)


def test_of_errors_in_groups_the_first_is_told() -> None:
    error = OSError("it failed")
    assert _first(ExceptionGroup("outer", [ExceptionGroup("inner", [error]), ValueError()])) is error
    assert _first(error) is error
