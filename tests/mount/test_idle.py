"""Mounts that end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.mount.support import PASSPHRASE, PATIENCE, daemons, is_mounted, mounted, run, wait_for_end


def test_ends_when_nobody_uses_it(tmp_path: Path) -> None:
    """A file that is open, or a request now and then, keep it; then all is written and it is gone."""
    with mounted(tmp_path / "lower", "--idle", "1.5s") as mount:
        with (mount.path / "f").open("w") as file:
            file.write("held")
            file.flush()
            time.sleep(2.5)
            assert is_mounted(mount.path)
        for number in range(20):
            (mount.path / f"f{number}").touch()
            time.sleep(0.1)
        assert is_mounted(mount.path)
        mount.process.wait(PATIENCE)
        assert not is_mounted(mount.path)
    with mounted(tmp_path / "lower") as mount:
        assert (mount.path / "f").read_text() == "held"


def test_a_mount_that_is_bound_elsewhere_ends_too(tmp_path: Path) -> None:
    """Also where one of the places is in use at first."""
    bound = tmp_path / "bound"
    bound.mkdir()
    with mounted(tmp_path / "lower", "--idle", "0.3s") as mount:
        (mount.path / "f").touch()
        subprocess.run(["mount", "--bind", mount.path, bound], check=True)
        with (bound / "f").open():
            deadline = time.monotonic() + PATIENCE
            while is_mounted(mount.path):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert is_mounted(bound)
        mount.process.wait(PATIENCE)
        assert not is_mounted(bound)


@pytest.mark.parametrize("text", ["", "0", "0m", "ten", "-1", "5w", "1e3"])
def test_times_that_are_none(tmp_path: Path, text: str) -> None:
    assert "is no time" in run("mount", f"--idle={text}", tmp_path, tmp_path, status=2).stderr


def test_auto_unmount(tmp_path: Path) -> None:
    """A daemon that is killed leaves no dead mount."""
    for name in ("lower", "up"):
        (tmp_path / name).mkdir()
    (tmp_path / "pass").write_bytes(PASSPHRASE)
    run("mount", "-o", "auto_unmount", "--passfile", tmp_path / "pass", tmp_path / "lower", tmp_path / "up")
    (pid,) = daemons()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    deadline = time.monotonic() + PATIENCE
    while is_mounted(tmp_path / "up"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
