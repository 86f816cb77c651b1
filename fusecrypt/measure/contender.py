"""What a contender is: a way to create, mount and unmount an encrypted directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusecrypt.measure.errors import BenchError

PASSPHRASE = "correct horse battery staple"  # noqa: S105 - guards nothing but measurements
_PATIENCE = 60.0
"""Seconds that a command, or a busy mount, gets."""


@dataclass(frozen=True)
class Place:
    """The directories of one contender: ``lower`` is encrypted, ``upper`` is the mount point."""

    directory: Path

    @property
    def lower(self) -> Path:
        return self.directory / "lower"

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    @property
    def passfile(self) -> Path:
        return self.directory / "passphrase"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def prepare(self) -> None:
        for directory in (self.lower, self.upper):
            directory.mkdir(parents=True)
        self.passfile.write_text(PASSPHRASE + "\n")


class Contender(ABC):
    """One file system. The passphrase and key derivation are each program's default."""

    name: str
    program: str
    version_arguments: tuple[str, ...] = ("--version",)
    dear_mount = False
    """Unlocking takes so long that one mount serves all workloads. Then a cold cache is the kernel's only."""

    def missing(self) -> str | None:
        """Why it cannot be measured here, or None."""
        return None if shutil.which(self.program) else f"{self.program} is not installed"

    def version(self) -> str:
        """Its number, as the program itself says it."""
        result = subprocess.run(
            [self.program, *self.version_arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=_PATIENCE,
        )  # fmt: skip
        number = re.search(r"\d+(\.\d+)+\S*", result.stdout)
        return number[0].rstrip(";,") if number else "unknown"

    def work(self, place: Place) -> Path:
        """Where its files are seen decrypted."""
        return place.upper

    def create(self, place: Place) -> None:  # noqa: B027 - most create with the first mount
        """Make an encrypted directory of ``place.lower``, where that is a step of its own."""

    @abstractmethod
    def mount(self, place: Place) -> None:
        """Mount and return when it answers. Raises BenchError."""

    def unmount(self, place: Place) -> None:
        """Raises BenchError if it stays busy."""
        deadline = time.monotonic() + _PATIENCE
        while os.path.ismount(place.upper):
            if _call(["fusermount3", "-u", str(place.upper)], place, None, {}) != 0:
                if time.monotonic() > deadline:
                    raise BenchError(f"{self.name}: cannot unmount: {_last_line(place.log)}")
                time.sleep(0.05)

    def run(
        self, arguments: Sequence[str], place: Place, stdin: str = "", environment: Mapping[str, str] = {}
    ) -> None:
        """Run a command with its output in the log. Raises BenchError with the last line of it."""
        try:
            status = _call(arguments, place, stdin, environment)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name}: no end of `{' '.join(arguments[:2])}`") from None
        if status:
            said = _last_line(place.log).removeprefix(f"{self.name}: ")
            raise BenchError(f"{self.name}: {said or f'status {status}'}")

    def wait_for_mount(self, place: Place) -> None:
        """For those whose command returns earlier. Raises BenchError."""
        deadline = time.monotonic() + _PATIENCE
        while not os.path.ismount(place.upper):
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: did not mount: {_last_line(place.log)}")
            time.sleep(0.002)


def _call(arguments: Sequence[str], place: Place, stdin: str | None, environment: Mapping[str, str]) -> int:
    # A file rather than a pipe: daemons keep their output open.
    with place.log.open("wb") as log:
        return subprocess.run(
            arguments, input=(stdin or "").encode(), stdout=log, stderr=log,
            env={**os.environ, **environment}, check=False, timeout=_PATIENCE,
        ).returncode  # fmt: skip


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else ""
