"""What a lower tree says of itself without any key: signatures, ciphers, where metadata and names stand."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from fusecrypt.errors import FormatError
from fusecrypt.ondisk.ciphers import CipherChoice
from fusecrypt.ondisk.names import NamePacket, decode_name
from fusecrypt.tree.place import LocalPlace, LowerEntry, Place

LIMIT = 500_000
"""Entries after which nothing new is expected."""

_LOST_AND_FOUND = b"lost+found"
"""The one plain name that a file system itself may put into an empty directory."""
_STEP = 512
_SAMPLES = 64
DEEPEST = 256
"""Levels that are looked at. A directory is reached step by step, so a hostile depth costs its square."""


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

    def note_file(self, entry: LowerEntry) -> None:
        """Look at a regular lower file's header; an empty file says nothing."""
        try:
            try:
                found = entry.header()
            except FormatError:
                self.foreign += entry.size() > 0
                return
        except OSError:
            self.unreadable += 1
            return
        packets = found.header.passphrase_packets
        if packets:
            signatures = tuple(packet.signature for packet in packets)
            self.profiles[Profile(signatures, packets[-1].cipher, found.in_xattr)] += 1
        else:
            self.public_key_files += 1


class Walk:
    """A survey that can be looked at before the keys are at hand, and then goes on from there."""

    def __init__(self, lower: int | Place) -> None:
        """``lower`` as for :func:`survey_steps`."""
        self.place: Place = LocalPlace(lower) if isinstance(lower, int) else lower
        self._steps = survey_steps(self.place)
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


def survey_steps(lower: int | Place) -> Iterator[Survey]:
    """Walk a lower tree breadth first, yielding the same findings after every few hundred entries.

    ``lower`` is an open directory of this machine, or a tree elsewhere. The caller stops when it has seen
    enough. Directories that cannot be read are counted and passed over.
    """
    place = LocalPlace(lower) if isinstance(lower, int) else lower
    found = Survey()
    queue: deque[tuple[bytes, ...]] = deque([()])
    due = _STEP
    while queue:
        path = queue.popleft()
        try:
            with place.directory(path) as entries:
                for entry in entries:
                    found.entries += 1
                    found.note_name(entry.name)
                    if entry.is_directory:
                        if len(path) < DEEPEST:
                            queue.append((*path, entry.name))
                    elif entry.is_regular:
                        found.note_file(entry)
                    if found.entries >= due:
                        due += _STEP
                        yield found
        except OSError:
            found.unreadable += 1
    yield found
