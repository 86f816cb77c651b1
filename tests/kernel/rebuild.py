"""Write a lower file once more, with the key and marker that it has: it has to come out the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fusecrypt.errors import NotEcryptfsError
from fusecrypt.ondisk.header import FLAG_NAMES
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.headers import Found, find_header, read_xattr, unlock
from fusecrypt.tree.policy import Policy

PIECE = 7000  # octets of a write: extents are written in parts and completed


def encrypted_files(lower: Path) -> Iterator[Path]:
    """The regular files of a lower tree that have a header."""
    for directory, _, names in os.walk(lower):
        for path in map(Path(directory).joinpath, sorted(names)):
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            with path.open("rb") as file:
                try:
                    find_header(file.fileno())
                except NotEcryptfsError:
                    continue
                yield path


def differences(lower: Path, copy: Path, policy: Policy) -> list[str]:
    """How the files of a lower tree differ from what a plain write of their contents makes of them.

    Each is written to `copy` in its turn. The policy's keys are used as the file's own header says.
    """
    paths = list(encrypted_files(lower))
    assert paths, f"{lower} has no encrypted files"
    return [line for path in paths for line in _differences(path, copy, policy)]


def _differences(path: Path, copy: Path, policy: Policy) -> list[str]:
    copy.unlink(missing_ok=True)  # a file that is written anew keeps its attributes
    with path.open("rb", buffering=0) as source, copy.open("w+b", buffering=0) as target:
        found = find_header(source.fileno())
        policy = _policy_of(found, policy)
        old = EncryptedFile(os.dup(source.fileno()), False, policy)
        new = EncryptedFile(os.dup(target.fileno()), True, policy)
        try:
            old.use(found, unlock(found.header, policy))
            new.initialise(unlock(found.header, policy), found.header.marker)
            _copy(old, new)
        finally:
            old.close()
            new.close()
        lines = []
        if path.stat().st_size != copy.stat().st_size:
            lines.append(f"{path}: {copy.stat().st_size} octets instead of {path.stat().st_size}")
        elif path.read_bytes() != copy.read_bytes():
            lines.append(f"{path}: other octets")
        if read_xattr(source.fileno()) != read_xattr(target.fileno()):
            lines.append(f"{path}: another metadata attribute")
    return lines


def _policy_of(found: Found, policy: Policy) -> Policy:
    """The policy that makes files like this one, with the keys of the given policy."""
    header = found.header
    tokens = [policy.token(packet.signature) for packet in header.passphrase_packets]
    return Policy(
        content=tuple(token for token in tokens if token is not None),
        cipher=header.passphrase_packets[0].cipher,
        names=policy.names if header.flags & FLAG_NAMES else None,
        xattr_metadata=found.in_xattr,
    )


def _copy(old: EncryptedFile, new: EncryptedFile) -> None:
    buffer = memoryview(bytearray(PIECE))
    while count := old.read_into(buffer, new.size, PIECE):
        new.write(new.size, buffer[:count])
