"""Exports of many small files: what native code copies, what it leaves aside, and that nothing has its name
before it is on the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.copies import COPIED, COPIED_AS_OURS, COPY_ASIDE, copy_many, flush_all, rename_many
from fusecrypt.errors import TreeError
from fusecrypt.lane import Lane
from fusecrypt.offline import bulk, plaintarget
from fusecrypt.offline.target import WORK
from fusecrypt.tree.forms import Forms
from fusecrypt.tree.resolve import Options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.manifest import manifest
from tests.offline.copies import exported, rules, told_of
from tests.tree.support import User, lower_name, open_tree, opened, policy

SIZES = (0, 1, 4095, 4096, 4097, 262143, 262144, 262145, 1 << 20)


def content(n: int) -> bytes:
    return bytes(i * i % 251 for i in range(min(n, 5000))) * (n // 5000 + 1)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy()) as tree:
        user = User(tree)
        user.mkdir("sizes")
        for size in SIZES:
            user.create(f"sizes/{size}", content(size)[:size])
        yield tree


class Seen:
    """What the native calls of an export were asked and said, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.results: dict[bytes, int] = {}
        monkeypatch.setattr(bulk, "copy_many", self._copy)
        monkeypatch.setattr(plaintarget, "flush_all", self._noting("flush", flush_all))
        monkeypatch.setattr(plaintarget, "rename_many", self._noting("rename", rename_many))

    def _noting(self, name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return real(*arguments)

        return call

    def _copy(self, forms: Lane, fds: Sequence[int], lowers: Sequence[bytes], *more: Any) -> bytes:
        self.calls.append("copy")
        results = copy_many(forms, fds, lowers, *more)
        self.results |= zip(lowers, results, strict=True)
        return results

    def of(self, tree: Tree, path: str) -> int:
        return self.results[os.fsencode(os.path.basename(lower_name(tree, path)))]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def test_sizes_and_attributes(tree: Tree, tmp_path: Path, seen: Seen) -> None:
    for mode, size in zip((0o400, 0o666, 0o1777, 0o000, 0o644), SIZES, strict=False):
        path = tmp_path / "lower" / lower_name(tree, f"sizes/{size}")
        os.utime(path, ns=(-1, 2_000_000_003 + size))
        os.chown(path, 1234, 4321 + size)
        path.chmod(mode)
    told, tally = exported(tree, tmp_path / "out", rules())
    assert told == []
    assert set(seen.results.values()) == {COPIED}
    assert (tally.objects, tally.octets) == (len(SIZES), sum(SIZES))
    for size in SIZES:
        copy, lower = (
            tmp_path / "out" / "sizes" / str(size),
            tmp_path / "lower" / lower_name(tree, f"sizes/{size}"),
        )
        assert copy.read_bytes() == content(size)[:size]
        ours, theirs = copy.stat(), lower.stat()
        assert (ours.st_mode, ours.st_uid, ours.st_gid) == (theirs.st_mode, theirs.st_uid, theirs.st_gid)
        assert ours.st_mtime_ns == theirs.st_mtime_ns


def test_what_is_not_plain_goes_the_long_way(tree: Tree, tmp_path: Path, seen: Seen) -> None:
    user, lower = User(tree), tmp_path / "lower"
    for name in ("plain", "attribute", "acl", "set-id", "cut"):
        user.create(name, b"x" * 9000)
    os.setxattr(lower / lower_name(tree, "attribute"), "user.color", b"red")
    os.setxattr(lower / lower_name(tree, "plain"), "user.ecryptfs", b"never looked at")
    acl = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000 04000400ffffffff 10000600ffffffff")
    acl += bytes.fromhex("20000000ffffffff")
    os.setxattr(lower / lower_name(tree, "acl"), "system.posix_acl_access", acl)
    (lower / lower_name(tree, "set-id")).chmod(0o4755)
    os.truncate(lower / lower_name(tree, "cut"), 8192 + 4096)
    told, _ = exported(tree, tmp_path / "out", rules(keep_going=True))
    assert [seen.of(tree, name) for name in ("plain", "attribute", "acl", "set-id", "cut")] == [
        COPIED, COPY_ASIDE, COPY_ASIDE, COPY_ASIDE, COPY_ASIDE,
    ]  # fmt: skip
    assert list(told_of(told)) == ["cut"]
    out = tmp_path / "out"
    assert os.getxattr(out / "attribute", "user.color") == b"red"
    assert os.getxattr(out / "acl", "system.posix_acl_access") == acl
    assert (out / "set-id").stat().st_mode & 0o7777 == 0o4755
    assert os.listxattr(out / "plain") == []
    assert (out / "cut.partial").read_bytes() == b"x" * 4096


def test_a_form_is_learned_from_the_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of other ciphers and keys than new ones have."""
    kernels = golden.tree("two-keys")
    lower = kernels.unpack(tmp_path / "lower")
    seen = Seen(monkeypatch)
    with open_tree(
        lower, kernels.passphrases, Options(read_only=True, cipher="blowfish", key_bytes=32)
    ) as tree:
        monkeypatch.setattr(bulk, "_MOST_FILES", 1)
        monkeypatch.setattr("fusecrypt.offline.arrivals._OBJECTS", 1)
        exported(tree, tmp_path / "out", rules())
    results = list(seen.results.values())
    assert results[0] == COPY_ASIDE
    assert COPIED in results


def test_names_come_after_flushing(tree: Tree, tmp_path: Path, seen: Seen) -> None:
    exported(tree, tmp_path / "out", rules())
    assert seen.calls == ["copy", "flush", "rename", "flush"]


def test_nothing_that_is_not_on_the_disk_gets_its_name(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [errno.EIO, errno.ENOSPC]

    def failing(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(plaintarget, "flush_all", failing)
    code = codes[0]
    with pytest.raises(OSError, match="Input/output error"):  # the flush at the end
        exported(tree, tmp_path / "out", rules(keep_going=True))
    assert list((tmp_path / "out").rglob("[0-9]*")) == []
    code = codes[1]
    with pytest.raises(TreeError, match="the target takes no more"):
        exported(tree, tmp_path / "out", rules())
    assert list((tmp_path / "out").rglob("[0-9]*")) == []


@pytest.mark.parametrize("together", [True, False])
def test_names_that_are_taken_meanwhile(
    together: bool, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def late(*arguments: Any) -> list[int]:
        (out / "sizes" / "4096").write_bytes(b"mine")
        return rename_many(*arguments)

    monkeypatch.setattr(plaintarget, "rename_many", late)
    monkeypatch.setattr(plaintarget, "flushes_together", lambda fd: together)
    told, tally = exported(tree, out, rules(keep_going=True))
    assert list(told_of(told)) == ["sizes/4096"]
    assert (out / "sizes" / "4096").read_bytes() == b"mine"
    assert tally.objects == len(SIZES) - 1
    assert not (out / os.fsdecode(WORK)).exists()


def test_many_directories_in_a_batch(tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy()) as tree:
        user = User(tree)
        for number in range(150):
            user.mkdir(f"d{number}")
            user.create(f"d{number}/f", b"%d" % number)
            os.utime(tmp_path / "lower" / lower_name(tree, f"d{number}"), ns=(1, number))
        open_before = len(os.listdir("/proc/self/fd"))
        assert exported(tree, tmp_path / "out", rules())[0] == []
        assert len(os.listdir("/proc/self/fd")) - open_before <= 150  # the tree's directories
        assert len(tree.nodes) == 1
    assert 4 < seen.calls.count("copy") < 40
    for number in range(150):
        assert (tmp_path / "out" / f"d{number}" / "f").read_bytes() == b"%d" % number
        assert (tmp_path / "out" / f"d{number}").stat().st_mtime_ns == number


def test_an_interrupted_run_leaves_no_drafts(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plaintarget.PlainTarget, "leave", interrupted)
    monkeypatch.setattr(plaintarget.PlainTarget, "commit_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exported(tree, tmp_path / "out", rules())
    assert [e["path"] for e in manifest(tmp_path / "out") if e["type"] == "file"] == [f"{WORK.decode()}/root"]
    assert len(tree.nodes) == 1


def test_owners_that_only_root_can_set(tree: Tree, tmp_path: Path) -> None:
    """In a child that is not root: the group changes where it may, and what was lost is said."""
    path = tmp_path / "lower" / lower_name(tree, "sizes/1")
    os.chown(path, 1234, 1235)
    path.chmod(0o644)
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    lane = Lane.for_forms()
    Forms(lane, tree.policy)
    pid = os.fork()
    if pid == 0:
        work_fd, dir_fd = os.open(work, os.O_RDONLY), os.open(path.parent, os.O_RDONLY)
        os.setgroups([1235])
        os.setresgid(4711, 4711, 4711)
        os.setresuid(4711, 4711, 4711)
        result = copy_many(lane, [dir_fd], [os.fsencode(path.name)], work_fd, 7, False)
        os._exit(result[0])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == COPIED_AS_OURS
    st = (work / "7").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (4711, 1235, 0o644)
