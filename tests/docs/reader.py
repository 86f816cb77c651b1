"""Somebody who goes through a page at a terminal: its commands, and what is typed at their prompts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.key.terminal import talk
from tests.mount.support import PROGRAM
from tests.watch import unmount_below

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The reader's home."""
    yield tmp_path
    unmount_below(tmp_path)


def all_blocks(page: str) -> list[tuple[str, str]]:
    """All blocks of a page, by its path from docs/: what each is, and its lines."""
    return re.findall(r"^```(.*)\n((?:.*\n)*?)```$", (DOCS / page).read_text(), re.MULTILINE)


def the_block(page: str, kind: str) -> str:
    """The lines of the only block of its kind."""
    (lines,) = [lines for found, lines in all_blocks(page) if found == kind]
    return lines


def blocks(page: str) -> list[tuple[str, str]]:
    """Commands of a page: where each block is run (empty: by its reader, at home), and its lines."""
    found = [(kind.partition(" "), lines) for kind, lines in all_blocks(page)]
    return [(where, lines) for (kind, _, where), lines in found if kind == "sh"]


def at_home(page: str) -> list[str]:
    """The blocks that the page's reader runs, one after the other."""
    return [lines for where, lines in blocks(page) if not where]


def follow(lines: str, answers: Sequence[tuple[str, str]], home: Path, **more: str) -> str:
    """Run lines in a shell, answer the prompts in turn; what the terminal showed. All must go well."""
    environment = {
        "HOME": str(home), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "TERM": "dumb",
        "XDG_STATE_HOME": str(home / "state"), "XDG_CONFIG_HOME": str(home / "config"), **more,
    }  # fmt: skip
    marks = {name: value for name, value in os.environ.items() if name.startswith("FUSECRYPT_TEST")}
    status, shown = talk(["sh", "-ec", lines], answers, cwd=home, env=environment | marks)
    assert status == 0, shown
    return shown
