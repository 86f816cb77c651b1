"""A long run that is interrupted goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0
"""Seconds for a cycle or two on a busy machine."""
Soak = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def soak(tmp_path: Path) -> Soak:
    def start(*words: str) -> subprocess.Popen[str]:
        places = ("--state", str(tmp_path / "state.json"), "--directory", str(tmp_path))
        command = [sys.executable, "-m", "tests.reliability.soak", *words, *places]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def progress(tmp_path: Path) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "state.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return dict(json.loads((tmp_path / "state.json").read_text()))


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, soak: Soak) -> None:
    words = ("10", "--seed", "5", "--workers", "1")
    with soak(*words) as run:
        progress(tmp_path)
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=PATIENCE)
        assert run.returncode == 130, said
    known = progress(tmp_path)
    assert known["figures"]["kills"] >= 1
    assert known["parts"] == 1
    known["seconds"] = 599.99  # all but one kill is done
    (tmp_path / "state.json").write_text(json.dumps(known))
    with soak(*words) as run:
        said, _ = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, said
    assert f"going on after 10.0 minutes: {known['figures']['operations']} operations" in said
    last = said.splitlines()[-1]
    assert " minutes, seed 5, 1005: " in last
    assert f" {known['figures']['kills'] + 1} kills" in last
    assert last.endswith("lost: 0")
    assert not (tmp_path / "state.json").exists()


def test_another_run_does_not_go_on_with_it(tmp_path: Path, soak: Soak) -> None:
    with soak("10", "--workers", "1") as run:
        progress(tmp_path)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=PATIENCE)
    before = progress(tmp_path)
    with soak("10", "--workers", "2") as run:
        said, _ = run.communicate(timeout=PATIENCE)
        assert run.returncode == 2
        assert "is of a run with" in said
    assert progress(tmp_path) == before
