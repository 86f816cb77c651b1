"""What unlocking costs: the time until the mount answers, and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from tests import golden
from tests.mount.keys import software_tpm
from tests.mount.support import PROGRAM, run
from tests.mount.test_keys_slots import PIN, WORDS, beside, write
from tests.unit.keys.secrets import secret

MEMORY = 160 * 1024  # KiB
TRIES = 5  # the best counts: another process may be in the way
MEASURED = """
import os, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
os.listdir(sys.argv[1])
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A process of its own: a child's peak is never below what its parent had at the start."""


@pytest.mark.parametrize(("way", "seconds"), [("tpm", 0.6), ("pin", 1.5), ("passphrase", 1.5)])
def test_time_and_memory(way: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    lower, mnt = golden.tree("aes16-fnek").unpack(tmp_path / "lower"), tmp_path / "mnt"
    mnt.mkdir()
    file = tmp_path / "secret"
    file.write_text(PIN if way == "pin" else WORDS)
    option = {"tpm": [], "pin": ["--pin-file", str(file)], "passphrase": ["--passfile", str(file)]}[way]
    with software_tpm() as tpm:
        with tpm.open() as opened:
            write(beside(lower), TPM2Enrolment(opened, secret(PIN) if way == "pin" else None))
        words = ["--tcti", tpm.tcti, *option]
        taken = [_measured(lower, mnt, words) for _ in range(TRIES)]
    assert min(time for time, _ in taken) <= seconds
    assert max(peak for _, peak in taken) <= MEMORY


def _measured(lower: Path, mnt: Path, words: list[str]) -> tuple[float, int]:
    """Seconds until the mount answers, and the peak of the command's memory in KiB."""
    command: list[str | Path] = [sys.executable, "-I", "-c", MEASURED, mnt]
    command += [PROGRAM, "mount", *words, lower, mnt]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    run("umount", mnt)
    time, peak = done.stdout.split()
    return float(time), int(peak)
