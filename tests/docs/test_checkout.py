"""The scripts of a checkout, as README.md and docs/performance.md name them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.reader import DOCS, the_block
from tests.docs.test_demo import run_demo

ROOT = DOCS.parent
PAGES = [path.read_text() for path in (ROOT / "README.md", *DOCS.glob("*.md"))]
OPTIONS = sorted(set(re.findall(r"`?(script/\w+)`? \(?`?(--[a-z]+)", "\n".join(PAGES))))

BEHIND = {
    "script/bench": (ROOT / "bench/main.py").read_text(),
    "script/test": (ROOT / "tests/conftest.py").read_text(),
}
"""What else knows the options of a script."""


def test_try_it(tmp_path: Path) -> None:
    demo, test = the_block("../README.md", "sh checkout").splitlines()
    assert demo.startswith("script/demo ")
    assert "hello from aes32" in run_demo(tmp_path)
    subprocess.run(["bash", "-n", test.split()[0]], check=True, cwd=ROOT)  # it runs us


@pytest.mark.parametrize("line", the_block("performance.md", "sh checkout").splitlines())
def test_bench(line: str, tmp_path: Path) -> None:
    """Each line is understood; what a bench does is tested elsewhere."""
    (tmp_path / "script").mkdir()
    shutil.copy(ROOT / "script/bench", tmp_path / "script")
    for name in ("script/bootstrap", "apt-get"):
        (tmp_path / name).symlink_to("/bin/true")
    for name in ("bench", "fusecrypt"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    command = f"PATH=.:$PATH; {line.partition('#')[0]} --help"
    done = subprocess.run(["sh", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: script/bench")
    wrong = command.replace("--help", "--contenders ext4 --help")
    assert (
        subprocess.run(["sh", "-ec", wrong], cwd=tmp_path, capture_output=True, check=False).returncode == 2
    )


def test_scripts_that_are_named_are_there() -> None:
    named = set(re.findall(r"\bscript/\w+", "\n".join(PAGES)))
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "script").iterdir()} >= named
    assert len(named) > 5


@pytest.mark.parametrize(("script", "option"), OPTIONS)
def test_options_that_are_named_are_there(script: str, option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}\b", (ROOT / script).read_text() + BEHIND.get(script, "")), option
