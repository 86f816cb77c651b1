"""Power cuts: a lower file system that forgets what was not stored, in every mixture that POSIX allows.

One load runs over it; cuts are made from its log afterwards, so one load serves for many. What is found is
judged by what the load had been told to be stored by then.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from fusecrypt.tree.policy import Policy
from fusecrypt.tree.tree import Tree
from tests.mount.support import PASSPHRASE, mounted
from tests.reliability import lowerfs
from tests.reliability.cuts import cut
from tests.reliability.load import Worker
from tests.reliability.oracle import EXTENT, Oracle
from tests.tree.support import User, opened, read, resolved

MODES = {"header": (), "attribute": ("-o", "ecryptfs_xattr_metadata")}
PLACE = "work"


class Event(NamedTuple):
    """What the oracle was told, and how many changes there were below by then."""

    position: int
    method: str
    arguments: tuple[object, ...]


class Recorded(NamedTuple):
    log: list[lowerfs.Change]
    events: list[Event]
    policy: Policy


@contextmanager
def forgetful(path: Path, log: Path) -> Iterator[None]:
    """The lower file system on ``path``; its log is complete at the end."""
    path.mkdir()
    checkout = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-m", "tests.reliability.lowerfs", path, log], cwd=checkout)
    try:
        while not os.path.ismount(path):
            assert process.poll() is None
            time.sleep(0.01)
        yield
    finally:
        subprocess.run(["umount", path], check=True)
        assert process.wait(20) == 0


def record(directory: Path, options: tuple[str, ...], seed: int, steps: int) -> Recorded:
    """Run a load through fusecrypt over the forgetful file system."""
    lower, events = directory / "lower", list[Event]()

    def tell(method: str, arguments: tuple[object, ...]) -> None:
        events.append(Event(int(os.getxattr(lower, lowerfs.POSITION)), method, arguments))

    with forgetful(lower, directory / "log"):
        with mounted(lower, *options) as mount:
            (mount.path / PLACE).mkdir()
            fd = os.open(mount.path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            events.append(Event(int(os.getxattr(lower, lowerfs.POSITION)), "settled", ()))
            worker = Worker(mount.path / PLACE, f"cuts {seed}", certain=False, tell=tell)
            assert worker.run(steps) is None
        policy = resolved(lower, [PASSPHRASE]).policy
    return Recorded(pickle.loads((directory / "log").read_bytes()), events, policy)


def judge(recorded: Recorded, seed: int, number: int, directory: Path) -> list[str]:
    """Make ``number`` cuts and look at what each left; what contradicts the promises."""
    chance = random.Random(seed)
    first = recorded.events[0].position
    wrong = []
    oracle, events = Oracle(zeros=True), iter(recorded.events)
    event = next(events, None)
    for position in sorted(chance.randint(first, len(recorded.log)) for _ in range(number)):
        while event is not None and event.position <= position:
            getattr(oracle, event.method)(*event.arguments)
            event = next(events, None)
        place = directory / "cut"
        place.mkdir()
        cut(recorded.log[:position], chance, place)
        with opened(place, recorded.policy) as tree:
            wrong += [f"cut at {position}: {line}" for line in complaints(tree, oracle)]
        subprocess.run(["rm", "-r", place], check=True)
    return wrong


def complaints(tree: Tree, oracle: Oracle) -> list[str]:
    """Read all files of the tree, extent by extent; everything else has to be listed and looked at."""
    user = User(tree)
    found: dict[str, bytes] = {}
    missing: dict[str, Container[int]] = {}
    for name in map(os.fsdecode, user.list(PLACE)):
        with user.node(f"{PLACE}/{name}") as node:
            if node.is_regular:
                found[name], missing[name] = _read(user, f"{PLACE}/{name}")
            elif not node.is_directory:
                tree.readlink(node)
    return oracle.complaints(found, missing)


def _read(user: User, path: str) -> tuple[bytes, set[int]]:
    """A file's octets, zeros for extents that are cut off, and which those are. Raises OSError if it does not
    open."""
    missing = set()
    with user.file(path) as file:
        octets = bytearray(file.size)
        for start in range(0, len(octets), EXTENT):
            n = min(EXTENT, len(octets) - start)
            try:
                octets[start : start + n] = read(file, start, n)
            except OSError:
                missing.add(start // EXTENT)
    return bytes(octets), missing


@pytest.mark.parametrize("mode", MODES)
def test_some_cuts(tmp_path: Path, mode: str) -> None:
    recorded = record(tmp_path, MODES[mode], seed=1, steps=60)
    assert judge(recorded, seed=1, number=30, directory=tmp_path) == []
    # Were fsync not passed on, it would be seen.
    lazy = recorded._replace(
        log=[("nothing", 0) if change[0] == "sync" else change for change in recorded.log]
    )
    assert judge(lazy, seed=1, number=30, directory=tmp_path) != []


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.parametrize("mode", MODES)
def test_a_thousand_cuts(tmp_path: Path, mode: str, seed: int) -> None:
    recorded = record(tmp_path, MODES[mode], seed, steps=150)
    assert judge(recorded, seed, number=100, directory=tmp_path) == []
