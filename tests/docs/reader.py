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


def blocks(page: str) -> list[tuple[str, str]]:
    """Commands of a page, by its path from docs/: where each block is run (empty: here), and its lines."""
    text = (DOCS / page).read_text()
    return re.findall(r"^```sh ?(.*)\n((?:.*\n)*?)```", text, re.MULTILINE)


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
