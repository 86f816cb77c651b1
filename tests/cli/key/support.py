"""Running ``fusecrypt key`` as a user does: no terminal, a state directory of its own, secrets in files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusecrypt.keys.errors import WrongSecretError
from fusecrypt.keys.slotfile import SlotFile
from fusecrypt.keys.unlock import open_with_secret
from fusecrypt.native import Secret

PROGRAM = Path(sys.executable).with_name("fusecrypt")
PATIENCE = 60.0
"""Seconds that a command may take: far more than any needs."""


@dataclass
class Bench:
    """A directory to work in. Secrets made here must never show in arguments or output."""

    directory: Path
    secrets: dict[str, bytes] = field(default_factory=dict)
    program: tuple[str, ...] = (str(PROGRAM),)

    def path(self, name: str) -> Path:
        return self.directory / name

    def secret(self, name: str, value: bytes) -> Path:
        """A secret in a file of this name."""
        self.path(name).write_bytes(value + b"\n")
        self.secrets[name] = value
        return self.path(name)

    def recovery(self, name: str) -> bytes:
        """The recovery key that a command wrote, from now on a secret like the others."""
        key = self.path(name).read_bytes().rstrip(b"\n")
        self.secrets[name] = key
        return key

    @property
    def environment(self) -> dict[str, str]:
        places = {"HOME": str(self.directory), "XDG_STATE_HOME": str(self.path("state"))}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "FUSECRYPT_T"))}
        return {**kept, **places}

    def run(
        self, *words: str | Path, status: int = 0, shows_secret: bool = False, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``fusecrypt key …`` in the directory; neither words nor output may hold a secret."""
        command = [*self.program, "key", *map(str, words)]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            cwd=self.directory,
            env=self.environment,
            timeout=PATIENCE,
            check=False,
            start_new_session=True,
        )
        said = done.stdout + done.stderr
        assert done.returncode == status, said.decode(errors="replace")
        assert b"Traceback" not in said
        for name, value in self.secrets.items():
            assert not any(value in os.fsencode(word) for word in command), f"{name} is an argument"
            assert shows_secret or value not in said, f"{name} is shown"
        return done

    def says(self, *words: str | Path, status: int = 3) -> str:
        """What a refused command says."""
        return self.run(*words, status=status).stderr.decode()


def contents(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """All entries below a directory, however long their paths: mode, modification time, octets."""
    found = {}
    for where, directories, files, fd in os.fwalk(directory):
        for name in [*directories, *files]:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            data = b""
            if stat.S_ISREG(status.st_mode):
                with open(os.open(name, os.O_RDONLY | os.O_NOATIME, dir_fd=fd), "rb") as file:
                    data = file.read()
            found[f"{where}/{name}"] = status.st_mode, status.st_mtime_ns, data
    return found


def opens(bench: Bench, name: str, *files: str) -> None:
    """The secret opens each of these files, and no other version that stands beside them."""
    for file in ("F", "F.bak", "F.tmp", "F.bak.tmp"):
        if not bench.path(file).exists():
            assert file not in files, f"there is no {file}"
            continue
        parsed = SlotFile.parse(bench.path(file).read_bytes())
        with Secret.copy(bench.secrets[name]) as secret:
            try:
                volume, _ = open_with_secret(parsed, secret)
            except WrongSecretError:
                assert file not in files, f"{name} does not open {file}"
            else:
                assert volume.intact
                assert volume.tokens()
                assert file in files, f"{name} opens {file}"


def slot_types(listed: Sequence[dict[str, object]]) -> list[tuple[object, object]]:
    """Numbers and types of the slots that ``list --json`` shows."""
    return [(slot["id"], slot["type"]) for slot in listed]
