"""Names and findings on standard output, safe on a terminal, and failures of one of several arguments."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from fusecrypt.cli.advice import advice
from fusecrypt.cli.terminal import say
from fusecrypt.errors import FusecryptError
from fusecrypt.escape import escaped
from fusecrypt.sources.person import describe

_T = TypeVar("_T")


def printable(name: bytes) -> str:
    """A name for people, escaped as messages are."""
    return escaped(os.fsdecode(name))


def write_line(text: str) -> None:
    """A line on standard output, in UTF-8 whatever the locale."""
    sys.stdout.buffer.write(text.encode(errors="backslashreplace") + b"\n")


def write_names(names: Iterable[bytes], null: bool) -> None:
    """Names, one a line and escaped, or as they are, each ended by a NUL."""
    out = sys.stdout.buffer
    for name in names:
        out.write(name + b"\0" if null else printable(name).encode() + b"\n")


def write_json(value: object) -> None:
    """One JSON value on a line of its own."""
    write_line(json.dumps(value))


def json_path(key: str, path: bytes) -> dict[str, str]:
    """A path for JSON: octets that are no UTF-8 become lone surrogates, and then it is there in hex too."""
    text = {key: os.fsdecode(path)}
    try:
        path.decode()
    except UnicodeDecodeError:
        text[f"{key}_hex"] = path.hex()
    return text


class Failures:
    """One failure must not keep the others from being looked at. ``status`` is the worst so far."""

    def __init__(self) -> None:
        self.status = 0

    @contextmanager
    def of(self, what: bytes | str) -> Iterator[None]:
        """Say what fails in the context, with the name of what it concerns, and go on after it."""
        try:
            yield
        except BrokenPipeError:
            raise
        except FusecryptError as error:
            self.note(what, describe(error), error.exit_status)
        except OSError as error:
            hint = advice(error)
            self.note(what, f"{error.strerror or error}{f' ({hint})' if hint else ''}", 1)

    def each(self, what: bytes | str, items: Iterable[_T]) -> Iterator[_T]:
        """The items, as far as they come; it is their failure that is said, not that of who uses them."""
        with self.of(what):
            yield from items

    def note(self, what: bytes | str, message: str, status: int) -> None:
        """Say a failure."""
        say(f"{os.fsdecode(what)}: {message}")
        self.status = max(self.status, status)


def json_option(command: Any) -> Any:
    """Decorate a command with --json; it gets ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line.")(command)


def null_option(command: Any) -> Any:
    """Decorate a command with --null; it gets ``null``."""
    text = "Names as they are, each ended by a NUL; otherwise control characters are escaped."
    return click.option("-0", "--null", is_flag=True, help=text)(command)
