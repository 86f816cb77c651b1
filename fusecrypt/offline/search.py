"""Where eCryptfs trees lie below a directory, and files that may hold their keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fusecrypt.errors import FormatError
from fusecrypt.native import PEEK_ERROR, PEEK_HEADER, Stat, open_quietly, stat_many
from fusecrypt.offline import material
from fusecrypt.offline.foreign import FSCRYPT_ROOT, Format, directory_format
from fusecrypt.ondisk.header import Header, parse_header
from fusecrypt.ondisk.names import decode_name
from fusecrypt.tree.headers import find_header, read_xattr
from fusecrypt.tree.tree import by_descriptor

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DEEPEST = 256
_SAMPLES = 16
"""Files of a directory whose keys are looked at."""
_FOREIGN_SAMPLES = 64

_RUNNING = frozenset(map(Path, ("/proc", "/sys", "/dev", "/run")))
"""Directories of the running system that hold no files of anybody."""

_LINK = b".Private"
"""What an unmounted whole home has in place of its lower tree."""


@dataclass(frozen=True)
class Part:
    """A directory with eCryptfs objects, or one that holds nothing but such directories.

    ``signatures`` are those seen there; ``named`` tells that its own names are encrypted.
    """

    path: Path
    signatures: frozenset[bytes]
    named: bool


@dataclass
class Findings:
    """``parts`` are the trees, ``others`` directories of other kinds, which are not entered, ``sample`` the
    first files that are not eCryptfs's, ``links`` those of an unmounted home to directories elsewhere."""

    parts: list[Part] = field(default_factory=list)
    others: list[tuple[Path, Format]] = field(default_factory=list)
    material: list[Path] = field(default_factory=list)
    sample: list[Path] = field(default_factory=list)
    links: list[tuple[Path, Path]] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)

    @property
    def trees(self) -> list[Path]:
        """The lower roots."""
        return [part.path for part in self.parts]


def search(root: Path) -> Findings:
    """Look at everything below a directory; symlinks are not followed. Raises OSError for ``root`` itself.

    A root is where encrypted names or files begin. Names that are plain do not tell where: then directories
    beside one another whose files have a key in common, with nothing else beside them, belong to one tree.
    """
    findings = Findings()
    root = Path(os.path.realpath(root))
    fd = open_quietly(root, _DIRECTORY)
    try:
        findings.parts, _ = _look(findings, root, fd, 0)
    finally:
        os.close(fd)
    return findings


def _look(findings: Findings, path: Path, fd: int, depth: int) -> tuple[list[Part], bool]:
    """The parts below an open directory, and whether there is anything else."""
    names = [os.fsencode(name) for name in os.listdir(fd)]
    findings.material += [path / os.fsdecode(name) for name in names if material.is_candidate(name)]
    own = _name_signatures(names)
    named = bool(own)
    stats = dict(zip(names, stat_many(fd, names, True), strict=True))
    foreign, headers = _files(findings, path, fd, stats)
    own |= {packet.signature for header in headers for packet in header.packets}
    other = None if own or headers else directory_format(fd, set(names))
    if other is not None:
        findings.others.append((path, other))
        if other is not FSCRYPT_ROOT:
            return [], True
    parts: list[Part] = []
    for name in sorted(names):
        kind = stat.S_IFMT(stats[name].mode)
        below = path / os.fsdecode(name)
        if kind == stat.S_IFLNK and name == _LINK:
            _note_link(findings, below, fd, name)
        elif kind == stat.S_IFDIR and not _is_encrypted(name) and below not in _RUNNING:
            more, mixed = _enter(findings, below, fd, name, depth + 1)
            parts += more
            foreign = foreign or mixed
    if own or headers:
        signatures = own.union(*(part.signatures for part in parts if part.signatures & own))
        rest = [part for part in parts if not part.signatures & own]
        return [Part(path, frozenset(signatures), named), *rest], foreign
    return _joined(path, parts, foreign), foreign


def _enter(findings: Findings, path: Path, dir_fd: int, name: bytes, depth: int) -> tuple[list[Part], bool]:
    if depth > _DEEPEST:
        findings.unreadable.append(path)
        return [], True
    try:
        fd = open_quietly(name, _DIRECTORY, dir_fd)
        try:
            return _look(findings, path, fd, depth)
        finally:
            os.close(fd)
    except OSError:
        findings.unreadable.append(path)
        return [], True


def _joined(path: Path, parts: list[Part], foreign: bool) -> list[Part]:
    if foreign or len(parts) < 2 or any(part.named for part in parts):
        return parts
    if not frozenset.intersection(*(part.signatures for part in parts)):
        return parts
    return [Part(path, frozenset().union(*(part.signatures for part in parts)), False)]


def _is_encrypted(name: bytes) -> bool:
    with suppress(FormatError):
        decode_name(name)
        return True
    return False


def _name_signatures(names: Iterable[bytes]) -> set[bytes]:
    found = set()
    for name in names:
        with suppress(FormatError):
            found.add(decode_name(name).signature)
    return found


def _files(
    findings: Findings, path: Path, fd: int, stats: dict[bytes, Stat]
) -> tuple[bool, Sequence[Header]]:
    """Whether there are other files than eCryptfs's, and the headers of some of the latter."""
    foreign, headers = False, list[Header]()
    for name, st in stats.items():
        if not stat.S_ISREG(st.mode) or (st.peek == PEEK_HEADER and len(headers) >= _SAMPLES):
            continue
        header = None
        if st.peek != PEEK_ERROR:
            with suppress(OSError, FormatError):
                header = _header(fd, name, st)
        if header is not None:
            headers.append(header)
        elif st.size:
            foreign = True
            if len(findings.sample) < _FOREIGN_SAMPLES:
                findings.sample.append(path / os.fsdecode(name))
    return foreign, headers


def _header(dir_fd: int, name: bytes, st: Stat) -> Header | None:
    if st.peek != PEEK_HEADER:
        value = read_xattr(f"{by_descriptor(dir_fd)}/{os.fsdecode(name)}")
        return None if value is None else parse_header(value)
    fd = open_quietly(name, _FILE, dir_fd)
    try:
        return find_header(fd).header
    finally:
        os.close(fd)


def _note_link(findings: Findings, path: Path, dir_fd: int, name: bytes) -> None:
    with suppress(OSError):
        findings.links.append((path, Path(os.fsdecode(os.readlink(name, dir_fd=dir_fd)))))
