"""Every command of the pages for users is run, in their order, by somebody at a terminal."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from fusecrypt.cli.main import fusecrypt
from tests import golden
from tests.cli.key.terminal import talk
from tests.mount.support import PROGRAM, run
from tests.watch import unmount_below

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
TREE = golden.tree("aes32")
MOUNT_PASSPHRASE = "cipher aes"
LOGIN = "login password"


def nothing(home: Path) -> None:
    """Page for somebody who has no tree."""


def old_disk(home: Path) -> None:
    """An encrypted home as Ubuntu's installer made it, with the passphrase wrapped by the login password."""
    place = home / "old-disk/home/.ecryptfs/me"
    (place / ".ecryptfs").mkdir(parents=True)
    TREE.unpack(place / ".Private")
    (place / ".ecryptfs/Private.mnt").write_text("/home/me")
    (place / ".ecryptfs/Private.sig").write_text("9e91b2100d622d7a\n984e8b127932a987\n")
    (home / "mount").write_text(f"{MOUNT_PASSPHRASE}\n")
    (home / "login").write_text(f"{LOGIN}\n")
    wrapped = place / ".ecryptfs/wrapped-passphrase"
    run("key", "wrap", wrapped, "--passfile", home / "mount", "--new-passfile", home / "login")


def volume(home: Path) -> None:
    """A volume of a NAS."""
    (home / "volume1").mkdir()
    TREE.unpack(home / "volume1/@Photos@")


PAGES: dict[str, tuple[Callable[[Path], None], list[tuple[str, str]], list[str]]] = {
    "getting-started.md": (
        nothing,
        [("mount passphrase: ", "a long one")] * 3,
        ["for my eyes only", "ECRYPTFS_FNEK_ENCRYPTED.", "health    good"],
    ),
    "old-home.md": (
        old_disk,
        [
            ("recovery key: ", LOGIN),
            ("passphrase: ", LOGIN),
            ("passphrase: ", LOGIN),
            ("mount passphrase: ", MOUNT_PASSPHRASE),
        ],
        ["opened with", "hello.txt"],
    ),
    "nas.md": (volume, [("mount passphrase: ", MOUNT_PASSPHRASE)] * 2, ["@Photos@: ", "hello.txt"]),
}
"""What the reader of a page has, types at prompts, and sees."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    unmount_below(tmp_path)


@pytest.mark.parametrize("page", list(PAGES))
def test_page(page: str, home: Path) -> None:
    prepare, answers, seen = PAGES[page]
    prepare(home)
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    environment = {
        "HOME": str(home), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "TERM": "dumb",
        "XDG_STATE_HOME": str(home / "state"), "XDG_CONFIG_HOME": str(home / "config"),
    }  # fmt: skip
    marks = {name: value for name, value in os.environ.items() if name.startswith("FUSECRYPT_TEST")}
    script = "set -e\n" + "".join(blocks)
    script = script.replace("fusecrypt status\n", "fusecrypt status ~/clear\n")  # others' mounts may be ill
    status, shown = talk(["sh", "-c", script], answers, cwd=home, env=environment | marks)
    assert status == 0, shown
    for text in seen:
        assert text in shown


def commands(text: str) -> Iterator[list[str]]:
    """All commands of ours in code, in lines of their own or between backticks."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    for line in (*"\n".join(blocks).splitlines(), *re.findall(r"`([^`\n]+)`", text)):
        found = re.search(r"(?:^|\| )fusecrypt ([a-z].*)", line)
        if found:
            yield shlex.split(re.split(r" [|#>]|…", found[1])[0], comments=True)


@pytest.mark.parametrize("path", [README, *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_commands_and_options_exist(path: Path) -> None:
    """Also where they are not run."""
    for words in commands(path.read_text()):
        command: click.Command = fusecrypt
        context = click.Context(fusecrypt, **fusecrypt.context_settings)
        rest = words
        while isinstance(command, click.Group) and rest:
            below = command.get_command(context, rest[0])
            assert below is not None, words
            command, rest = below, rest[1:]
        known = {"--", *(each for option in command.get_params(context) for each in option.opts)}
        for word in rest:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, words
