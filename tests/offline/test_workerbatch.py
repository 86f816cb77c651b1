"""Small files that a worker copies: what it does in one attempt, and what a copy makes of that."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fusecrypt.copies import COPIED, COPY_ASIDE
from fusecrypt.errors import TreeError
from fusecrypt.offline import bulk, worker, workerbatch
from fusecrypt.offline.copyfile import Carried, Going, Part, Workers, copy_contents
from fusecrypt.offline.export import export_tree
from fusecrypt.offline.items import Problem, Tally
from fusecrypt.offline.target import WORK
from fusecrypt.offline.worker import Job, Piece, carry_piece, digest
from fusecrypt.offline.workerbatch import Batch, carry_batch
from fusecrypt.storage.keysource import key_options
from fusecrypt.tree.headers import find_header
from fusecrypt.tree.resolve import Options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.manifest import manifest
from tests.offline.copies import exported, rules, told_of
from tests.tree.support import User, lower_name, open_tree, opened, policy

HERE = SimpleNamespace(address="inproc://1", scheduler=SimpleNamespace(address="inproc://2"))


class Worker:
    """One in this process, with the keys of a tree."""

    def __init__(self, tree: Tree, lower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = Job(f"job {time.monotonic_ns()}", str(lower), key_options({}, ""))
        self.results: list[int] = []
        self.before: Callable[[Batch], None] = lambda _: None
        keys = replace(tree.policy, read_only=True)
        monkeypatch.setattr(worker, "_find", lambda _: keys)
        monkeypatch.setattr(worker, "wipe", lambda _: None)  # they are the tree's
        worker.prepare(self.job, HERE)

    def carry_many(self, work: bytes, parts: Sequence[Part], _: Going) -> Carried:
        batch = Batch(work, parts)
        self.before(batch)
        carried = carry_batch(self.job, batch)
        if carried.errno:
            raise OSError(carried.errno, os.strerror(carried.errno))
        self.results += carried.results
        return carried

    def export(self, tree: Tree, out: Path, **more: Any) -> list[Problem]:
        told: list[Problem] = []
        workers = Workers(2, copy_contents, self.carry_many)
        export_tree(tree, out, rules(**more), told.append, Tally(), workers=workers)
        return told


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy()) as tree:
        user = User(tree)
        for number in range(90):
            if number % 3 == 0:
                user.mkdir(f"d{number // 3}")
            user.create(f"d{number // 3}/{number}", bytes([number]) * number * 1000)
        yield tree


@pytest.fixture
def here(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    found = Worker(tree, tmp_path / "lower", monkeypatch)
    yield found
    worker.forget(found.job.name)


def plain(tree: Tree, tmp_path: Path) -> Any:
    exported(tree, tmp_path / "plain", rules(keep_going=True))
    return manifest(tmp_path / "plain")


def test_small_files_are_copied_there(tree: Tree, here: Worker, tmp_path: Path) -> None:
    User(tree).create("root", b"in no directory")
    assert here.export(tree, tmp_path / "out") == []
    assert here.results == [COPIED] * 91
    assert manifest(tmp_path / "out") == plain(tree, tmp_path)


def test_what_is_not_plain_is_copied_here(tree: Tree, here: Worker, tmp_path: Path) -> None:
    user, lower = User(tree), tmp_path / "lower"
    os.setxattr(lower / lower_name(tree, "d1/3"), "user.color", b"red")
    (lower / lower_name(tree, "d1/4")).chmod(0o4755)
    user.link("d1/5", "link")
    os.truncate(lower / lower_name(tree, "d9/29"), 8192 + 8192)
    told = here.export(tree, tmp_path / "out", keep_going=True)
    assert [(path, status) for path, (_, status) in told_of(told).items()] == [("d9/29", 4)]
    assert here.results.count(COPY_ASIDE) == 3  # the link is not asked for
    assert manifest(tmp_path / "out") == plain(tree, tmp_path)


def test_a_worker_learns_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of other ciphers and keys than new ones have."""
    kernels = golden.tree("two-keys")
    lower = kernels.unpack(tmp_path / "lower")
    options = Options(read_only=True, cipher="blowfish", key_bytes=32)
    with open_tree(lower, kernels.passphrases, options) as tree:
        here = Worker(tree, lower, monkeypatch)
        told = here.export(tree, tmp_path / "out")
        assert told == []
        assert here.results == [COPIED] * len(here.results) != []
        assert manifest(tmp_path / "out") == plain(tree, tmp_path)
        worker.forget(here.job.name)


def test_what_a_worker_does_not_see_is_copied_here(tree: Tree, here: Worker, tmp_path: Path) -> None:
    """It has another state of the tree: a file less, another one in its place, a directory less."""
    theirs = tmp_path / "theirs"
    shutil.copytree(tmp_path / "lower", theirs)
    (theirs / lower_name(tree, "d1/3")).unlink()
    shutil.copy2(theirs / lower_name(tree, "d1/5"), theirs / lower_name(tree, "d1/4"))
    os.utime(theirs / lower_name(tree, "d2/6"), ns=(0, 0))
    shutil.rmtree((theirs / lower_name(tree, "d3/9")).parent)
    here.job = replace(here.job, lower=str(theirs))
    assert here.export(tree, tmp_path / "out") == []
    assert here.results.count(COPY_ASIDE) == 4
    assert manifest(tmp_path / "out") == plain(tree, tmp_path)


def test_an_attempt_that_nobody_asked_for_leaves_nothing(tree: Tree, here: Worker, tmp_path: Path) -> None:
    """Its worker died behind it, or in the middle."""
    left: list[int] = []

    def killed(batch: Batch) -> None:
        lost = carry_batch(here.job, batch)
        os.truncate(batch.work + b"/%d" % lost.first, 0)
        left.append(len(os.listdir(batch.work)))

    here.before = killed
    assert here.export(tree, tmp_path / "out") == []
    assert left == [91]  # and the mark that the root is new
    assert manifest(tmp_path / "out") == plain(tree, tmp_path)


def test_an_attempt_ends_with_its_copy(
    tree: Tree, here: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def seen(attempt: Any, fds: Sequence[int], lowers: Sequence[bytes]) -> None:
        copy(attempt, fds, lowers)
        made.append(len(os.listdir(tmp_path / "work")))
        worker.forget(here.job.name)

    copy = workerbatch._Attempt.copy
    monkeypatch.setattr(workerbatch, "_AT_ONCE", 8)
    monkeypatch.setattr(workerbatch._Attempt, "copy", seen)
    (tmp_path / "work").mkdir()
    names = [os.path.basename(lower_name(tree, f"d{n // 3}/{n}")).encode() for n in range(90)]
    folders = [os.path.dirname(lower_name(tree, f"d{n // 3}/{n}")).encode() for n in range(90)]
    parts = [(folder, [name]) for folder, name in zip(folders, names, strict=True)]
    carried = carry_batch(here.job, Batch(os.fsencode(tmp_path / "work"), parts))
    assert carried.errno == errno.ECANCELED
    assert made == [8]
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.parametrize("error", [TreeError("the workers died"), OSError(errno.EIO, "not flushed")])
def test_a_batch_that_cannot_be_copied_is_told(
    tree: Tree, here: Worker, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(batch: Batch) -> None:
        if next(calls) == 1:
            raise error

    calls = count()
    here.before = fails
    monkeypatch.setattr(bulk, "_MOST_FILES", 30)
    told = here.export(tree, tmp_path / "out", keep_going=True)
    assert len(told) == 30
    assert len(set(told_of(told).values())) == 1
    assert not (tmp_path / "out" / os.fsdecode(WORK)).exists()
    here.export(tree, tmp_path / "out")
    assert manifest(tmp_path / "out") == plain(tree, tmp_path)


def test_a_worker_without_the_copy_says_so(tree: Tree, here: Worker, tmp_path: Path) -> None:
    lower = os.fsencode(tmp_path / "lower" / lower_name(tree, "d1/3"))
    with pytest.raises(TreeError, match="a worker cannot open /nowhere: No such"):
        carry_batch(here.job, Batch(b"/nowhere", [(b"", [b"file"])]))
    found = find_header(fd := os.open(lower, os.O_RDONLY))
    os.close(fd)
    with pytest.raises(TreeError, match="a worker cannot open /nowhere/1: No such"):
        carry_piece(here.job, Piece(lower, b"/nowhere/1", digest(found), 0, 3000))


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_in_the_way_stays_unless_told(
    tree: Tree, here: Worker, tmp_path: Path, overwrite: bool
) -> None:
    """It came after the copy had looked."""

    def comes(_: Batch) -> None:
        (tmp_path / "out/d1/3").write_text("theirs")

    here.before = comes
    told = here.export(tree, tmp_path / "out", keep_going=True, overwrite=overwrite)
    assert list(told_of(told)) == ([] if overwrite else ["d1/3"])
    assert ((tmp_path / "out/d1/3").read_bytes() == b"theirs") == (not overwrite)
    assert not (tmp_path / "out" / os.fsdecode(WORK)).exists()


def test_a_worker_that_was_given_up_is_no_failure(
    tree: Tree, here: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on making drafts while the copy ends."""
    late = ["1", "2", "3"]

    def rmdir(path: Any, **more: Any) -> None:
        if path == WORK and late:
            (tmp_path / "out" / os.fsdecode(WORK) / late.pop()).touch()
        real(path, **more)

    real = os.rmdir
    monkeypatch.setattr(os, "rmdir", rmdir)
    assert here.export(tree, tmp_path / "out") == []
    assert late == []
    assert manifest(tmp_path / "out") == plain(tree, tmp_path)
