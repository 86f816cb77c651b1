"""Repairs that cannot lose anything, each in a log from which it can be undone.

They change only what no reader goes by, or what nobody sees:

* octets of a header that every reader ignores become those that eCryptfs writes;
* the header of an empty file that was cut is filled up with its zeros;
* a lower name that proves to be one of this tree, but in another form, or under another key or cipher at
  hand, gets the form by which it is found;
* of two lower names for one name the one that is not found goes into the quarantine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from fusecrypt.errors import FusecryptError, TreeError
from fusecrypt.native import open_quietly, renameat2, stat_fd, utimens
from fusecrypt.offline.checkname import NameCheck
from fusecrypt.offline.findings import Fault, Finding, Kind
from fusecrypt.offline.health import State
from fusecrypt.offline.lower import FILE, opened_directory
from fusecrypt.offline.quarantine import HEADER, MOVE, RENAME, Action, Quarantine
from fusecrypt.ondisk import header as ondisk
from fusecrypt.tree.headers import Found, find_header, read_xattr
from fusecrypt.tree.policy import Policy

_NOREPLACE = 1
_SIZE = 8
"""Octets of the size field, which is never repaired."""
_HEADERS: tuple[Kind, ...] = (Fault.HEADER_CHANGED, State.CUT_IN_HEADER)
_NAMES: tuple[Kind, ...] = (Fault.NAME, Fault.OTHER_FNEK)


class Outcome(NamedTuple):
    """What was done about a lower object, or why nothing could be."""

    path: bytes
    done: str = ""
    refused: str = ""


def repair(
    root_fd: int, policy: Policy, findings: Iterable[Finding], quarantine: Quarantine
) -> Iterator[Outcome]:
    """Repair what can be; the deepest objects first, so that all paths stay true."""
    names = NameCheck(policy, keys=True)
    findings = sorted(findings, key=lambda each: each.lower.count(b"/"), reverse=True)
    clashes = {finding.lower for finding in findings if finding.kind is Fault.CLASH}
    for finding in findings:
        above, _, name = finding.lower.rpartition(b"/")
        try:
            with opened_directory(root_fd, above) as dir_fd:
                if finding.kind in _HEADERS:
                    done = _repair_header(dir_fd, name, finding, quarantine)
                elif finding.kind is Fault.CLASH:
                    done = _quarantine(dir_fd, name, finding, quarantine)
                elif finding.kind in _NAMES and finding.upper is not None and finding.lower not in clashes:
                    after = names.canonical(finding.upper.rpartition(b"/")[2])
                    done = _repair_name(dir_fd, name, after, finding, quarantine)
                else:
                    continue
        except (OSError, FusecryptError) as error:
            yield Outcome(finding.lower, refused=_reason(error))
            continue
        if done:
            yield Outcome(finding.lower, done)


def undo(root_fd: int, quarantine: Quarantine) -> Iterator[Outcome]:
    """Undo what was logged, the last first. What was not made is passed over; what was changed since is left
    and named."""
    for action in reversed(quarantine.actions):
        above, _, name = action.path.rpartition(b"/")
        try:
            with opened_directory(root_fd, above) as dir_fd:
                if action.kind == HEADER:
                    undone = _undo_header(dir_fd, name, action)
                elif _is_there(dir_fd, name, action.ino):
                    undone = False
                elif action.kind == RENAME:
                    undone = _undo_rename(dir_fd, dir_fd, action)
                else:
                    undone = _undo_rename(quarantine.dir_fd, dir_fd, action)
        except (OSError, FusecryptError) as error:
            yield Outcome(action.path, refused=_reason(error))
            continue
        if undone:
            yield Outcome(action.path, "as it was before")


def _repair_name(
    dir_fd: int, name: bytes, after: bytes | None, finding: Finding, quarantine: Quarantine
) -> str:
    if after is None or after == name:
        return ""
    quarantine.log(Action(RENAME, finding.lower, _inode(dir_fd, name), name, after))
    _rename(dir_fd, name, dir_fd, after)
    return f"renamed to {os.fsdecode(after)}"


def _quarantine(dir_fd: int, name: bytes, finding: Finding, quarantine: Quarantine) -> str:
    here = b"%d" % len(quarantine.actions)
    quarantine.log(Action(MOVE, finding.lower, _inode(dir_fd, name), name, here))
    _rename(dir_fd, name, quarantine.dir_fd, here)
    return f"moved to {quarantine.path / here.decode()}"


def _repair_header(dir_fd: int, name: bytes, finding: Finding, quarantine: Quarantine) -> str:
    fd = open_quietly(name, os.O_RDWR | FILE, dir_fd)
    try:
        found = find_header(fd)
        before = found.octets if found.in_xattr else os.pread(fd, ondisk.MINIMUM_REGION, 0)
        after = _right_header(found, cut=finding.kind is State.CUT_IN_HEADER)
        if after is None or before == after:
            return ""
        ino = os.fstat(fd).st_ino
        quarantine.log(Action(HEADER, finding.lower, ino, before, after, found.in_xattr))
        _write(fd, after, found.in_xattr)
    finally:
        os.close(fd)
    return "its header has the octets that eCryptfs writes"


def _right_header(found: Found, *, cut: bool) -> bytes | None:
    """The header as eCryptfs writes it, if nothing that readers go by differs; None for other headers."""
    header = found.header
    usual = found.in_xattr or header.region == ondisk.MINIMUM_REGION
    if header.version != ondisk.VERSION or not usual or (cut and header.size):
        return None
    flags = ondisk.FLAG_ENCRYPTED | (ondisk.FLAG_XATTR if found.in_xattr else 0)
    right = replace(header, flags=flags | header.flags & ondisk.FLAG_NAMES)
    return right.encode() if found.in_xattr else right.encode_region()


def _undo_rename(from_fd: int, to_fd: int, action: Action) -> bool:
    if not _is_there(from_fd, action.after, action.ino):
        raise _changed()
    _rename(from_fd, action.after, to_fd, action.before)
    return True


def _undo_header(dir_fd: int, name: bytes, action: Action) -> bool:
    fd = open_quietly(name, os.O_RDWR | FILE, dir_fd)
    try:
        now = (read_xattr(fd) or b"") if action.xattr else os.pread(fd, len(action.after), 0)
        if os.fstat(fd).st_ino != action.ino:
            raise _changed()
        if now[_SIZE:] == action.before[_SIZE:]:
            return False
        if now[_SIZE:] != action.after[_SIZE:]:
            raise _changed()
        was_cut = not action.xattr and len(action.before) < len(action.after) == os.fstat(fd).st_size
        octets = now[:_SIZE] + action.before[_SIZE:]
        _write(fd, octets, action.xattr, length=len(octets) if was_cut else None)
    finally:
        os.close(fd)
    return True


def _write(fd: int, octets: bytes, in_xattr: bool, length: int | None = None) -> None:
    """Write a header, and cut the file to ``length`` if there is one; the times stay."""
    st = os.fstat(fd)
    if in_xattr:
        os.setxattr(fd, ondisk.XATTR_NAME, octets, os.XATTR_REPLACE)
    else:
        os.pwrite(fd, octets, 0)
        if length is not None:
            os.ftruncate(fd, length)
    os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
    os.fsync(fd)


def _rename(old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
    """Rename without replacing anything; the times of the directories stay."""
    times = [(fd, stat_fd(fd, False)) for fd in (old_fd, new_fd)]
    renameat2(old_fd, old, new_fd, new, _NOREPLACE)
    for fd, st in times:
        utimens(fd, b"", st.atime_ns, st.mtime_ns)
        os.fsync(fd)


def _inode(dir_fd: int, name: bytes) -> int:
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino


def _is_there(dir_fd: int, name: bytes, ino: int) -> bool:
    with suppress(FileNotFoundError):
        return _inode(dir_fd, name) == ino
    return False


def _changed() -> TreeError:
    return TreeError("it was changed since, and was left as it is")


def _reason(error: OSError | FusecryptError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
