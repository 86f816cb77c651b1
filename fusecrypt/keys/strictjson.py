"""JSON without its loose ends: no duplicate or unknown members, no floats, one spelling of octets."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from typing import Any, NoReturn

from fusecrypt.keys.errors import KeyFileError


def load(data: bytes) -> dict[str, Any]:
    """The object in UTF-8 text; KeyFileError for anything looser than this module allows."""
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_members, parse_float=_refuse, parse_constant=_refuse
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise KeyFileError("the file is no valid JSON") from error
    if not isinstance(value, dict):
        raise KeyFileError("the file holds no JSON object")
    return value


def canonical(value: object) -> bytes:
    """The one text of a value: sorted members, no blanks, non-ASCII escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def encode_base64(data: bytes) -> str:
    """Octets as base64 text."""
    return base64.b64encode(data).decode()


class Fields:
    """The members of an object, each read by a method that checks its type; all raise KeyFileError."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise KeyFileError(f"{what} is no JSON object")
        self._members = value
        self._what = what

    def only(self, *names: str) -> Fields:
        """Refuse members other than these."""
        for name in self._members:
            if name not in names:
                raise KeyFileError(f"{self._what} has the unknown member {name!r}")
        return self

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def value(self, name: str) -> Any:
        """A member as it is."""
        if name not in self._members:
            raise KeyFileError(f"{self._what} lacks the member {name!r}")
        return self._members[name]

    def fields(self, name: str) -> Fields:
        """An object."""
        return Fields(self.value(name), f"{self._what}: {name}")

    def text(self, name: str, pattern: str = r".*") -> str:
        """Text that matches a pattern as a whole."""
        value = self.value(name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII | re.DOTALL):
            self._wrong(name)
        return value

    def octets(self, name: str) -> bytes:
        """A path or name as os.fsdecode() gives it; no NUL, and no surrogate that stands for no octet."""
        try:
            value = os.fsencode(self.text(name))
        except UnicodeEncodeError:
            self._wrong(name)
        if b"\0" in value:
            self._wrong(name)
        return value

    def label(self, name: str) -> str | None:
        """Text for people, at most 200 characters that a terminal can show; None if absent."""
        if name not in self:
            return None
        value = self.text(name)
        if len(value) > 200 or not value.isprintable():
            self._wrong(name)
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self.value(name)
        if type(value) is not int or not low <= value <= high:
            self._wrong(name)
        return int(value)

    def items(self, name: str, most: int) -> list[Any]:
        """An array of at most ``most`` elements."""
        value = self.value(name)
        if not isinstance(value, list) or len(value) > most:
            self._wrong(name)
        return list(value)

    def hexadecimal(self, name: str, low: int, high: int) -> bytes:
        """Octets in lower-case hex, between ``low`` and ``high`` of them."""
        return bytes.fromhex(self.text(name, rf"(?:[0-9a-f]{{2}}){{{low},{high}}}"))

    def base64(self, name: str, low: int, high: int) -> bytes:
        """Octets in base64, between ``low`` and ``high`` of them, in the one spelling of it."""
        text = self.text(name)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            self._wrong(name)
        if not low <= len(data) <= high or encode_base64(data) != text:
            self._wrong(name)
        return data

    def _wrong(self, name: str) -> NoReturn:
        raise KeyFileError(f"{self._what}: the member {name!r} is not valid")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse(_: str) -> NoReturn:
    raise ValueError("no whole number")
