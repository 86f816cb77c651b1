"""Killed at any step, each command leaves a file that the old or the new secrets open."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fusecrypt.keys.errors import WrongSecretError
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.unlock import open_with_secret, open_with_tpm
from fusecrypt.native import Secret
from tests.cli.key.support import Bench
from tests.tpm.conftest import SoftwareTPM

KILL = Path(__file__).with_name("kill.py")
PATIENCE = 600.0

UNLOCK = ("--keyslots", "F", "--unlock-passfile", "R")


@pytest.fixture
def start(made: Bench, tmp_path: Path) -> Bench:
    """What each run starts from: no slow argon2id, so recovery slots only (R, and R2 in slot 2)."""
    made.run("add", "recovery", *UNLOCK, "--recovery-file", "R2")
    made.recovery("R2")
    made.run("remove", "--slot", "0", *UNLOCK)
    directory = tmp_path / "start"
    directory.mkdir()
    for name in ("F", "F.bak", "R", "R2", "lower"):
        shutil.move(tmp_path / name, directory / name)
    return Bench(directory, made.secrets)


def killed(start: Bench, *words: str) -> Sequence[Path]:
    """The directory that each run left; the last one was not killed."""
    copies = start.directory.with_name("copies")
    copies.mkdir()
    command = [sys.executable, str(KILL), str(start.directory), str(copies), *words]
    environment = {**start.environment, "PYTHONPATH": str(KILL.parents[3])}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    steps, status = map(int, done.stdout.split()[-2:])
    assert status == 0, done.stderr.decode()
    assert steps > 12
    return [copies / str(step) for step in range(1, steps + 1)]


def opening(path: Path, secrets: Sequence[bytes]) -> set[int]:
    """Which of the secrets open a file."""
    file = SlotFile.parse(path.read_bytes())
    found = set()
    for number, value in enumerate(secrets):
        try:
            volume, _ = open_with_secret(file, Secret.copy(value))
        except WrongSecretError:
            continue
        assert volume.intact
        assert len(volume.tokens()) == 2
        found.add(number)
    return found


def secrets_of(directory: Path, *names: str) -> list[bytes]:
    """The recovery keys in files of this run; one that was not written yet opens nothing."""
    found = []
    for name in names:
        path = directory / name
        found.append(path.read_bytes().strip() if path.exists() else b"none")
    return found


def test_create(start: Bench) -> None:
    start.path("raw").mkdir()
    with Secret.copy(start.secrets["R"]) as secret:
        volume, _ = open_with_secret(SlotFile.parse(start.path("F").read_bytes()), secret)
    words = ["create", "lower", "--keyslots", "NEW", "--recovery-file", "KEY"]
    for held in volume.tokens():
        start.path(held.token.sig).write_bytes(bytes(held.token.key.view()))
        words += ["--raw-key", f"{held.token.sig}={held.token.sig}"]
    runs = killed(start, *words)
    for directory in runs:
        # A file that is there opens with the key that is there.
        if (directory / "NEW").exists():
            assert opening(directory / "NEW", secrets_of(directory, "KEY")) == {0}
    assert (runs[-1] / "NEW").exists()


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        (("add", "recovery", *UNLOCK, "--recovery-file", "NEW"), {0, 1}, {0, 1, 2}),
        (("change", "--slot", "2", *UNLOCK, "--recovery-file", "NEW"), {0, 1}, {0, 2}),
        (("change", "--slot", "2", *UNLOCK), {0, 1}, {0, 3}),
        (("remove", "--slot", "2", *UNLOCK), {0, 1}, {0}),
        (("rotate", *UNLOCK, "--unlock-passfile", "R2"), {0, 1}, {0, 1}),
        (("rotate", *UNLOCK, "--drop", "2"), {0, 1}, {0}),
    ],
    ids=["add", "change", "change-shown", "remove", "rotate", "drop"],
)
def test_changes(start: Bench, words: Sequence[str], before: set[int], after: set[int]) -> None:
    states = []
    for directory in killed(start, *words):
        secrets = secrets_of(directory, "R", "R2", "NEW", "printed")
        opened = opening(directory / "F", secrets)
        assert opened in (before, after)
        states.append(opened)
        if opened == after and 1 not in after:
            assert 1 not in opening(directory / "F.bak", secrets)
    assert (states[0], states[-1]) == (before, after)
    assert states == sorted(states, key=lambda state: state == after and before != after)


def test_reseal(start: Bench, swtpm: SoftwareTPM) -> None:
    tcti = ("--tcti", swtpm.tcti)
    start.run("add", "tpm2", *UNLOCK, *tcti)
    old = SlotFile.parse(start.path("F").read_bytes()).slot(0)
    runs = killed(start, "reseal", *UNLOCK, *tcti)
    new = SlotFile.parse((runs[-1] / "F").read_bytes()).slot(0)
    assert isinstance(old.body, TPM2Body)
    assert old.body != new.body
    for directory in runs:
        assert opening(directory / "F", secrets_of(directory, "R", "R2")) == {0, 1}
    with swtpm.open() as tpm:
        # Each seals anew, so only whether it opens can be compared; two of them are enough.
        for directory in (runs[0], runs[-1]):
            file = SlotFile.parse((directory / "F").read_bytes())
            assert open_with_tpm(file, tpm)[0] is not None
