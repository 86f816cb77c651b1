"""ls, cat, stat, name and find on golden trees, as whole commands."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import golden, manifest
from tests.mount.support import PROGRAM, lower_state, run
from tests.offline.support import made_tree
from tests.reliability.strace import failing
from tests.tree.support import User, lower_name, open_tree, opened, policy


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "pass").write_bytes(b"cipher aes\n")
    return golden.tree("aes32").unpack(tmp_path / "lower")


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, Path]:
    return "--passfile", tmp_path / "pass"


Key = tuple[str, Path]


def raw(*words: str | Path, status: int = 0, **more: Any) -> bytes:
    """Standard output as it is."""
    done = subprocess.run([PROGRAM, *words], stdout=subprocess.PIPE, timeout=60, check=False, **more)
    assert done.returncode == status
    return bytes(done.stdout)


def as_json(*words: str | Path, status: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*words, "--json", status=status).stdout.splitlines()]


@pytest.mark.parametrize("name", ["aes32", "aes16-xattr", "three-keys-plain-names", "salt", "fnek-lengths"])
def test_a_whole_tree(name: str, tmp_path: Path) -> None:
    kernels = golden.tree(name)
    lower = kernels.unpack(tmp_path / "lower")
    words: list[str | Path] = ["--salt", kernels.keys[0].salt.hex()] if name == "salt" else []
    for number, passphrase in enumerate(kernels.passphrases):
        (tmp_path / f"{number}").write_bytes(passphrase)
        words += ["--passfile", tmp_path / f"{number}"]
    before = lower_state(lower)
    shown = {entry["path"]: entry for entry in as_json("ls", "-R", *words, lower)}
    expected = {entry["path"]: entry for entry in kernels.manifest()}
    assert shown.keys() == expected.keys()
    for path, entry in expected.items():
        for field in ("mode", "uid", "gid", "mtime_ns", "size", "target"):
            if field in entry:
                assert shown[path][field] == entry[field], path
    files = [path for path, entry in expected.items() if entry["type"] == "file"]
    digest = hashlib.sha256(raw("cat", *words, lower, *files)).hexdigest()
    assert digest == _digest_of_all(lower, kernels, files)
    assert len(raw("ls", "-R", "-0", *words, lower).split(b"\0")) == len(expected) + 1
    assert lower_state(lower) == before


def _digest_of_all(lower: Path, kernels: golden.GoldenTree, files: list[str]) -> str:
    """Of the contents one after the other, each of which is the kernel's."""
    digest = hashlib.sha256()
    sums = {entry["path"]: entry["sha256"] for entry in kernels.manifest() if "sha256" in entry}
    with open_tree(lower, kernels.passphrases, salt=kernels.keys[0].salt) as tree:
        for path in files:
            data = User(tree).read(path)
            assert hashlib.sha256(data).hexdigest() == sums[path]
            digest.update(data)
    return digest.hexdigest()


def test_ls(lower: Path, key: Key) -> None:
    assert run("ls", *key, lower).stdout == "docs\nhello.txt\nlink\n"
    assert run("ls", *key, lower, "hello.txt", "/docs/Größe und Maß").stdout == "hello.txt\n"
    long = run("ls", "-l", *key, lower).stdout.splitlines()
    assert long[1].startswith("-rw-r--r--   1     0     0           17 2026-11-24 03:15:15 hello.txt")
    assert long[2].endswith(" link -> docs/f17")
    done = run("ls", *key, lower, "none", "hello.txt", "link/x", status=1)
    assert done.stdout == "hello.txt\n"
    assert done.stderr.splitlines() == [
        "fusecrypt: none: No such file or directory (check the path)",
        "fusecrypt: link/x: Not a directory (check the path: a part of it is no directory)",
    ]


def test_ls_says_what_it_does_not_show(lower: Path, key: Key) -> None:
    (lower / "plain").write_text("")
    done = run("ls", *key, lower, status=4)
    assert done.stdout == "docs\nhello.txt\nlink\n"
    assert done.stderr.startswith("fusecrypt: .: 1 lower names are of another key")


@pytest.mark.parametrize("error", ["EUCLEAN", "ELOOP"])
def test_a_file_that_cannot_be_opened_is_listed_all_the_same(
    lower: Path, key: Key, error: str, tmp_path: Path
) -> None:
    with open_tree(lower, [b"cipher aes"]) as tree:
        name = lower_name(tree, "hello.txt")
    fails, reason = failing("openat", error, name), os.strerror(getattr(errno, error))
    command: list[str | Path] = [*fails, PROGRAM, "ls", *key, lower]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "docs\nhello.txt\nlink\n")
    command = [*fails, PROGRAM, "manifest", "create", *key, lower, tmp_path / "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"hello.txt: {reason}" in done.stderr
    assert "lists 12 objects" in done.stderr


@pytest.mark.parametrize(("error", "status"), [("EIO", 0), ("ENOMEM", 1)])
def test_an_attribute_that_cannot_be_read(tmp_path: Path, key: Key, error: str, status: int) -> None:
    (tmp_path / "pass").write_bytes(b"test\n")
    lower = made_tree(tmp_path / "lower", "a", "b", xattr=True)
    fails: list[str | Path] = [*failing("lgetxattr", error), PROGRAM]
    done = subprocess.run([*fails, "ls", *key, lower], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert done.stdout == ("" if status else "a\nb\n")
    words = ("export", "--keep-going", *key, lower, tmp_path / "to")
    done = subprocess.run([*fails, *words], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.count(os.strerror(getattr(errno, error))) == 2 * status, done.stderr
    assert sorted(os.listdir(tmp_path / "to")) == ([] if status else ["a", "b"])


def test_cat(lower: Path, key: Key) -> None:
    assert raw("cat", *key, lower, "hello.txt", "/hello.txt") == b"hello from aes32\n" * 2
    done = run("cat", *key, lower, "docs", "hello.txt", "none", status=1)
    assert done.stdout == "hello from aes32\n"
    assert "docs: not a regular file" in done.stderr
    assert "none: No such file" in done.stderr


def test_cat_of_damaged_files_says_what_is_wrong_and_goes_on(lower: Path, key: Key) -> None:
    def below(path: str) -> Path:
        with open_tree(lower, [b"cipher aes"]) as tree:
            return lower / lower_name(tree, path)

    whole = raw("cat", *key, lower, "docs/f10000")
    os.truncate(below("docs/f10000"), 8192 + 2 * 4096)
    below("docs/f17").write_bytes(b"overwritten, no header")
    os.truncate(below("docs/f4096"), 60)
    names = ("docs/f10000", "docs/f17", "docs/f4096", "hello.txt")
    done = subprocess.run([PROGRAM, "cat", *key, lower, *names], capture_output=True, check=False)
    assert done.returncode == 4
    assert done.stdout == whole[:8192] + b"hello from aes32\n"
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "fusecrypt: docs/f10000: cut in the data: 8192 of 10000 octets are there"
    assert lines[1].startswith("fusecrypt: docs/f17: no eCryptfs marker")
    assert lines[2].startswith("fusecrypt: docs/f4096: a tag")
    assert len(lines) == 3
    health = [entry["health"] for entry in as_json("stat", *key, lower, *names, status=4)]
    assert health == ["cut in the data", "no eCryptfs file", "damaged header", "good"]


def test_cat_to_nobody(lower: Path, key: Key) -> None:
    command = [str(PROGRAM), "cat", *map(str, key), str(lower), *["docs/f10000"] * 20]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_stat(lower: Path, key: Key) -> None:
    text = run("stat", *key, lower, "docs/f10000").stdout
    assert "size      10000 (lower: 20480)\n" in text
    assert "header    version 3, in front, 8192 octets, flags encrypted names\n" in text
    assert "packet    aes-256, key 9e91b2100d622d7a (at hand), salt 0011223344556677\n" in text
    assert text.endswith("health    good\n")
    file, directory, link = as_json("stat", *key, lower, "docs/f10000", ".", "link")
    assert (lower / file["lower"]).stat().st_ino == file["inode"]
    assert file["header"]["packets"] == [
        {
            "signature": "9e91b2100d622d7a", "kind": "passphrase", "cipher": "aes", "key_bytes": 32,
            "salt": "0011223344556677", "at_hand": True,
        }
    ]  # fmt: skip
    assert (directory["type"], directory["lower"]) == ("directory", ".")
    assert (link["type"], link["target"], link["size"]) == ("symlink", "docs/f17", 8)


def test_find_both_ways(lower: Path, key: Key) -> None:
    found = run("find", *key, lower, "docs/f17", "link").stdout.splitlines()
    for path in found:
        assert os.path.lexists(path)
        assert path.startswith(f"{lower}/ECRYPTFS_FNEK_ENCRYPTED.")
    back = run("find", "-u", *key, lower, *found).stdout
    assert back == "docs/f17\nlink\n"
    relative = os.path.relpath(found[0], lower)
    assert run("find", "--upper", *key, ".", relative, cwd=lower).stdout == "docs/f17\n"
    assert run("find", "-u", *key, lower, "/etc/passwd", status=2).stderr.endswith(
        f"does not lie in {lower}\n"
    )
    assert "none: No such file" in run("find", *key, lower, "none", status=1).stderr


def test_name_as_a_filter(lower: Path, key: Key) -> None:
    listing = subprocess.run(["ls", "-R", lower], capture_output=True, text=True, check=True).stdout
    shown = run("name", *key, lower, stdin=None, input=listing).stdout
    assert "ECRYPTFS" not in shown
    assert {"hello.txt", "link", "docs", f"{lower}/docs:", "Größe und Maß"} <= set(shown.splitlines())
    assert len(shown.splitlines()) == len(listing.splitlines())


def test_name_both_ways(lower: Path, key: Key) -> None:
    lower_names = run("name", "-e", *key, lower, "docs/f17", "new name").stdout.splitlines()
    assert (lower / lower_names[0]).exists()
    assert run("name", *key, lower, *lower_names).stdout == "docs/f17\nnew name\n"
    done = run("name", *key, lower, lower_names[0] + "x" * 30, "ECRYPTFS_FNEK_ENCRYPTED.x", status=4)
    assert "1 of its names are of another key, or damaged" in done.stderr
    done = run("name", "--encrypt", *key, lower, "x" * 144, "y", status=1)
    assert "at most 143" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "--passphrase-fd" in run("name", "--passfile", "-", lower, status=2).stderr


@pytest.mark.parametrize("ending", [b"", b"\0"])
def test_name_with_nul(lower: Path, key: Key, ending: bytes) -> None:
    names = [b"two\nlines", b"\xff", b"back\\slash"]
    encrypted = raw("name", "-e", "-0", *key, lower, input=b"\0".join(names) + ending)
    assert encrypted.count(b"ECRYPTFS") == 3
    assert raw("name", "-0", *key, lower, input=encrypted) == b"\0".join(names) + b"\0"


def test_hostile_names(tmp_path: Path) -> None:
    """No control character reaches the terminal, by whatever command."""
    (tmp_path / "lower").mkdir()
    name = b"\x1b[2J\n\xff"
    with opened(tmp_path / "lower", policy()) as tree:
        User(tree).create(name, b"x")
        User(tree).symlink(b"\x1bto", b"l\x07")
        below = os.fsdecode(tree.codec.encode(name))
    (tmp_path / "pass").write_text("test")
    words = ("--passfile", tmp_path / "pass", tmp_path / "lower")
    file = os.fsdecode(name)
    for done in (
        run("ls", *words),
        run("ls", "-l", *words),
        run("ls", "--json", *words),
        run("stat", *words, file, "l\x07"),
        run("find", "-u", *words, below),
        run("name", *words, below),
        run("cat", *words, file, "\x1bnone", status=1),
    ):
        assert all(line.isprintable() for line in (done.stdout + done.stderr).splitlines()), done
    assert raw("ls", "-0", *words) == name + b"\0l\x07\0"


def test_messages_hold_no_control_characters(lower: Path, tmp_path: Path, key: Key) -> None:
    place = tmp_path / "em\x1bpty"
    place.mkdir()
    assert r"em\x1bpty holds no eCryptfs data" in run("ls", *key, place, status=4).stderr
    assert r"n\x1bone: No such file" in run("ls", *key, tmp_path / "n\x1bone", status=1).stderr
    assert r"b\x1bad does not lie in" in run("find", "-u", *key, lower, "/b\x1bad", status=2).stderr


def test_a_tree_deeper_than_any_stack(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("test")
    lower = made_tree(tmp_path / "lower", "file", names=False)
    fd = os.open(lower, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        _look_at_deep(tmp_path, lower)
    finally:
        subprocess.run(["rm", "-r", lower], check=True)  # pytest's own clearing is not fit for it


def _look_at_deep(tmp_path: Path, lower: Path) -> None:
    words = ("--passfile", tmp_path / "pass", lower)
    assert len(run("ls", "-R", *words).stdout.splitlines()) == 1501
    assert run("identify", lower).stdout.startswith(f"{lower}: eCryptfs tree")
    done = run("recover", "--passfile", tmp_path / "pass", lower)
    assert done.stdout.startswith(f"{lower}: opened")
    assert "passed over" in done.stderr


def test_output_that_cannot_be_written(lower: Path, key: Key) -> None:
    with open("/dev/full", "wb") as full:
        for words in (("cat", *key, lower, "hello.txt"), ("ls", *key, lower), ("ls", "-l", *key, lower)):
            done = subprocess.run([PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, check=False)
            assert (done.returncode, done.stderr) == (
                1,
                b"fusecrypt: No space left on device\n  hint: make room\n",
            )


@pytest.mark.parametrize("command", ["ls", "cat", "stat", "find"])
def test_what_cannot_be_opened(command: str, lower: Path, tmp_path: Path, key: Key) -> None:
    argument = ["x"] if command != "ls" else []
    (tmp_path / "wrong").write_bytes(b"wrong\n")
    done = run(command, "--passfile", tmp_path / "wrong", lower, *argument, status=3)
    assert "9e91b2100d622d7a" in done.stderr
    (tmp_path / "empty").mkdir()
    done = run(command, *key, tmp_path / "empty", *argument, status=4)
    assert "holds no eCryptfs data" in done.stderr
    assert "fusecrypt identify" in done.stderr
    assert "none" in run(command, *key, tmp_path / "none", *argument, status=1).stderr
    done = run(command, lower, *argument, status=3, start_new_session=True)
    assert "no terminal to ask on" in done.stderr


def test_keys_as_mount_takes_them(tmp_path: Path) -> None:
    """A wrapped passphrase of the home, a key-slot file beside the tree, a raw key, mount options."""
    golden.unpack(golden.DIRECTORY / "userspace" / "home.tar.xz", tmp_path)
    private = tmp_path / "alice" / ".Private"
    (tmp_path / "login").write_text("alice login\n")
    (tmp_path / "mount").write_text("alice mount passphrase\n")
    for words in (
        ("--passfile", tmp_path / "login"),
        ("--passfile", tmp_path / "mount"),
        ("--extpass", f"cat {tmp_path}/mount"),
        ("-o", "ecryptfs_cipher=aes,ecryptfs_key_bytes=16", "--passfile", tmp_path / "mount"),
    ):
        assert "notes.txt" in run("ls", *words, private).stdout
    shown = run("ls", "-o", "ecryptfs_encrypted_view", "--passfile", tmp_path / "login", private).stdout
    assert shown.count("ECRYPTFS_FNEK_ENCRYPTED.") == 4
    create = ("key", "create", private, "--keyslots", tmp_path / "alice" / ".Private.keyslots")
    run(*create, "--passfile", tmp_path / "mount", "--recovery-file", tmp_path / "recovery")
    for name in ("recovery", "mount"):
        assert "notes.txt" in run("ls", "--passfile", tmp_path / name, private).stdout


def test_manifest_of_the_home(tmp_path: Path) -> None:
    """What ecryptfs-utils made and a kernel showed."""
    golden.unpack(golden.DIRECTORY / "userspace" / "home.tar.xz", tmp_path)
    private = tmp_path / "alice" / ".Private"
    (tmp_path / "login").write_text("alice login\n")
    for entry in manifest.load(golden.DIRECTORY / "userspace" / "private-manifest.json"):
        if entry["type"] == "file":
            data = raw("cat", "--passfile", tmp_path / "login", private, entry["path"])
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
