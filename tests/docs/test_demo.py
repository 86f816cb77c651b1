"""The transcript in the README is what script/demo shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.reader import DOCS

ROOT = DOCS.parent


def run_demo(place: Path) -> str:
    """What the demo prints, run as it is, but for the set-up: what that makes is there."""
    (place / "script").mkdir()
    shutil.copy(ROOT / "script/demo", place / "script")
    (place / "script/bootstrap").symlink_to("/bin/true")
    (place / ".venv").symlink_to(Path(sys.executable).parents[1])
    (place / "tests").symlink_to(ROOT / "tests")
    done = subprocess.run(
        [place / "script/demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pattern(transcript: str) -> str:
    """A line ``…`` stands for any lines, ``…`` in a line for anything there."""
    lines = transcript.splitlines()
    return "".join(
        "(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in lines
    )


def test_transcript(tmp_path: Path) -> None:
    (transcript,) = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    shown = re.sub(r"\n+", "\n", run_demo(tmp_path)).lstrip("\n")
    assert "…\n…" not in transcript
    assert re.fullmatch(pattern(transcript), shown), shown
