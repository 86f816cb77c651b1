"""A daemon that is killed: what was stored is there, and every file can be read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.mount.support import PASSPHRASE, Mount, mounted
from tests.reliability import readers, steps
from tests.reliability.cycles import Cycles
from tests.reliability.strace import traced
from tests.tree.support import opened, resolved

CHANGES = (
    "openat", "pwrite64", "ftruncate", "fsync", "renameat", "unlinkat", "linkat", "symlinkat", "mkdirat",
    "mknodat", "chmod", "utimensat", "setxattr", "fsetxattr",
)  # fmt: skip
"""The calls that change something below, or promise that it was stored: what a killed daemon leaves depends
on the last of these alone."""

MODES = {"header": (), "attribute": ("-o", "ecryptfs_xattr_metadata")}


def test_kills_under_load(tmp_path: Path) -> None:
    cycles = Cycles(tmp_path / "lower", seed=1)
    cycles.run(4)
    assert cycles.figures.wrong == []
    assert cycles.figures.operations > 50


def has_ended(mount: Mount) -> bool:
    """Whether the daemon was killed; its end may take a moment."""
    try:
        mount.process.wait(2)
    except subprocess.TimeoutExpired:
        return False
    return True


def killed_at(tmp_path: Path, options: tuple[str, ...], call: str, nth: int) -> list[str] | None:
    """What is wrong after the N-th call of this kind was the end; None if there are not so many."""
    lower = tmp_path / "lower"
    with mounted(lower, *options) as mount:
        name = f"{call}{nth}"
        steps.prepare(mount.path / name)
        with traced(mount.pid, tmp_path / "log", call, f"inject={call}:signal=KILL:when={nth}"):
            told = steps.perform(mount.path / name)
        killed = has_ended(mount)
        if killed:
            subprocess.run(["umount", "-l", mount.path], check=True)
            mount.process.returncode = 0  # as it was meant to end
    if not killed:
        return None
    with opened(lower, resolved(lower, [PASSPHRASE]).policy) as tree:
        return [f"{name}: {line}" for line in steps.complaints(readers.through_tree(tree, name), told)]


@pytest.mark.parametrize("mode", MODES)
def test_kills_at_some_calls(tmp_path: Path, mode: str) -> None:
    for call, nth in (("pwrite64", 3), ("pwrite64", 14), ("renameat", 2)):
        assert killed_at(tmp_path, MODES[mode], call, nth) in ([], None)


@pytest.mark.full
@pytest.mark.parametrize("call", CHANGES)
@pytest.mark.parametrize("mode", MODES)
def test_a_kill_at_every_call(tmp_path: Path, mode: str, call: str) -> None:
    for nth in range(1, 200):
        wrong = killed_at(tmp_path, MODES[mode], call, nth)
        if wrong is None:
            break
        assert wrong == []
