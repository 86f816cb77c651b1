"""Classify every object of a lower tree, with its keys or without."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fusecrypt.native import open_quietly
from fusecrypt.offline.checkfile import Trouble, check_file
from fusecrypt.offline.checkname import Decoded, NameCheck
from fusecrypt.offline.findings import Fault, Finding
from fusecrypt.offline.forms import HeaderForms
from fusecrypt.offline.health import State
from fusecrypt.offline.lower import FILE, Child, below, children, opened_directory
from fusecrypt.tree.headers import Found
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.resolve import NEW_CIPHER

_BATCH = 256
"""Objects of a directory that are looked at together."""


class _Place(NamedTuple):
    """A directory: its lower path, and the upper one if all its names decode."""

    lower: bytes
    upper: bytes | None


class _Looked(NamedTuple):
    troubles: list[Trouble]
    found: Found | None = None


class Checker:
    """One check of one tree. ``objects`` and ``octets`` (of lower files) tell how far it is."""

    def __init__(self, root_fd: int, policy: Policy | None, workers: int) -> None:
        """``policy`` is None for a check without keys. The descriptor stays the caller's."""
        self._root_fd = root_fd
        self._keys = policy is not None
        self._policy = policy or Policy(content=(), cipher=NEW_CIPHER)
        self._names = NameCheck(self._policy, self._keys)
        self._forms = HeaderForms()
        self._workers = workers
        self.objects = 0
        self.octets = 0

    def findings(self) -> Generator[Finding, None, None]:
        """One of every good object, and one of each thing that is wrong. Raises OSError for the root."""
        with opened_directory(self._root_fd, b""):
            pass
        stack = [_Place(b"", b"")]
        with ThreadPoolExecutor(self._workers) as pool:
            while stack:
                place = stack.pop()
                try:
                    with opened_directory(self._root_fd, place.lower) as fd:
                        deeper: list[_Place] = []
                        yield from self._directory(pool, place, fd, deeper)
                        stack += reversed(deeper)
                except OSError as error:
                    yield Finding(Fault.UNREADABLE, place.lower, place.upper, _reason(error))
        for lower, upper, detail in self._forms.odd():
            yield Finding(Fault.UNCOMMON_HEADER, lower, upper, detail)

    def _directory(
        self, pool: ThreadPoolExecutor, place: _Place, fd: int, deeper: list[_Place]
    ) -> Iterator[Finding]:
        every = children(fd)
        names = {child.name for child in every}
        for start in range(0, len(every), _BATCH):
            batch = every[start : start + _BATCH]
            looks = pool.map(lambda child: self._look(fd, child), batch)
            for child, looked in zip(batch, looks, strict=True):
                decoded = self._names.name(child.name)
                upper = _joined(place.upper, decoded.upper)
                lower = below(place.lower, child.name)
                troubles = [*self._name_troubles(decoded, child.name, names), *looked.troubles]
                if looked.found is not None:
                    self._forms.note(looked.found, lower, upper)
                if child.kind == stat.S_IFDIR and not child.stat.error:
                    deeper.append(_Place(lower, upper))
                self.objects += 1
                for kind, detail in troubles or [Trouble(State.GOOD)]:
                    yield Finding(kind, lower, upper, detail)

    def _name_troubles(self, decoded: Decoded, name: bytes, names: set[bytes]) -> list[Trouble]:
        if decoded.trouble is None:
            return []
        if decoded.upper is not None:
            canonical = self._names.canonical(decoded.upper)
            if canonical is not None and canonical != name and canonical in names:
                return [Trouble(Fault.CLASH, f"the other is {os.fsdecode(canonical)}"), decoded.trouble]
        return [decoded.trouble]

    def _look(self, fd: int, child: Child) -> _Looked:
        """What is wrong with an object but for its name. Runs in threads."""
        if child.stat.error:
            return _Looked([Trouble(Fault.UNREADABLE, os.strerror(child.stat.error))])
        try:
            if child.kind == stat.S_IFLNK:
                trouble = self._names.target(os.fsencode(os.readlink(child.name, dir_fd=fd)))
                return _Looked([trouble] if trouble else [])
            if child.kind == stat.S_IFREG:
                return self._file(fd, child)
        except OSError as error:
            return _Looked([Trouble(Fault.UNREADABLE, _reason(error))])
        return _Looked([])

    def _file(self, dir_fd: int, child: Child) -> _Looked:
        fd = open_quietly(child.name, os.O_RDONLY | FILE, dir_fd)
        try:
            troubles, found = check_file(fd, self._policy, self._keys, self._policy.xattr_metadata)
        finally:
            os.close(fd)
        self.octets += child.stat.size
        if self._policy.passthrough:
            troubles = [trouble for trouble in troubles if trouble.kind is not State.FOREIGN]
        return _Looked(troubles, found)


def _joined(above: bytes | None, name: bytes | None) -> bytes | None:
    return None if above is None or name is None else below(above, name)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
