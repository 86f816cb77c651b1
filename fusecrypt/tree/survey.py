"""What a lower tree says of itself without any key: signatures, ciphers, where metadata and names stand."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from fusecrypt.errors import FormatError
from fusecrypt.native import open_quietly
from fusecrypt.ondisk.ciphers import CipherChoice
from fusecrypt.ondisk.names import NamePacket, decode_name
from fusecrypt.tree.headers import find_header

LIMIT = 500_000
"""Entries after which nothing new is expected."""

_LOST_AND_FOUND = b"lost+found"
"""The one plain name that a file system itself may put into an empty directory."""
_STEP = 512
_SAMPLES = 64
_DEEPEST = 256
"""Levels that are looked at. A directory is reached step by step, so a hostile depth costs its square."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class Profile:
    """How files were made: the signatures of their packets in order, cipher, place of the metadata."""

    signatures: tuple[bytes, ...]
    cipher: CipherChoice
    in_xattr: bool


@dataclass
class Survey:
    """Findings so far. ``names`` counts (signature, cipher code) of encrypted names; some are kept as
    samples, more than one since any may be damaged."""

    profiles: Counter[Profile] = field(default_factory=Counter)
    public_key_files: int = 0
    names: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    samples: dict[tuple[bytes, int], list[NamePacket]] = field(default_factory=dict)
    plain_names: int = 0
    entries: int = 0
    foreign: int = 0
    unreadable: int = 0

    @property
    def content_signatures(self) -> set[bytes]:
        return {signature for profile in self.profiles for signature in profile.signatures}

    @property
    def name_signatures(self) -> set[bytes]:
        return {signature for signature, _ in self.names}

    @property
    def is_ecryptfs(self) -> bool:
        return bool(self.profiles or self.names or self.public_key_files)

    def note_name(self, name: bytes) -> None:
        try:
            packet = decode_name(name)
        except FormatError:
            self.plain_names += name != _LOST_AND_FOUND
            return
        key = (packet.signature, packet.code)
        self.names[key] += 1
        if self.names[key] <= _SAMPLES:
            self.samples.setdefault(key, []).append(packet)

    def note_file(self, name: bytes, dir_fd: int) -> None:
        """Look at a regular lower file's header; an empty file says nothing."""
        try:
            fd = open_quietly(name, _FILE, dir_fd)
        except OSError:
            self.unreadable += 1
            return
        try:
            found = find_header(fd)
            packets = found.header.passphrase_packets
            if packets:
                signatures = tuple(packet.signature for packet in packets)
                self.profiles[Profile(signatures, packets[-1].cipher, found.in_xattr)] += 1
            else:
                self.public_key_files += 1
        except FormatError:
            self.foreign += os.fstat(fd).st_size > 0
        except OSError:
            self.unreadable += 1
        finally:
            os.close(fd)


class Walk:
    """A survey that can be looked at before the keys are at hand, and then goes on from there."""

    def __init__(self, root_fd: int) -> None:
        self._steps = survey_steps(root_fd)
        self._found = Survey()

    def __iter__(self) -> Iterator[Survey]:
        """The findings so far, then those of every further step."""
        if self._found.entries:
            yield self._found
        for found in self._steps:
            self._found = found
            yield found

    def first_findings(self) -> Survey:
        """The findings of the first steps, until they show a file that a passphrase's key opens."""
        for found in self:
            if found.profiles or found.entries >= LIMIT:
                break
        return self._found


def survey_steps(root_fd: int) -> Iterator[Survey]:
    """Walk a lower tree breadth first, yielding the same findings after every few hundred entries.

    The caller stops when it has seen enough. Directories that cannot be read are counted and passed over.
    """
    found = Survey()
    queue: deque[tuple[bytes, ...]] = deque([()])
    due = _STEP
    while queue:
        path = queue.popleft()
        try:
            fd = _open_below(root_fd, path)
        except OSError:
            found.unreadable += 1
            continue
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    found.entries += 1
                    found.note_name(name)
                    if entry.is_dir(follow_symlinks=False):
                        if len(path) < _DEEPEST:
                            queue.append((*path, name))
                    elif entry.is_file(follow_symlinks=False):
                        found.note_file(name, fd)
                    if found.entries >= due:
                        due += _STEP
                        yield found
        except OSError:
            found.unreadable += 1
        finally:
            os.close(fd)
    yield found


def _open_below(root_fd: int, path: tuple[bytes, ...]) -> int:
    """Open a directory one name at a time, so that no symlink is followed."""
    fd = open_quietly(b".", _DIRECTORY, root_fd)
    for name in path:
        try:
            below = open_quietly(name, _DIRECTORY, fd)
        finally:
            os.close(fd)
        fd = below
    return fd
