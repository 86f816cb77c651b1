"""The rules of conftest.py: each breach fails a run of pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

LOG = "import logging\nlogging.getLogger('fusecrypt').warning('odd')"
PROCESS = "import subprocess\nsubprocess.Popen(['fusecrypt', '60'], executable='/bin/sleep').returncode = 0"
# By mount(2) itself: a newer mount(8) leaves out the subtype.
MOUNT = """
import ctypes, os
fd = os.open('/dev/fuse', os.O_RDWR)
flags = f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()
assert ctypes.CDLL(None).mount(b'none', os.fsencode(tmp_path), b'fuse.fusecrypt', 0, flags) == 0
os.close(fd)
"""
BREACHES = {
    "log": (LOG, "unexpected log: WARNING fusecrypt: odd"),
    "absent_log": ("expected_log('odd')", "expected log is absent: odd"),
    "descriptor": (
        "import os\nfor _ in range(5): os.open('/dev/null', 0)",
        "descriptor left behind: .*/dev/null",
    ),
    "process": (PROCESS, "process left behind: .* fusecrypt 60"),
    "mount": (MOUNT, "mount left behind: "),
    "skip": ("pytest.skip('gone')", "gone .a skip counts as a failure."),
    "warning": ("import warnings\nwarnings.warn('old')", "UserWarning: old"),
}


def run(directory: Path, tests: dict[str, str], *options: str, head: str = "") -> str:
    """Run tests of these bodies under this project's rules; what pytest prints."""
    module = f"import pytest\n{head}\n"
    for name, body in tests.items():
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        module += f"def test_{name}(expected_log, tmp_path):\n{lines}\n"
    path = directory / "test_it.py"
    path.write_text(module)
    flags = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(PROJECT / "pyproject.toml")]
    places = ["--rootdir", str(directory), "--basetemp", str(directory / "tmp")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pytest", *flags, *places, *options, str(path)]
    result = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    return result.stdout + result.stderr


def test_every_breach_fails(tmp_path: Path) -> None:
    output = run(tmp_path, {name: body for name, (body, _) in BREACHES.items()})
    for name, (_, message) in BREACHES.items():
        assert re.search(message, output), output
        assert re.search(rf"^(FAILED|ERROR) .*::test_{name}\b", output, re.MULTILINE), output


def test_skipped_module_fails(tmp_path: Path) -> None:
    output = run(tmp_path, {"it": "pass"}, head="pytest.skip('not here', allow_module_level=True)")
    assert "not here (a skip counts as a failure)" in output
    assert "1 error" in output


def test_expected_log_passes(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, {"it": LOG + "\nexpected_log('^WARNING fusecrypt: odd$')"})


@pytest.mark.parametrize(("options", "outcome"), [((), "1 deselected"), (("--full",), "1 passed")])
def test_full_is_deselected_unless_asked_for(tmp_path: Path, options: tuple[str, ...], outcome: str) -> None:
    assert outcome in run(tmp_path, {"it": "pass"}, *options, head="@pytest.mark.full")
