"""A list of what a tree holds, kept outside the tree, since eCryptfs itself has no integrity.

JSON lines: a head, a line for each object, and a last line that authenticates all octets before it.
docs/manifest.md has the format to the octet.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fusecrypt.errors import FormatError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.files import open_regular, replacing
from fusecrypt.keys.strictjson import Fields, canonical, load
from fusecrypt.offline.digests import Object, Unreadable
from fusecrypt.offline.seals import Check, Seal

FORMAT = "fusecrypt-manifest"
VERSION = 1
_SALT = 16
_MAX_LINE = 1 << 24
_MAX_SIZE = 2**63 - 1


def write(path: Path, objects: Iterable[Object], seal: Seal) -> None:
    """Write a manifest, for its owner only, whole or not at all. Raises OSError."""
    with replacing(path) as file:
        _write(file, objects, seal)


def _write(file: BinaryIO, objects: Iterable[Object], seal: Seal) -> None:
    digest, salt = hashlib.sha256(), secrets.token_bytes(_SALT)

    def put(value: dict[str, Any]) -> None:
        line = canonical(value) + b"\n"
        digest.update(line)
        file.write(line)

    created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    put({"format": FORMAT, "version": VERSION, "created": created, "salt": salt.hex()})
    for each in objects:
        put(_members(each))
    put(seal.line(salt, digest.digest()))


def read(path: Path, check: Check) -> dict[bytes, Object]:
    """The objects of a manifest by their paths, once it has proved to be authentic.

    Raises OSError, FormatError for one that is damaged or was changed, and what ``check`` raises.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        try:
            return _read(file, check)
        except KeyFileError as error:
            raise FormatError(f"{path} is no manifest, or is damaged: {error}") from error


def _read(file: BinaryIO, check: Check) -> dict[bytes, Object]:
    line = _line(file)
    salt = _head(line)
    digest, objects = hashlib.sha256(line), dict[bytes, Object]()
    line = _line(file)
    while following := _line(file):
        each = _parse(line)
        if each.path in objects:
            raise KeyFileError(f"it lists {os.fsdecode(each.path)!r} twice")
        objects[each.path] = each
        digest.update(line)
        line = following
    check.verify(Fields(load(line), "the last line"), salt, digest.digest())
    return objects


def _line(file: BinaryIO) -> bytes:
    line = file.readline(_MAX_LINE)
    if line and not line.endswith(b"\n"):
        raise KeyFileError("a line is too long, or cut")
    return line


def _head(line: bytes) -> bytes:
    fields = Fields(load(line), "the first line").only("format", "version", "created", "salt")
    fields.text("format", FORMAT)
    fields.integer("version", VERSION, VERSION)
    return fields.hexadecimal("salt", _SALT, _SALT)


def _members(each: Object) -> dict[str, Any]:
    members: dict[str, Any] = {"path": os.fsdecode(each.path), "type": each.kind}
    if each.sha256 is not None:
        members |= {"size": each.size, "sha256": each.sha256.hex()}
    if each.target is not None:
        members["target"] = os.fsdecode(each.target)
    if each.device is not None:
        members["device"] = list(each.device)
    return members


def _parse(line: bytes) -> Object:
    fields = Fields(load(line), "an object").only("path", "type", "size", "sha256", "target", "device")
    path, kind = fields.octets("path"), fields.text("type")
    return Object(
        path,
        kind,
        fields.integer("size", 0, _MAX_SIZE) if "size" in fields else None,
        fields.hexadecimal("sha256", 32, 32) if "sha256" in fields else None,
        fields.octets("target") if "target" in fields else None,
        _device(fields) if "device" in fields else None,
    )


def _device(fields: Fields) -> tuple[int, int]:
    numbers = fields.items("device", 2)
    if len(numbers) != 2 or not all(type(number) is int for number in numbers):
        raise KeyFileError("the member 'device' is not valid")
    return numbers[0], numbers[1]


@dataclass(frozen=True)
class Difference:
    """``what`` is changed, missing, added or unreadable; ``status`` the exit status it asks for."""

    what: str
    path: bytes
    detail: str = ""
    status: int = 4


class Comparison:
    """A manifest beside what is found, object by object."""

    def __init__(self, listed: dict[bytes, Object]) -> None:
        """``listed`` is emptied on the way."""
        self._listed = listed

    def difference(self, each: Object | Unreadable) -> Difference | None:
        """Whether an object is not as listed."""
        expected = self._listed.pop(each.path, None)
        if isinstance(each, Unreadable):
            return Difference("unreadable", each.path, each.reason, each.status)
        if expected is None:
            return Difference("added", each.path, each.kind)
        return None if each == expected else Difference("changed", each.path, _change(expected, each))

    def missing(self) -> Iterator[Difference]:
        """What is listed and was not found."""
        for path, expected in self._listed.items():
            yield Difference("missing", path, expected.kind)


def compare(listed: dict[bytes, Object], found: Iterable[Object | Unreadable]) -> Iterator[Difference]:
    """What differs between a manifest and a tree; ``listed`` is emptied on the way."""
    comparison = Comparison(listed)
    yield from filter(None, map(comparison.difference, found))
    yield from comparison.missing()


def _change(before: Object, now: Object) -> str:
    if before.kind != now.kind:
        return f"it was a {before.kind}, now it is a {now.kind}"
    if before.size != now.size:
        return f"its size was {before.size}, now it is {now.size}"
    return {"file": "its contents", "symlink": "its target"}.get(now.kind, "its device numbers")
