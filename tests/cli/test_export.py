"""export and import as whole commands: killed, on full disks, as somebody who is not root."""

from __future__ import annotations

import os
import random
import resource
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.offline.target import WORK
from tests import golden
from tests.cli.test_mount import Terminal
from tests.golden import GoldenTree
from tests.manifest import Entry, diff, manifest
from tests.mount.support import PROGRAM, mounted, run
from tests.mount.users import program_for_others
from tests.offline.copies import readable
from tests.tree.support import lower_name, lower_state, open_tree
from tests.tree.support import manifest as tree_manifest
from tests.tree.test_golden import options_of, salt_of

HALF = os.fsdecode(WORK)
FILES = 400


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "pass").write_text("test\n")
    return "--passfile", str(tmp_path / "pass")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A directory with many files, some of them large."""
    rng = random.Random("plain")
    source = tmp_path / "plain"
    for number in range(FILES):
        place = source / f"d{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        size = rng.randrange(400_000) if number % 20 == 0 else rng.randrange(9000)
        (place / f"file{number}").write_bytes(rng.randbytes(size))
    os.link(source / "d0" / "file0", source / "link")
    return source


def without_half(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry["path"].startswith(HALF)]


def killed_when(words: list[str | Path], ready: Path, count: int) -> None:
    """Run the program and kill it as soon as there are that many files below a directory."""
    process = subprocess.Popen([PROGRAM, *words], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while process.poll() is None and sum(len(files) for _, _, files in os.walk(ready)) < count:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"


def test_killed_and_begun_again(plain: Path, key: tuple[str, str], tmp_path: Path) -> None:
    """Into a tree and out of it: what has its name is whole, and in the end all is there."""
    expected = manifest(plain)
    by_path = {entry["path"]: entry for entry in expected}
    lower, out = tmp_path / "lower", tmp_path / "out"
    lower.mkdir()
    for count in (30, 200):
        killed_when(["import", *key, plain, lower], lower, count)
        with open_tree(lower, [b"test"]) as tree:
            for entry in without_half(tree_manifest(tree)):
                if entry["type"] == "file":
                    assert entry["sha256"] == by_path[entry["path"]]["sha256"]
    done = run("import", *key, plain, lower)
    assert f"imported {FILES + 1} objects" in done.stderr
    assert " of them earlier" in done.stderr
    with open_tree(lower, [b"test"]) as tree:
        assert diff(expected, tree_manifest(tree)) == []
    for count in (30, 200):
        killed_when(["export", *key, lower, out], out, count)
        for entry in without_half(manifest(out)):
            if entry["type"] == "file":
                assert entry["sha256"] == by_path[entry["path"]]["sha256"]
                assert entry["mtime_ns"] == by_path[entry["path"]]["mtime_ns"]
    run("export", *key, lower, out)
    assert diff(expected, manifest(out)) == []
    assert out.stat().st_mode == lower.stat().st_mode
    assert "401 of them earlier" in run("export", *key, lower, out).stderr


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk(plain: Path, key: tuple[str, str], tmp_path: Path) -> None:
    expected = {entry["path"]: entry for entry in manifest(plain)}
    lower = tmp_path / "lower"
    lower.mkdir()
    run("import", *key, plain, lower)
    with small_disk(tmp_path / "small", "2m") as small:
        done = run("export", *key, lower, small / "out", status=1)
        assert "octets are needed, and " in done.stderr
        assert without_half(manifest(small / "out")) == []
        for more in ((), ("--keep-going",)):
            done = run("export", *key, "--ignore-space", *more, lower, small / "out", status=1)
            assert done.stderr.splitlines() == [
                "fusecrypt: the target takes no more: No space left on device",
                "  hint: what is copied so far is whole; begin again to go on from there",
            ]
            arrived = [e for e in without_half(manifest(small / "out")) if e["type"] == "file"]
            assert len(arrived) > 20
            assert [e for e in arrived if e["sha256"] != expected[e["path"]]["sha256"]] == []
        subprocess.run(["mount", "-o", "remount,size=50m", small], check=True)
        run("export", *key, lower, small / "out")
        assert diff(expected.values(), manifest(small / "out")) == []
    with small_disk(tmp_path / "little", "2m") as little:
        done = run("import", *key, "--ignore-space", plain, little, status=1)
        assert "the target takes no more: No space left on device" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", little], check=True)
        run("import", *key, plain, little)
        with open_tree(little, [b"test"]) as tree:
            assert diff(expected.values(), tree_manifest(tree)) == []


def test_a_mount_shows_what_was_imported(plain: Path, key: tuple[str, str], tmp_path: Path) -> None:
    """A new tree by options. Its own mount is no place for a copy, and keeps imports away."""
    lower = tmp_path / "lower"
    lower.mkdir()
    done = run("import", *key, "-o", "ecryptfs_cipher=aes,ecryptfs_key_bytes=16", plain, lower)
    assert "new tree: aes-128, encrypted names" in done.stderr
    with mounted(lower, passphrases=[b"test"]) as mount:
        assert diff(manifest(plain), manifest(mount.path)) == []
        assert "is in use for writing" in run("import", *key, plain, lower, status=1).stderr
        for words in (("import", mount.path, lower), ("export", lower, mount.path / "out")):
            assert "lies in a mount of" in run(*words, *key, status=2).stderr


def test_damage_is_reported_by_object(key: tuple[str, str], tmp_path: Path) -> None:
    kernels = golden.tree("aes32")
    (tmp_path / "pass").write_bytes(kernels.passphrases[0])
    lower = kernels.unpack(tmp_path / "lower")
    with open_tree(lower, kernels.passphrases) as tree:
        cut, bad = (lower / lower_name(tree, name) for name in ("docs/f10000", "hello.txt"))
    os.truncate(cut, 8192 + 4096)
    with bad.open("r+b") as file:
        file.write(bytes(100))
    before = lower_state(lower)
    done = run("export", *key, lower, tmp_path / "out", status=4)
    assert done.stderr.splitlines()[1:] == ["  hint: --keep-going names it and copies the rest"]
    done = run("export", *key, "--keep-going", lower, tmp_path / "out", status=4)
    *lines, last = done.stderr.splitlines()
    assert sorted(lines) == [
        "fusecrypt: docs/f10000: cut in the data: 4096 of 10000 octets are there; the 4096 octets that can "
        "be read are in docs/f10000.partial",
        "fusecrypt: hello.txt: no eCryptfs marker",
    ]
    assert last.endswith("; 2 problems are named above")
    whole = [e for e in kernels.manifest() if e["path"] not in ("docs/f10000", "hello.txt")]
    (tmp_path / "out" / "docs" / "f10000.partial").unlink()
    assert diff(whole, manifest(tmp_path / "out"), ignore=["mtime_ns"]) == []
    archive = subprocess.run([PROGRAM, "export", *key, "-k", lower, "-"], capture_output=True, check=False)
    assert archive.returncode == 4
    listed = subprocess.run(["tar", "-t"], input=archive.stdout, capture_output=True, check=True)
    assert b"docs/f10000.partial\n" in listed.stdout
    assert lower_state(lower) == before


def test_a_bar_on_a_terminal(plain: Path, key: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "lower").mkdir()
    terminal = Terminal(PROGRAM, "import", *key, plain, tmp_path / "lower")
    assert terminal.end() == 0
    assert f"{FILES + 1} of {FILES + 1} objects".encode() in terminal.seen
    assert f"imported {FILES + 1} objects".encode() in terminal.seen
    terminal = Terminal(PROGRAM, "export", *key, tmp_path / "lower", "-")
    assert terminal.end() == 2
    assert b"not for a terminal" in terminal.seen


def test_refusals(key: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (
        "holds no eCryptfs data" in run("export", *key, tmp_path / "empty", tmp_path / "o", status=4).stderr
    )
    run("import", *key, tmp_path / "none", tmp_path / "empty", status=1)
    run("import", *key, "-o", "ro", tmp_path / "empty", tmp_path / "empty", status=2)
    assert not (tmp_path / "o").exists()


WITHOUT_FUSE = "mount --bind /dev/null /dev/fuse && exec setpriv --reuid=65534 --regid=65534 --clear-groups "


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """The program where everybody reaches it."""
    with tempfile.TemporaryDirectory(prefix="fusecrypt-test-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield program_for_others(place)
        subprocess.run(["umount", "-l", place / "checkout"], check=True)


OFTEN = ("aes16-fnek", "aes16-xattr", "passthrough", "passthrough-fnek", "two-keys", "fnek-lengths")


@pytest.mark.parametrize(
    "kernels",
    [
        pytest.param(tree, id=tree.name, marks=[] if tree.name in OFTEN else [pytest.mark.full])
        for tree in golden.passphrase_trees()
    ],
)
def test_by_somebody_who_may_only_read(kernels: GoldenTree, program: Path, open_tmp_path: Path) -> None:
    """No root, no FUSE: all but owners, devices and privileged attributes arrives, and each is named."""
    place = open_tmp_path
    lower = kernels.unpack(place / "lower")
    subprocess.run(["chmod", "-R", "a+rX", lower], check=True)
    (place / "up").mkdir()
    os.chown(place / "up", 65534, 65534)
    words: list[str | Path] = ["export", "--keep-going", "--salt", salt_of(kernels).hex()]
    if options_of(kernels).passthrough:
        words += ["-o", "ecryptfs_passthrough"]
    for number, passphrase in enumerate(kernels.passphrases):
        (place / f"pass{number}").write_bytes(passphrase)
        words += ["--passfile", place / f"pass{number}"]
    with open_tree(lower, kernels.passphrases, options_of(kernels), salt_of(kernels)) as tree:
        shown = tree_manifest(tree)
    expected = readable(shown)
    before = lower_state(lower)
    command = WITHOUT_FUSE + shlex.join(map(str, [program, *words, lower, place / "up" / "out"]))
    unshared = ["unshare", "--mount", "sh", "-c", command]
    done = subprocess.run(unshared, capture_output=True, text=True, check=False, cwd="/", timeout=60)
    failed = [entry["path"] for entry in shown if "error" in entry]
    if kernels.fnek is not None:  # plain names are not shown then
        failed += [name for name in os.listdir(lower) if not name.startswith("ECRYPTFS_FNEK_ENCRYPTED.")]
    assert (done.returncode == 0) == (not failed), done.stderr
    for path in failed:
        assert f"{path}: " in done.stderr
    assert_all_arrived(expected, place / "up" / "out", done.stderr)
    assert lower_state(lower) == before


def assert_all_arrived(expected: list[Entry], out: Path, said: str) -> None:
    """What an ordinary user cannot have is named, as far as they see it; all else is there."""
    for entry in list(expected):
        path, attributes = entry["path"], entry.pop("xattrs", {})
        kept = {k: v for k, v in attributes.items() if not k.startswith(("security.", "trusted."))}
        entry.update({"xattrs": kept} if kept else {})
        for attribute in attributes.keys() - kept.keys():
            if attribute == "security.capability":
                assert f"{path}: its capabilities were left out" in said
            elif attribute.startswith("security."):  # others do not even see trusted ones
                assert f"{path}: its attribute {attribute}" in said
        if entry["type"] == "file" and int(entry["mode"], 8) & 0o6000:
            assert f"{path}: its set-id bits were left out" in said
            entry["mode"] = f"{int(entry['mode'], 8) & ~0o6000:04o}"
        if entry["type"] in ("chr", "blk"):
            assert f"{path}: a device node, which was left out" in said
            expected.remove(entry)
    assert diff(expected, manifest(out), ignore=["uid", "gid"]) == []
    assert ("owners other than this user were not kept" in said) == (len(expected) > 0)


def test_few_descriptors_are_enough(plain: Path, key: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "lower").mkdir()
    few: dict[str, Any] = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))}
    run("import", *key, plain, tmp_path / "lower", **few)
    run("export", *key, tmp_path / "lower", tmp_path / "out", **few)
    assert diff(manifest(plain), manifest(tmp_path / "out")) == []
