"""rekey as a whole command: refusals, an end by SIGKILL at any moment, and on again."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from fusecrypt.errors import KeyNotFoundError
from tests import golden
from tests.mount.support import PROGRAM, lower_state, mounted, run
from tests.tree.support import manifest, open_tree

OLD, NEW = b"cipher aes", b"another passphrase"


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "new").write_bytes(NEW)
    return golden.tree("aes32").unpack(tmp_path / "lower")


@pytest.fixture
def words(tmp_path: Path, lower: Path) -> tuple[str | Path, ...]:
    return ("rekey", lower, "--passfile", tmp_path / "old", "--new-passfile", tmp_path / "new")


def shown(lower: Path, passphrase: bytes) -> list[dict[str, object]]:
    with open_tree(lower, [passphrase]) as tree:
        return manifest(tree)


def opens(lower: Path, passphrase: bytes) -> bool:
    try:
        shown(lower, passphrase)
    except KeyNotFoundError:
        return False
    return True


def test_another_passphrase(lower: Path, words: tuple[str | Path, ...], tmp_path: Path) -> None:
    before, state = shown(lower, OLD), lower_state(lower)
    done = run(*words, "--dry-run")
    assert "would be added to 9 files, 12 names would be changed" in done.stderr
    assert lower_state(lower) == state
    done = run(*words)
    assert "added to 9 files, 12 names changed, old keys taken from 9 files" in done.stderr
    assert "file keys stay as they are" in done.stderr
    assert shown(lower, NEW) == before
    run("ls", lower, "--passfile", tmp_path / "old", status=3)
    assert not (tmp_path / "lower.rekey").exists()


def test_an_additional_passphrase(lower: Path, words: tuple[str | Path, ...], tmp_path: Path) -> None:
    before = shown(lower, OLD)
    run(*words, "--keep-old")
    assert shown(lower, OLD) == before
    with open_tree(lower, [OLD, NEW]) as tree:
        assert manifest(tree) == before


def test_refusals(lower: Path, words: tuple[str | Path, ...], tmp_path: Path) -> None:
    state = lower_state(lower)
    (tmp_path / "wrong").write_text("wrong")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").write_text("text")
    new = ("--new-passfile", tmp_path / "new")
    assert "does not fit" in run("rekey", lower, "--passfile", tmp_path / "wrong", *new, status=3).stderr
    same = ("--passfile", tmp_path / "old", "--new-passfile", tmp_path / "old")
    assert "is the old one" in run("rekey", lower, *same, status=2).stderr
    assert "lies in the tree" in run(*words, "--journal", lower / "journal", status=2).stderr
    done = run("rekey", tmp_path / "plain", "--passfile", tmp_path / "old", *new, status=4)
    assert "holds no eCryptfs data" in done.stderr
    assert lower_state(lower) == state
    assert not (tmp_path / "lower.rekey").exists()


@pytest.mark.parametrize("options", [(), ("-o", "ro")])
def test_a_mounted_tree_is_refused(
    options: tuple[str, ...], lower: Path, words: tuple[str | Path, ...], tmp_path: Path
) -> None:
    with mounted(lower, *options, passphrases=[OLD]):
        assert "is mounted on" in run(*words, status=1).stderr
    run(*words)


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.full)])
def test_killed_at_random(rounds: int, lower: Path, words: tuple[str | Path, ...], tmp_path: Path) -> None:
    before = shown(lower, OLD)
    started = time.monotonic()
    run(*words, "--dry-run")
    longest = 1.5 * (time.monotonic() - started)
    chance = random.Random(rounds)
    keys = [(OLD, tmp_path / "old"), (NEW, tmp_path / "new")]
    unfinished = 0
    for _ in range(rounds):
        (_, old), (_, new) = keys
        command: list[str | Path] = ["rekey", lower, "--passfile", old, "--new-passfile", new]
        process = subprocess.Popen([PROGRAM, *command], stderr=subprocess.PIPE)
        time.sleep(chance.uniform(longest / 3, longest))
        process.kill()
        process.communicate()
        if (tmp_path / "lower.rekey").exists():
            unfinished += 1
            run(*command)
            keys.reverse()
        elif opens(lower, keys[1][0]):  # it was too quick
            keys.reverse()
        assert shown(lower, keys[0][0]) == before
    assert unfinished or rounds < 50
