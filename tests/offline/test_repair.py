"""Repairs: what is seen above stays, or more is seen; all can be undone to the last octet."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.errors import TreeError
from fusecrypt.keys.token import FNEK_SALT
from fusecrypt.offline import repair as repairs
from fusecrypt.offline.check import Checker
from fusecrypt.offline.findings import Fault
from fusecrypt.offline.quarantine import HEADER, LOG, Action, Quarantine
from fusecrypt.offline.repair import Outcome, repair, undo
from fusecrypt.tree.names import name_codec
from fusecrypt.tree.policy import NamePolicy, Policy
from tests.tree.support import OWN, User, lower_name, lower_state, manifest, opened, policy, token

OTHER = token(b"another", FNEK_SALT)
BY = replace(policy(), others=(OTHER,))
BY_OTHER = replace(BY, names=NamePolicy(OTHER, policy().cipher))


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    path = tmp_path / "lower"
    path.mkdir()
    with opened(path, BY) as tree:
        user = User(tree)
        user.mkdir("directory")
        user.create("directory/file", b"x" * 10_000)
        user.create("empty")
    os.utime(path, ns=(10**18, 10**18))
    return path


def lower_of(lower: Path, upper: str, by: Policy = BY) -> Path:
    with opened(lower, by) as tree:
        return lower / lower_name(tree, upper)


def repaired(lower: Path, by: Policy = BY) -> list[Outcome]:
    fd = os.open(lower, os.O_RDONLY)
    try:
        findings = [finding for finding in Checker(fd, by, 2).findings() if not finding.is_good]
        with closing(Quarantine(lower.with_name("q"), os.fstat(fd).st_ino, new=True)) as quarantine:
            return list(repair(fd, by, findings, quarantine))
    finally:
        os.close(fd)


def undone(lower: Path) -> list[Outcome]:
    fd = os.open(lower, os.O_RDONLY)
    try:
        with closing(Quarantine(lower.with_name("q"), os.fstat(fd).st_ino, new=False)) as quarantine:
            return list(undo(fd, quarantine))
    finally:
        os.close(fd)


def wrong(lower: Path, by: Policy = BY) -> set[object]:
    fd = os.open(lower, os.O_RDONLY)
    try:
        return {finding.kind for finding in Checker(fd, by, 2).findings() if not finding.is_good}
    finally:
        os.close(fd)


def state(lower: Path) -> dict[str, tuple[object, ...]]:
    """Without times of change, which a repair and its undoing set, and blocks."""
    return {path: (*fields[:6], *fields[7:9], *fields[10:]) for path, fields in lower_state(lower).items()}


def shown(lower: Path, by: Policy = BY) -> list[dict[str, object]]:
    with opened(lower, replace(by, read_only=True)) as tree:
        return manifest(tree)


def overwrite(path: Path, at: int, octets: bytes) -> None:
    st = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(octets)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def cut(path: Path) -> None:
    st = path.stat()
    os.truncate(path, 5000)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "zero fill": lambda lower: overwrite(lower_of(lower, "directory/file"), 5000, b"\1"),
    "iterations": lambda lower: overwrite(lower_of(lower, "directory/file"), 40, b"\x61"),
    "flags": lambda lower: overwrite(lower_of(lower, "directory/file"), 18, b"\1"),
    "cut": lambda lower: cut(lower_of(lower, "empty")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_headers(damage: Callable[[Path], object], lower: Path) -> None:
    before = shown(lower)
    whole = state(lower)
    damage(lower)
    damaged = state(lower)
    assert damaged != whole
    (outcome,) = repaired(lower)
    assert outcome.done
    assert wrong(lower) == set()
    assert shown(lower) == before
    assert state(lower) == whole
    assert [each.refused for each in undone(lower)] == [""]
    assert state(lower) == damaged


def test_header_in_an_attribute(tmp_path: Path) -> None:
    lower, by = tmp_path / "lower", replace(BY, xattr_metadata=True)
    lower.mkdir()
    with opened(lower, by) as tree:
        User(tree).create("file", b"contents")
    path = lower_of(lower, "file", by)
    whole = os.getxattr(path, OWN)
    os.setxattr(path, OWN, whole + b"\2more")
    (outcome,) = repaired(lower, by)
    assert outcome.done
    assert os.getxattr(path, OWN) == whole
    undone(lower)
    assert os.getxattr(path, OWN) == whole + b"\2more"


def test_names(lower: Path) -> None:
    before = shown(lower)
    directory = lower_of(lower, "directory")
    file = lower_of(lower, "directory/file")
    whole = state(lower)
    times = directory.stat(), lower.stat()
    by_other = os.fsdecode(name_codec(BY_OTHER.names).encode(b"file"))
    os.rename(file, directory / by_other)
    os.rename(directory, lower / (directory.name + "-"))
    for path, st in zip((lower / (directory.name + "-"), lower), times, strict=True):
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    damaged = state(lower)
    assert len(shown(lower)) == 1
    assert wrong(lower) == {Fault.NAME, Fault.OTHER_FNEK}
    assert [outcome.refused for outcome in repaired(lower)] == ["", ""]
    assert wrong(lower) == set()
    assert shown(lower) == before
    assert state(lower) == whole
    assert [outcome.refused for outcome in undone(lower)] == ["", ""]
    assert state(lower) == damaged


def test_of_two_names_the_hidden_one_goes_to_the_quarantine(lower: Path) -> None:
    directory = lower_of(lower, "directory")
    hidden = lower / (directory.name + "-")
    hidden.mkdir()
    (hidden / "in it").write_text("kept")
    before, damaged = shown(lower), state(lower)
    (outcome,) = repaired(lower)
    assert outcome.done == f"moved to {lower.with_name('q') / '0'}"
    assert (lower.with_name("q") / "0" / "in it").read_text() == "kept"
    assert wrong(lower) == set()
    assert [each["path"] for each in shown(lower)] == [each["path"] for each in before]
    undone(lower)
    assert {path: fields[:-2] for path, fields in state(lower).items()} == {
        path: fields[:-2] for path, fields in damaged.items()
    }


def test_what_cannot_be_repaired_stays(lower: Path) -> None:
    file = lower_of(lower, "directory/file")
    os.truncate(file, 8192 + 4096)
    (lower / "plain").write_text("text")
    overwrite(lower_of(lower, "empty"), 0, b"\0\0\0\0\0\0\0\5")
    before = lower_state(lower)
    assert repaired(lower) == []
    assert lower_state(lower) == before


def test_what_was_changed_since_is_not_undone(lower: Path) -> None:
    overwrite(lower_of(lower, "directory/file"), 5000, b"\1")
    repaired(lower)
    overwrite(lower_of(lower, "directory/file"), 6000, b"\1")
    before = lower_state(lower)
    (outcome,) = undone(lower)
    assert "changed since" in outcome.refused
    assert lower_state(lower) == before


def test_sizes_that_changed_since_stay_when_it_is_undone(lower: Path) -> None:
    overwrite(lower_of(lower, "directory/file"), 5000, b"\1")
    repaired(lower)
    with opened(lower, BY) as tree:
        User(tree).write("directory/file", 10_000, b"more")
    undone(lower)
    with opened(lower, BY) as tree:
        assert User(tree).read("directory/file") == b"x" * 10_000 + b"more"


def test_what_was_logged_and_not_made_is_no_trouble_when_it_is_undone(
    lower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a full disk, or a kill."""
    directory = lower_of(lower, "directory")
    os.rename(directory, lower / (directory.name + "-"))
    (lower / directory.name).mkdir()  # the one that is hidden is to be moved
    overwrite(lower_of(lower, "empty"), 5000, b"\1")
    damaged = state(lower)

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(repairs, "renameat2", fails)
        patched.setattr(os, "pwrite", fails_below(lower, os.pwrite, fails))
        outcomes = repaired(lower)
    assert [each.done for each in outcomes] == ["", ""]
    assert {each.refused for each in outcomes} == {os.strerror(errno.ENOSPC)}
    assert undone(lower) == []
    assert state(lower) == damaged


def fails_below(lower: Path, call: Callable[..., Any], fails: Callable[..., Any]) -> Callable[..., Any]:
    """A call on descriptors that fails for those of files below ``lower``."""

    def chosen(fd: int, *more: Any) -> Any:
        within = Path(os.readlink(f"/proc/self/fd/{fd}")).is_relative_to(lower)
        return (fails if within else call)(fd, *more)

    return chosen


def test_a_quarantine_belongs_to_one_tree(lower: Path) -> None:
    repaired(lower)
    with pytest.raises(FileExistsError):
        repaired(lower)
    with pytest.raises(TreeError, match="is no quarantine of this tree"):
        Quarantine(lower.with_name("q"), lower.stat().st_ino + 1, new=False)
    with (lower.with_name("q") / "undo.log").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(TreeError, match="is damaged"):
        undone(lower)


def test_a_torn_record_is_cut_off_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a full disk tore, and one that a kill tore."""
    first, second, third = (Action(HEADER, b"file%d" % n, n, b"before", b"after") for n in range(3))
    write, room = os.pwrite, 20

    def fills_up(fd: int, data: bytes, at: int) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = write(fd, data[:room], at)
        room -= n
        return n

    with closing(Quarantine(tmp_path / "q", 1, new=True)) as quarantine:
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", fills_up)
            with pytest.raises(OSError, match="No space"):
                quarantine.log(first)
        quarantine.log(second)
    with (tmp_path / "q" / LOG).open("ab") as file:
        file.write(b'{"after":"61')
    with closing(Quarantine(tmp_path / "q", 1, new=False)) as quarantine:
        assert quarantine.actions == [second]
        quarantine.log(third)
    with closing(Quarantine(tmp_path / "q", 1, new=False)) as quarantine:
        assert quarantine.actions == [second, third]
