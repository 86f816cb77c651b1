"""A line as a secret."""

from __future__ import annotations

import os

from fusecrypt.errors import SecretError
from fusecrypt.native import Secret

MAX_LINE = 4096


class EmptyLineError(SecretError):
    """There is nothing in the first line."""


def read_line(fd: int, source: str) -> Secret:
    """The first line from a descriptor, exactly its newline stripped, read into locked memory.

    What follows is left for the next one who reads. Raises SecretError for an empty first line or one longer
    than 4096 octets.
    """
    with Secret(MAX_LINE + 1) as room:
        view = room.view()
        count = 0
        end = -1
        while end < 0 and count < len(view):
            if os.readv(fd, [view[count : count + 1]]) == 0 or view[count] == 0x0A:
                end = count
            count += 1
        if end < 0:
            raise SecretError(
                f"{source}: the first line is longer than {MAX_LINE} octets",
                "it must be the passphrase alone: is this the right file?",
            )
        if end == 0:
            raise EmptyLineError(
                f"{source}: the passphrase is empty", "its first line must be the passphrase"
            )
        return room.part(0, end)
