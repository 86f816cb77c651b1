"""What targets of copies meet: directories that are swapped, and file systems that can do less."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.native import Stat, renameat2
from fusecrypt.offline import plaintarget
from fusecrypt.offline.acl import acl_text
from fusecrypt.offline.paxheader import Member
from fusecrypt.offline.places import Places
from fusecrypt.offline.standing import same_time
from fusecrypt.tree.tree import Tree
from tests.offline.copies import exported, rules, told_of
from tests.tree.support import User, lower_name, opened, policy


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy()) as tree:
        user = User(tree)
        user.create("one", b"1" * 5000)
        user.create("two", b"2")
        user.link("one", "more")
        yield tree


def refusing(code: int, when: Callable[..., bool], real: Callable[..., Any]) -> Callable[..., Any]:
    """The system call, which fails for some arguments."""

    def call(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **named)

    return call


def test_a_directory_that_became_a_symlink_leads_nowhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "d" / "e").mkdir(parents=True)
    (outside / "e").mkdir(parents=True)
    fd = os.open(root, os.O_RDONLY)
    places = Places(fd)
    try:
        before = os.fstat(places.fd(b"d"))
        (root / "d").rename(tmp_path / "moved")
        (root / "d").symlink_to(outside)
        assert os.path.samestat(os.fstat(places.fd(b"d")), before)  # it is the same, wherever it is now
        assert os.path.samestat(os.fstat(places.fd(b"d/e")), (tmp_path / "moved" / "e").stat())
        for number in range(200):
            (root / str(number)).mkdir()
            places.fd(str(number).encode())
        for path in (b"d", b"d/e"):
            with pytest.raises(NotADirectoryError):
                places.fd(path)
        assert len(os.listdir("/proc/self/fd")) < 200
    finally:
        places.close()
        os.close(fd)


def test_without_renaming_that_replaces_nothing(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refusing(errno.EINVAL, lambda *words: words[-1] == 1, renameat2)
    monkeypatch.setattr(plaintarget, "renameat2", refused)
    out = tmp_path / "out"
    assert exported(tree, out, rules())[0] == []
    assert sorted(path.name for path in out.iterdir()) == ["more", "one", "two"]
    (out / "two").write_bytes(b"mine")
    told, _ = exported(tree, out, rules(keep_going=True))
    assert list(told_of(told)) == ["two"]
    assert (out / "two").read_bytes() == b"mine"


def test_without_hard_links(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM, lambda *_: True, os.link))
    told, tally = exported(tree, tmp_path / "out", rules())
    ((_, (reason, status)),) = told_of(told).items()
    assert "can be made (Operation not permitted): it is a copy" in reason
    assert status == 0
    assert (tmp_path / "out" / "more").read_bytes() == (tmp_path / "out" / "one").read_bytes()
    assert tally.objects == 3


def test_attributes_that_cannot_be_set(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lower" / lower_name(tree, "two")
    os.setxattr(path, "user.color", b"red")
    os.setxattr(path, "trusted.secret", b"x")
    codes = {b"user.color": errno.EOPNOTSUPP, b"trusted.secret": errno.EPERM}
    real = os.setxattr

    def setxattr(where: int, name: bytes, value: bytes) -> None:
        if name in codes:
            raise OSError(codes[name], os.strerror(codes[name]))
        real(where, name, value)

    monkeypatch.setattr(os, "setxattr", setxattr)
    told, _ = exported(tree, tmp_path / "out", rules())
    assert sorted((problem.reason, problem.status) for problem in told) == [
        ("its attribute trusted.secret: Operation not permitted", 0),
        ("its attribute user.color: Operation not supported", 1),
    ]
    assert (tmp_path / "out" / "two").read_bytes() == b"2"


def test_times_that_a_file_system_cuts() -> None:
    assert same_time(5_300_000_007, 5_300_000_007)
    assert same_time(5_300_000_007, 5_000_000_000)
    assert same_time(5_300_000_007, 4_000_000_000)
    assert not same_time(5_300_000_007, 5_300_000_000)
    assert not same_time(5_000_000_000, 6_000_000_000)


def test_acl_text() -> None:
    value = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000 04000000ffffffff 10000700ffffffff")
    assert acl_text(value) == "user::rw-,user:1000:r--,group::---,mask::rwx"


def test_pax_records_count_their_own_length() -> None:
    zero = Stat(*[0] * 16)
    for length in range(80, 110):  # where another digit makes another digit
        header = Member(b"n", b"0", zero, 0o644, {b"k": b"v" * length}).header()
        body = header[512:]
        while body[:1] != b"\0":
            n = int(body.split(b" ", 1)[0])
            assert body[n - 1 : n] == b"\n"
            body = body[n:]
        assert b" k=" + b"v" * length + b"\n" in header
