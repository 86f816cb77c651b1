"""What a file or directory is, without any key: eCryptfs data, something else that is known, or neither."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.errors import FormatError, NotEcryptfsError
from fusecrypt.native import open_quietly
from fusecrypt.offline import material
from fusecrypt.offline.foreign import SAMSUNG_ADVICE, SAMSUNG_MARK, Format, file_format
from fusecrypt.offline.material import Material
from fusecrypt.offline.search import Findings, search
from fusecrypt.ondisk.ciphers import BY_CODE
from fusecrypt.ondisk.names import decode_name
from fusecrypt.tree.headers import Found, find_header
from fusecrypt.tree.survey import LIMIT, Survey, survey_steps

TREE = "ecryptfs-tree"
TREES = "ecryptfs-trees"
OTHERS = "others"
FILE = "ecryptfs-file"
DAMAGED = "ecryptfs-damaged"
NAME = "ecryptfs-name"
KEY_FILE = "ecryptfs-key-file"
UNKNOWN = "unknown"

ECRYPTFS = frozenset((TREE, TREES, FILE, NAME, KEY_FILE))
"""The kinds of what is eCryptfs's and in order."""

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class Identity:
    """What was found. ``what`` is one line; ``advice`` says what to do with something else.

    A tree has a ``survey``, a file ``found``; ``needs`` are ways to open them, each enough. ``trees`` are
    those in a directory that is none itself.
    """

    path: Path
    kind: str
    what: str
    advice: str = ""
    survey: Survey | None = None
    found: Found | None = None
    material: tuple[Material, ...] = ()
    refusals: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    trees: tuple[Identity, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of a tree was looked at."""
        return self.survey is None or self.survey.entries < LIMIT


def identify(path: Path) -> Identity:
    """Look at a file, device or directory; a symlink is followed. Raises OSError."""
    if stat.S_ISDIR(os.stat(path).st_mode):
        return _directory(path)
    fd = open_quietly(path, _OPEN)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return _file(path, fd)
    finally:
        os.close(fd)
    return Identity(path, UNKNOWN, "neither file nor directory nor block device")


def _directory(path: Path) -> Identity:
    findings = search(path)
    real = path.resolve()
    if findings.trees == [real]:
        return _tree(path)
    others = dict(findings.others)
    if real in others and not findings.trees:
        return _other(path, others[real])
    parts = (*map(_tree, findings.trees), *(_other(where, what) for where, what in findings.others))
    if findings.trees:
        what = f"directory with eCryptfs trees in it: {len(findings.trees)}"
        return Identity(path, TREES, what, f"`fusecrypt recover {path}` tries a secret on all", trees=parts)
    if parts:
        return Identity(
            path, OTHERS, "no eCryptfs data, but encrypted directories of other kinds", trees=parts
        )
    found, refusals = material.examine_all(findings.material)
    return _by_its_files(path, findings.sample) or Identity(
        path, UNKNOWN, "no eCryptfs data, and no other known signature", _elsewhere(findings),
        material=tuple(found), refusals=tuple(refusals),
    )  # fmt: skip


def _by_its_files(path: Path, sample: list[Path]) -> Identity | None:
    """What the first files below a directory are, if some are of another known kind."""
    seen: Counter[Format | None] = Counter()
    for file in sample:
        with suppress(OSError):
            seen[_format_of(file)] += 1
    for known, count in seen.most_common():
        if known is not None:
            what = f"no eCryptfs data; {known.name}: {count} of the first {seen.total()} files"
            return Identity(path, known.kind, what, known.advice)
    return None


def _format_of(path: Path) -> Format | None:
    fd = open_quietly(path, _OPEN | os.O_NOFOLLOW)
    try:
        return file_format(fd)
    finally:
        os.close(fd)


def _elsewhere(findings: Findings) -> str:
    """Where the data of an unmounted home are."""
    return "; ".join(f"{link} leads to {target}: look there" for link, target in findings.links)


def _other(path: Path, known: Format) -> Identity:
    return Identity(path, known.kind, known.name, known.advice)


def _tree(path: Path) -> Identity:
    survey = survey_of(path)
    signatures = survey.content_signatures | survey.name_signatures
    found, refusals = material.examine_all(material.beside(path, sorted(signatures)))
    return Identity(
        path, TREE, "eCryptfs tree", survey=survey, material=tuple(found), refusals=tuple(refusals),
        needs=tuple(_needs(survey, found, os.path.exists(path / os.fsdecode(SAMSUNG_MARK)))),
    )  # fmt: skip


def survey_of(path: Path) -> Survey:
    """What a whole tree says of itself, or its first half million entries. Raises OSError."""
    found = Survey()
    fd = open_quietly(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for found in survey_steps(fd):
            if found.entries >= LIMIT:
                break
    finally:
        os.close(fd)
    return found


def _needs(survey: Survey, found: list[Material], samsung: bool) -> Iterator[str]:
    if samsung:
        yield SAMSUNG_ADVICE
        return
    if survey.public_key_files and not survey.profiles:
        yield "the public key of ecryptfsd, whose files fusecrypt cannot open"
        return
    for each in found:
        if each.kind == material.EXPORT:
            yield f"no secret, with --wrapped-passphrase {each.path}"
        elif each.kind == material.WRAPPED:
            yield f"the passphrase that opens {each.path}"
        elif each.kind == material.SLOTS:
            yield f"the TPM, passphrase or recovery key of a slot in {each.path}"
    keys = ", ".join(sorted(sig.hex() for sig in survey.content_signatures | survey.name_signatures))
    yield f"the mount passphrase (of a NAS: that of the shared folder), or the key itself, of {keys}"


def _file(path: Path, fd: int) -> Identity:
    try:
        found = find_header(fd)
        needs = tuple(f"key {packet.signature.hex()}" for packet in found.header.passphrase_packets)
        return Identity(path, FILE, "eCryptfs file", found=found, needs=needs)
    except NotEcryptfsError:
        return _no_header(path, fd)
    except FormatError as error:
        return Identity(path, DAMAGED, f"eCryptfs file with a damaged header: {error}")


def _no_header(path: Path, fd: int) -> Identity:
    known = file_format(fd)
    if known is not None:
        return _other(path, known)
    if material.is_candidate(os.fsencode(path.name)):
        found, refusals = material.examine_all([path])
        if found:
            return Identity(path, KEY_FILE, found[0].what, material=tuple(found), refusals=tuple(refusals))
    try:
        sig = decode_name(os.fsencode(path.name)).signature.hex()
    except FormatError:
        return Identity(path, UNKNOWN, "no eCryptfs file, and no other known signature")
    what = f"no eCryptfs header, under a name that key {sig} encrypted"
    if os.fstat(fd).st_size == 0:
        return Identity(path, NAME, f"{what}: an empty file")
    return Identity(path, DAMAGED, what)


def name_cipher(code: int) -> tuple[str, int | None]:
    """The cipher of an encrypted name, and its key size in octets if the code tells."""
    spec = BY_CODE.get(code)
    if spec is None:
        return f"unknown cipher {code:#04x}", None
    sizes = [size for size, its in spec.codes.items() if its == code]
    return spec.name, sizes[0] if len(sizes) == 1 else None
