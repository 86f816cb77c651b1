"""Every command of the pages for users is run, in their order, by somebody at a terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from fusecrypt.cli.main import fusecrypt
from tests import golden
from tests.docs.reader import DOCS, all_blocks, at_home, follow
from tests.docs.reader import home as home
from tests.mount.support import run

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


def tree_with_file(home: Path) -> None:
    """A tree with a file in it."""
    (home / "cipher").mkdir()
    (home / "clear").mkdir()
    (home / "pass").write_text("a long one\n")
    mount = "fusecrypt mount --passfile ~/pass ~/cipher ~/clear\n"
    follow(f"{mount}echo for my eyes only > ~/clear/note.txt\nfusecrypt umount ~/clear", [], home)


def tree_with_slots(home: Path) -> None:
    """The same, with key slots."""
    tree_with_file(home)
    files = "--keyslots ~/cipher.keyslots --passfile ~/pass --recovery-file ~/recovery.txt"
    follow(f"fusecrypt key create ~/cipher {files}", [], home)


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
    "backups.md": (
        tree_with_slots,
        [("passphrase or recovery key: ", "a long one")] * 7
        + [
            ("new mount passphrase: ", "another long one"),
            ("new mount passphrase again: ", "another long one"),
        ],
        ["1 good", "all as listed", "note.txt"],
    ),
    "troubleshooting.md": (
        tree_with_slots,
        [],
        ["FUSE device", "the mount passphrase", "1 objects"],
    ),
    "nas.md": (volume, [("mount passphrase: ", MOUNT_PASSPHRASE)] * 2, ["@Photos@: ", "hello.txt"]),
}
"""What the reader of a page has, types at prompts, and sees."""


@pytest.mark.parametrize("page", list(PAGES))
def test_page(page: str, home: Path) -> None:
    prepare, answers, seen = PAGES[page]
    prepare(home)
    lines = "".join(at_home(page))
    assert lines
    shown = follow(lines.replace("fusecrypt status\n", "fusecrypt status ~/clear\n"), answers, home)
    for text in seen:  # of status only the mount that was made: others' may be ill
        assert text in shown


RUN_BY = {
    **{(page, "sh"): "docs/test_pages.py" for page in PAGES},
    ("../README.md", "sh"): "docs/test_readme.py",
    ("../README.md", "sh checkout"): "docs/test_checkout.py",
    ("../README.md", "console"): "docs/test_demo.py",
    ("../README.md", "sh install"): "package/test_installers.py",
    ("../README.md", "python"): "storage/test_readme.py",
    ("../README.md", "fstab"): "docs/test_fstab.py",
    ("kernel.md", "sh"): "kernel/test_page.py",
    ("kernel.md", "sh kernel"): "kernel/test_page.py",
    ("keys.md", "sh runbook"): "cli/key/test_runbooks.py",
    ("keys.md", "sh tpm2-tools"): "cli/key/test_export.py",
    ("old-home.md", "sh login"): "package/test_system_login.py",
    ("old-home.md", "xml"): "package/test_system_login.py",
    ("performance.md", "sh checkout"): "docs/test_checkout.py",
    ("scale.md", "python urls"): "storage/test_scale_page.py",
    ("scale.md", "python directly"): "storage/test_scale_page.py",
    ("scale.md", "python cluster"): "offline/test_scale_page.py",
    ("scale.md", "sh cluster"): "offline/test_scale_page.py",
    ("tpm.md", "sh"): "docs/test_tpm_page.py",
    ("tpm.md", "sh changed boot"): "docs/test_tpm_page.py",
    ("tpm.md", "sh other TPM"): "docs/test_tpm_page.py",
    ("tpm.md", "fstab"): "docs/test_tpm_page.py",
}
"""The test that runs the blocks of a page that are of a kind; what is only shown is ``text``."""


def test_every_block_is_run() -> None:
    pages = ["../README.md", *(path.name for path in DOCS.glob("*.md"))]
    found = {(page, kind): lines for page in pages for kind, lines in all_blocks(page)}
    assert {key for key in found if key[1] != "text"} == set(RUN_BY)
    for (page, _), test in RUN_BY.items():
        assert Path(page).name in (DOCS.parent / "tests" / test).read_text(), test
    for (page, kind), lines in found.items():
        assert kind != "text" or not re.search(
            r"^(\$ )?(fusecrypt|script/\w+|pip|apt|mount) ", lines, re.M
        ), page


def commands(text: str) -> Iterator[list[str]]:
    """All commands of ours in code, in lines of their own or between backticks."""
    blocks = re.findall(r"```[^\n]*\n(.*?)```", text, re.DOTALL)
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


def anchors(text: str) -> set[str]:
    """The headings of a page, as its readers' programs name them in links."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [README, *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for place, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text()):
        target = path.parent / place if place else path
        assert target.exists(), place
        assert not anchor or anchor in anchors(target.read_text()), f"{place}#{anchor}"
