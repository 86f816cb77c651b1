"""The runbooks of docs/keys.md, followed to the letter."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable

import pytest

from fusecrypt.keys.slots.recovery import read_key
from tests import golden
from tests.cli.key.conftest import TREE
from tests.cli.key.support import PATIENCE, PROGRAM, Bench
from tests.cli.key.test_tpm import extend
from tests.docs.reader import DOCS
from tests.mount.support import is_mounted
from tests.tpm.conftest import SoftwareTPM
from tests.unit.keys.secrets import secret

DOCUMENT = DOCS / "keys.md"


def commands(title: str) -> list[list[str]]:
    """The commands of a runbook; LOWER, MNT, P, R, N and n stand for what the reader has."""
    section = DOCUMENT.read_text().partition(f"### {title}\n")[2].partition("\n### ")[0]
    lines = section.partition("```sh runbook\n")[2].partition("```\n")[0].splitlines()
    assert lines, f"there is no runbook {title}"
    return [shlex.split(line) for line in lines]


class Reader:
    """Somebody who follows runbooks in a directory, with a TPM."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.tpm: SoftwareTPM | None = None

    def run(self, words: list[str], status: int = 0) -> str:
        """Run a command; a mount is looked at and taken down again. What is said on standard error."""
        assert self.tpm is not None
        environment = {**self.bench.environment, "FUSECRYPT_TCTI": self.tpm.tcti}
        done = subprocess.run(
            [PROGRAM, *words],
            cwd=self.bench.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            start_new_session=True,
        )
        assert done.returncode == status, done.stderr
        mnt = self.bench.path("mnt")
        if words[0] == "mount" and status == 0:
            assert is_mounted(mnt)
            assert os.listdir(mnt)
            subprocess.run([PROGRAM, "umount", mnt], check=True, timeout=PATIENCE)
        return done.stderr

    def follow(self, title: str, slot: int = 0) -> None:
        """All commands of a runbook, each of which must do."""
        names = {"LOWER": "lower", "LOWER.keyslots": "lower.keyslots", "MNT": "mnt", "n": str(slot)}
        for program, *words in commands(title):
            assert program == "fusecrypt"
            self.run([names.get(word, word) for word in words])


@pytest.fixture
def reader(bench: Bench) -> Reader:
    golden.tree(TREE).unpack(bench.path("lower"))
    bench.path("mnt").mkdir()
    bench.secret("N", b"4711")
    return Reader(bench)


def test_all_three(reader: Reader, make_tpm: Callable[[], SoftwareTPM]) -> None:
    reader.tpm = make_tpm()
    reader.tpm.start()
    reader.follow("First enrolment of an existing tree")
    assert read_key(secret(reader.bench.path("R").read_bytes().strip())) is not None

    reader.run(["key", "remove", "--keyslots", "lower.keyslots", "--slot", "2", "--unlock-passfile", "P"])
    extend(reader.tpm, 7)
    bound = ["--unlock-passfile", "P", "--pcrs", "7"]
    reader.run(["key", "add", "tpm2", "--keyslots", "lower.keyslots", *bound])
    reader.run(["mount", "lower", "mnt"])
    extend(reader.tpm, 7)
    said = reader.run(["mount", "lower", "mnt"], status=3)
    assert "slot 2: the boot state changed (sha256): PCR 7: expected " in said
    reader.follow("A firmware update changed the PCRs", slot=2)
    reader.run(["mount", "lower", "mnt"])

    reader.tpm.stop()
    reader.tpm = make_tpm()
    reader.tpm.start()
    assert "slot 2: " in reader.run(["mount", "lower", "mnt"], status=3)
    reader.follow("The TPM died, or the disk is in another machine", slot=2)
    reader.run(["mount", "lower", "mnt", "--pin-file", "N"])
    with pytest.raises(AssertionError, match="there is no runbook"):
        commands("Something else")
