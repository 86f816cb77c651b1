"""check as a whole command."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import golden
from tests.cli.test_mount import Terminal
from tests.mount.support import PROGRAM, lower_state, mounted, run
from tests.offline.support import made_tree
from tests.tree.support import User, lower_name, open_tree

CIPHER = b"cipher aes\n"


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "pass").write_bytes(CIPHER)
    return golden.tree("aes32").unpack(tmp_path / "lower")


@pytest.fixture
def damaged(lower: Path) -> tuple[str, Path]:
    """A file that was cut: its upper and lower path."""
    kernels = golden.tree("aes32")
    upper = next(e["path"] for e in kernels.manifest() if e["type"] == "file" and e["size"] > 4096)
    with open_tree(lower, kernels.passphrases) as tree:
        path = lower_name(tree, upper)
    os.truncate(lower / path, 8192 + 4096)
    return upper, path


def test_a_good_tree(lower: Path, tmp_path: Path) -> None:
    before = lower_state(lower)
    done = run("check", lower, "--passfile", tmp_path / "pass")
    assert done.stdout == "12 objects, 124.0 KiB: 12 good\n"
    assert done.stderr == ""
    assert run("check", lower, "--no-key").stdout == done.stdout
    assert len(run("check", lower, "--no-key", "--all").stdout.splitlines()) == 13
    assert lower_state(lower) == before


def test_findings(lower: Path, damaged: tuple[str, Path], tmp_path: Path) -> None:
    upper, path = damaged
    words = ("check", lower, "--passfile", tmp_path / "pass")
    line, summary = run(*words, status=4).stdout.splitlines()
    assert line.startswith(f"cut in the data: {upper} ({path}): 4096 of ")
    assert summary.endswith(": 11 good, 1 cut in the data")
    found, end = [json.loads(each) for each in run(*words, "--json", status=4).stdout.splitlines()]
    assert found["kind"] == "cut_in_data"
    assert (found["upper"], found["lower"], found["status"]) == (upper, str(path), 4)
    assert end == {"summary": {"good": 11, "cut_in_data": 1}, "objects": 12, "status": 4}


def test_passthrough(tmp_path: Path) -> None:
    kernels = golden.tree("no-passthrough-plain-files")
    lower = kernels.unpack(tmp_path / "lower")
    (tmp_path / "pass").write_bytes(kernels.passphrases[0])
    words = ("check", lower, "--passfile", tmp_path / "pass")
    assert "no eCryptfs file: plain.txt: there is no header in it\n" in run(*words, status=4).stdout
    run(*words, "-o", "ecryptfs_passthrough")


def test_source(lower: Path, tmp_path: Path) -> None:
    (tmp_path / "source" / ("n" * 144)).mkdir(parents=True)
    for words in (("--no-key",), ("--passfile", tmp_path / "pass")):
        done = run("check", lower, *words, "--source", tmp_path / "source", status=1)
        assert "its name has 144 octets, at most 143 fit" in done.stdout
    run("check", lower, "--no-key", "--source", tmp_path / "none", status=1)


def test_refusals(lower: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "empty").mkdir()
    assert "does not fit" in run("check", lower, "--passfile", tmp_path / "wrong", status=3).stderr
    assert "holds no eCryptfs data" in run("check", tmp_path / "empty", "--no-key", status=4).stderr
    assert "No such file" in run("check", tmp_path / "none", "--no-key", status=1).stderr


def test_repair(lower: Path, damaged: tuple[str, Path], tmp_path: Path) -> None:
    _, path = damaged
    with (lower / path).open("r+b") as file:
        file.seek(5000)
        file.write(b"\1")
    before = (lower / path).read_bytes()
    words = ("check", lower, "--passfile", tmp_path / "pass")
    assert "lies in the tree" in run(*words, "--repair", lower / "q", status=2).stderr
    with mounted(lower, "-o", "ro", passphrases=[CIPHER.strip()]):
        assert "is mounted" in run(*words, "--repair", tmp_path / "q", status=1).stderr
    done = run(*words, "--repair", tmp_path / "q", status=4)
    assert "repaired 1; to undo: fusecrypt check --undo" in done.stderr
    assert "has an undo log already" in run(*words, "--repair", tmp_path / "q", status=2).stderr
    assert "header octets changed" not in run(*words, status=4).stdout
    assert (lower / path).read_bytes() != before
    run("check", lower, "--undo", tmp_path / "q")
    assert (lower / path).read_bytes() == before
    assert "No such file" in run("check", lower, "--undo", tmp_path / "none", status=1).stderr


def test_repairs_that_fail_are_not_counted(lower: Path, tmp_path: Path) -> None:
    words = ("check", lower, "--passfile", tmp_path / "pass")
    assert "nothing was repaired" in run(*words, "--repair", tmp_path / "q").stderr
    assert not (tmp_path / "q").exists()
    first, second = sorted(path for path in lower.rglob("*") if path.is_file() and path.stat().st_size)[:2]
    for path in (first, second):
        with path.open("r+b") as file:
            file.seek(5000)
            file.write(b"\1")
    subprocess.run(["chattr", "+i", first, second], check=True)
    try:
        done = run(*words, "--repair", tmp_path / "q", status=4)
        assert "nothing was repaired" in done.stderr
        assert done.stderr.count("left as it is: Operation not permitted") == 2
        assert not (tmp_path / "q").exists()
        subprocess.run(["chattr", "-i", first], check=True)
        assert "repaired 1; to undo" in run(*words, "--repair", tmp_path / "q", status=4).stderr
        run("check", lower, "--undo", tmp_path / "q")
        assert first.read_bytes()[5000] == 1
    finally:
        subprocess.run(["chattr", "-i", first, second], check=True)


def test_with_a_manifest_all_is_read_once(lower: Path, tmp_path: Path) -> None:
    key = ("--passfile", tmp_path / "pass")
    run("manifest", "create", *key, lower, tmp_path / "list")
    words = ("check", lower, *key, "--manifest", tmp_path / "list")
    assert run(*words).stdout == "12 objects, 124.0 KiB: 12 good\n"
    kernels = golden.tree("aes32")
    uppers = [e["path"] for e in kernels.manifest() if e["type"] == "file" and e["size"] > 4096][:3]
    with open_tree(lower, kernels.passphrases) as tree:
        changed, gone, cut = [lower / lower_name(tree, upper) for upper in uppers]
    octets = changed.read_bytes()
    changed.write_bytes(octets[:9000] + bytes([octets[9000] ^ 1]) + octets[9001:])
    gone.unlink()
    os.truncate(cut, 8192 + 4096)
    done = run(*words, "--json", status=4)
    *found, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(each["kind"], each["upper"], each["detail"]) for each in found if each["kind"] == "differs"} == {
        ("differs", uppers[0], "changed: its contents"),
        ("differs", uppers[1], "missing: file"),
    }
    assert {each["upper"] for each in found if each["kind"] == "cut_in_data"} == {uppers[2]}
    assert end["status"] == 4


def test_nothing_is_added_up_for_nobody(tmp_path: Path) -> None:
    """Without a terminal each object is looked at once."""
    lower, log = made_tree(tmp_path / "lower", "object", names=False), tmp_path / "log"
    tracer = ("strace", "-f", "-q", "-o", log, "-e", "trace=newfstatat")
    subprocess.run([*tracer, PROGRAM, "check", "--no-key", lower], capture_output=True, check=True)
    assert log.read_text().count('"object"') == 1


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """Objects, octets, rate and time left, on one line that is gone at the end."""
    lower = made_tree(tmp_path / "lower", "file")
    with open_tree(lower, [b"test"]) as tree:
        User(tree).create("large", bytes(256 << 20))
    (tmp_path / "pass").write_text("test\n")
    key, listed = ("--passfile", tmp_path / "pass"), tmp_path / "list"
    for words, said in (
        (("manifest", "create", *key, lower, listed), "lists 2 objects"),
        (("check", *key, "--manifest", listed, lower), "2 good"),
    ):
        terminal = Terminal(PROGRAM, *words)
        assert terminal.end() == 0
        shown = terminal.seen.decode()
        line = r"\r\x1b\[K\d of 2 objects, \d+\.\d MiB of 256\.\d MiB, \d+\.\d .iB/s, 0:00:\d\d left"
        assert re.search(line, shown)
        assert re.search(rf"\r\x1b\[K[^\x1b]*{said}", shown)
