"""The lines of ecryptfs-utils' documentation in docs/kernel.md, run with nothing but the type changed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.keys.keyring import add_token, remove_token
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT, AuthToken
from tests import golden, manifest
from tests.cli.key.terminal import talk
from tests.mount.system import System, system
from tests.unit.keys.secrets import secret

PAGE = (Path(__file__).parents[2] / "docs/kernel.md").read_text()
TYPE = "fuse.fusecrypt"
PLAIN, NAMES = golden.tree("aes16-plain-names"), golden.tree("aes16-fnek")
SIGNATURES = {"deadbeefdeadbeef": 0, "feedbeeffeedbeef": 1}
"""Those of the page, and which key of a tree each stands for."""


def table(heading: str) -> list[tuple[str, str]]:
    """The rows of the table that follows a text, but its head."""
    text = PAGE.partition(heading)[2].partition("|---|---|\n")[2].partition("\n\n")[0]
    return [(row[0].strip(), row[1].strip()) for line in text.splitlines() if (row := line.split("|")[1:])]


LINES = [(line.strip("`"), outcome) for line, outcome in table("## Lines of ecryptfs-utils")]
OPTIONS = [
    (option, outcome)
    for cell, outcome in table("The same for single options")
    for options in [re.findall(r"`([^`]+)`", cell)]
    for option in ([",".join(options)] if outcome.startswith("mean nothing") else options)
]


def test_the_tables_are_found() -> None:
    assert (len(LINES), len(OPTIONS)) == (12, 11)


def tree_of(line: str) -> golden.GoldenTree:
    """Names are encrypted where a line says so."""
    return NAMES if "fnek" in line or "fn_" in line else PLAIN


@pytest.fixture
def place(open_tmp_path: Path) -> Iterator[System]:
    """A namespace; what a line has at the root is below its directory."""
    with system(open_tmp_path, [sys.executable], [f"mount.{TYPE}"]) as made:
        yield made


def prepare(place: System, line: str) -> tuple[str, Path]:
    """Make what the line names below the place; the line for that, and its mount point."""
    tree = tree_of(line)
    (passphrase,) = tree.passphrases
    line = re.sub(r"(?<=[ =])/|^/", f"{place.directory}/", line)
    for mark, number in SIGNATURES.items():
        token = AuthToken.from_passphrase(secret(passphrase), FNEK_SALT if number else DEFAULT_SALT)
        line = line.replace(mark, token.sig)
    lower, mountpoint = (Path(word) for word in re.findall(r"(?<=\s)/\S+|^/\S+", f" {line}"))
    tree.unpack(lower)
    mountpoint.mkdir(parents=True, exist_ok=True)
    (place.directory / "mnt/usb").mkdir(parents=True, exist_ok=True)
    (place.directory / "mnt/usb/file.txt").write_bytes(b"passphrase_passwd=" + passphrase + b"\n")
    return line, mountpoint


@pytest.fixture
def keyring() -> Iterator[None]:
    """The keys of both trees are in the user keyring."""
    made = []
    for tree in (PLAIN, NAMES):
        (passphrase,) = tree.passphrases
        made += [AuthToken.from_passphrase(secret(passphrase))]
        made += [AuthToken.from_passphrase(secret(passphrase), FNEK_SALT)]
    for token in made:
        add_token(token)
    yield
    for token in made:
        remove_token(token.signature)


def a_file(tree: golden.GoldenTree) -> manifest.Entry:
    """One that the kernel wrote."""
    return next(entry for entry in tree.manifest() if entry["type"] == "file" and entry["size"])


def shows_files(place: System, mountpoint: Path, line: str) -> None:
    """The mount shows a file as the kernel did, and goes."""
    file = a_file(tree_of(line))
    assert place.run("sha256sum", mountpoint / file["path"]).stdout.split()[0] == file["sha256"]
    place.run("umount", mountpoint)
    assert place.mounts() == ""


@pytest.mark.usefixtures("keyring")
@pytest.mark.parametrize(("shown", "outcome"), LINES, ids=[line for line, _ in LINES])
def test_line(place: System, shown: str, outcome: str) -> None:
    line, mountpoint = prepare(place, shown)
    if line.startswith("/"):
        place.fstab(line.replace(" ecryptfs ", f" {TYPE} ").removesuffix(" 0 0"))
        command = ["mount", str(mountpoint)]
    else:
        command = line.replace("-t ecryptfs", f"-t {TYPE}").split()
    (passphrase,) = tree_of(shown).passphrases
    if outcome.startswith("asks for the passphrase"):
        words = ["nsenter", "-m", "-t", str(place.pid), *command]
        answers = [("mount passphrase: ", passphrase.decode())]
        status, said = talk(words, answers, cwd=place.directory, env=dict(os.environ))
        assert (status, said.count("passphrase")) == (0, 1)
        shows_files(place, mountpoint, line)
    elif outcome.startswith("works"):
        file = place.directory / "mnt/usb/file.txt"
        place.run("sh", "-c", 'exec "$@" 3<"$0"', file, *command, start_new_session=True)
        shows_files(place, mountpoint, line)
    else:
        reason = re.match(r"refused: `(.*)`$", outcome)
        done = place.run(*command, status=1 if reason else 32, start_new_session=True)
        assert (reason[1] if reason else "wrong fs type") in done.stderr
        assert place.mounts() == ""


@pytest.mark.parametrize(("option", "outcome"), OPTIONS, ids=[option for option, _ in OPTIONS])
def test_option(place: System, option: str, outcome: str) -> None:
    key = "key=passphrase:passphrase_passwd_file=/mnt/usb/file.txt"
    line, mountpoint = prepare(place, f"mount -t {TYPE} /lower /up -o {key},{option}")
    reason = re.match(r"refused: `(.*)`$", outcome)
    done = place.run(*line.split(), status=1 if reason else 0, start_new_session=True)
    if reason:
        assert reason[1] in done.stderr
        assert place.mounts() == ""
    elif option == "ecryptfs_encrypted_view":
        path = a_file(PLAIN)["path"]
        place.run("cmp", mountpoint / path, place.directory / "lower" / path)
    else:
        shows_files(place, mountpoint, line)
