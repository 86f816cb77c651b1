"""Who is told and asked while keys are looked for: the person before a command's terminal, or nobody.

A program that uses fusecrypt as a library is nobody's terminal: remarks are logged, and a secret that would
have to be asked for is missing.
"""

from __future__ import annotations

import logging
from typing import Protocol

from fusecrypt.errors import FusecryptError, SecretError
from fusecrypt.native import Secret

_log = logging.getLogger(__name__)


class Person(Protocol):
    """What a command's terminal offers."""

    def say(self, message: str) -> None: ...

    def has_terminal(self) -> bool: ...

    def ask_secret(self, prompt: str) -> Secret:
        """Raises SecretError where nobody can be asked."""
        ...


class _Nobody:
    def say(self, message: str) -> None:
        _log.warning("%s", message)

    def has_terminal(self) -> bool:
        return False

    def ask_secret(self, prompt: str) -> Secret:
        raise SecretError(f"no source of the key is named ({prompt})", "name one, such as passfile")


_present: Person = _Nobody()


def introduce(person: Person) -> None:
    """From now on this one is told and asked."""
    global _present
    _present = person


def say(message: str) -> None:
    """A remark."""
    _present.say(message)


def has_terminal() -> bool:
    """Whether a secret can be asked for."""
    return _present.has_terminal()


def ask_secret(prompt: str) -> Secret:
    """Ask for a secret. Raises SecretError where nobody can be asked."""
    return _present.ask_secret(prompt)


def describe(error: FusecryptError) -> str:
    """An error and its hint as one line."""
    return f"{error} ({error.hint})" if error.hint else str(error)
