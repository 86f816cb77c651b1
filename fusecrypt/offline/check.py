"""Classify every object of a lower tree, with its keys or without."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fusecrypt.errors import FusecryptError
from fusecrypt.native import open_quietly
from fusecrypt.offline.checkfile import Trouble, check_file
from fusecrypt.offline.checkname import Decoded, NameCheck
from fusecrypt.offline.digests import Buffers, FileDigest, Object, Unreadable, kind_of, unreadable
from fusecrypt.offline.findings import Fault, Finding
from fusecrypt.offline.forms import HeaderForms
from fusecrypt.offline.health import State
from fusecrypt.offline.items import Tally
from fusecrypt.offline.lower import FILE, Child, below, children, opened_directory
from fusecrypt.offline.manifest import Comparison
from fusecrypt.tree.files import OpenFile, open_file
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
    """``listed`` is what a manifest would list of it, with the empty path."""

    troubles: list[Trouble]
    found: Found | None = None
    listed: Object | Unreadable | None = None


class Checker:
    """One check of one tree. ``tally`` tells how far it is, in octets of lower files."""

    def __init__(
        self, root_fd: int, policy: Policy | None, workers: int, comparison: Comparison | None = None
    ) -> None:
        """``policy`` is None for a check without keys. With a ``comparison`` what is not as in the manifest
        is a finding too. The descriptor stays the caller's."""
        self._root_fd = root_fd
        self._keys = policy is not None
        self._policy = policy or Policy(content=(), cipher=NEW_CIPHER)
        self._names = NameCheck(self._policy, self._keys)
        self._forms = HeaderForms()
        self._workers = workers
        self._comparison = comparison
        self._buffers = Buffers()
        self.tally = Tally()

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
        for each in self._comparison.missing() if self._comparison else ():
            names = map(self._names.canonical, each.path.split(b"/"))
            lower = b"/".join(name or b"?" for name in names)
            yield Finding(Fault.DIFFERS, lower, each.path, f"{each.what}: {each.detail}")

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
                if upper is not None and self._shows(decoded):
                    troubles += self._differences(upper, looked.listed)
                self.tally.objects += 1
                for kind, detail in troubles or [Trouble(State.GOOD)]:
                    yield Finding(kind, lower, upper, detail)

    def _shows(self, decoded: Decoded) -> bool:
        """Whether the tree shows this name."""
        trouble = decoded.trouble
        return trouble is None or (trouble.kind is Fault.OTHER_FNEK and bool(self._policy.other_names))

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
                return self._symlink(os.fsencode(os.readlink(child.name, dir_fd=fd)))
            if child.kind == stat.S_IFREG:
                return self._file(fd, child)
        except OSError as error:
            return _Looked([Trouble(Fault.UNREADABLE, _reason(error))], listed=unreadable(b"", error))
        kind = kind_of(child.kind)
        if child.kind in (stat.S_IFCHR, stat.S_IFBLK):
            number = child.stat.rdev
            return _Looked([], listed=Object(b"", kind, device=(os.major(number), os.minor(number))))
        return _Looked([], listed=Object(b"", kind))

    def _symlink(self, lower: bytes) -> _Looked:
        trouble = self._names.target(lower)
        target = self._names.upper_target(lower)
        listed = Object(b"", kind_of(stat.S_IFLNK), target=target)
        return _Looked([trouble] if trouble else [], listed=listed if target is not None else None)

    def _file(self, dir_fd: int, child: Child) -> _Looked:
        fd = open_quietly(child.name, os.O_RDONLY | FILE, dir_fd)
        try:
            file = None if self._comparison is None else self._opened(fd)
        except OSError:
            os.close(fd)
            raise
        digest = None if file is None else FileDigest(file, self._buffers.octets, self._policy)
        done = 0

        def notice(end: int) -> None:
            """What was looked at is digested at once, while it is in memory."""
            nonlocal done
            self.tally.read(end - done)
            done = end
            if digest is not None:
                digest.feed(end)

        try:
            expect_xattr = self._policy.xattr_metadata
            troubles, found = check_file(fd, self._policy, self._keys, expect_xattr, notice)
            notice(max(done, child.stat.size))
            listed = digest.result(b"") if digest is not None else None
        finally:
            if file is not None:
                file.close()
            os.close(fd)
        if self._policy.passthrough:
            troubles = [trouble for trouble in troubles if trouble.kind is not State.FOREIGN]
        return _Looked(troubles, found, listed)

    def _opened(self, fd: int) -> OpenFile | None:
        """The file to read; None for one that its keys do not open, which is found by other means. Raises
        OSError: then nothing else would tell that it is not compared."""
        copy = os.dup(fd)
        try:
            return open_file(copy, False, self._policy)
        except FusecryptError:
            os.close(copy)
            return None
        except OSError:
            os.close(copy)
            raise

    def _differences(self, path: bytes, listed: Object | Unreadable | None) -> list[Trouble]:
        """What is not as in the manifest; what cannot be read has its own trouble."""
        if self._comparison is None:
            return []
        each = Unreadable(path, "", 4) if listed is None else listed.at(path)
        found = self._comparison.difference(each)
        if found is None or found.what == "unreadable":
            return []
        return [Trouble(Fault.DIFFERS, f"{found.what}: {found.detail}")]


def _joined(above: bytes | None, name: bytes | None) -> bytes | None:
    return None if above is None or name is None else below(above, name)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
