"""rekey as a whole command: refusals, an end by SIGKILL at any moment, and on again."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from fusecrypt.errors import KeyNotFoundError
from fusecrypt.offline.journal import Journal
from tests import golden
from tests.mount.support import PROGRAM, lower_state, mounted, run
from tests.offline.support import made_tree
from tests.tree.support import manifest, open_tree, token

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


def test_another_run_after_one_that_left_a_file_with_foreign_keys(
    lower: Path, words: tuple[str | Path, ...], tmp_path: Path
) -> None:
    foreign = made_tree(tmp_path / "other", "file", passphrase=b"of another", names=False) / "file"
    foreign.rename(lower / "file")
    assert "fusecrypt: file: " in run(*words, status=3).stderr
    assert not (tmp_path / "lower.rekey").exists()
    (tmp_path / "third").write_bytes(b"a third passphrase")
    again = ("rekey", lower, "--passfile", tmp_path / "new", "--new-passfile", tmp_path / "third")
    assert "added to 9 files" in run(*again, status=3).stderr
    assert opens(lower, b"a third passphrase")


@pytest.mark.parametrize("contents", [b"", b"no journal\n", None])
def test_a_journal_does_not_vouch_for_a_key(
    contents: bytes | None, lower: Path, words: tuple[str | Path, ...], tmp_path: Path
) -> None:
    path, state = tmp_path / "lower.rekey", lower_state(lower)
    if contents is None:  # one of this tree to this key
        Journal(path, lower.stat().st_ino, token(NEW).sig).close()
    else:
        path.write_bytes(contents)
    (tmp_path / "wrong").write_text("wrong")
    wrong = ("rekey", lower, "--passfile", tmp_path / "wrong", "--new-passfile", tmp_path / "new")
    for more in ((), ("--dry-run",)):
        assert "does not fit" in run(*wrong, *more, status=3).stderr
    assert lower_state(lower) == state


def test_what_fails_at_the_end_is_named_and_begun_again(
    lower: Path, words: tuple[str | Path, ...], tmp_path: Path
) -> None:
    """An immutable file cannot lose its old key."""
    run(*words, "--keep-old")
    path = next(path for path in sorted(lower.iterdir()) if path.is_file())
    subprocess.run(["chattr", "+i", path], check=True)
    try:
        done = run(
            "rekey", lower, "--passfile", tmp_path / "old", "--new-passfile", tmp_path / "new", status=1
        )
        assert "begin again" in done.stderr
        assert (tmp_path / "lower.rekey").exists()
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    run(*words)
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
