"""Software TPMs, one a test: started, restarted, and stopped again."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusecrypt.keys.tpm.session import TPM


class SoftwareTPM:
    """A swtpm on a state directory of its own. Paths are short: a socket's has at most 107 octets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        """How to reach it."""
        return f"swtpm:path={self.directory / 's'}"

    def start(self, flags: str = "not-need-init,startup-clear") -> None:
        """Start it, or start it again with the same state, as a reboot does."""
        path = self.directory / "s"
        for name in ("s", "s.ctrl"):
            (self.directory / name).unlink(missing_ok=True)
        (self.directory / "state").mkdir(exist_ok=True)
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.directory / 'state'}"]
        command += ["--ctrl", f"type=unixio,path={path}.ctrl", "--server", f"type=unixio,path={path}"]
        command += ["--flags", flags]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        # A socket's name is there a moment before anything listens on it.
        while not (_listens(path) and _listens(path.with_name("s.ctrl"))):
            assert self._process.poll() is None, "swtpm ended at once"
            assert time.monotonic() < deadline, "swtpm does not listen"
            time.sleep(0.002)

    def stop(self) -> None:
        """End it and wait for that."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def reboot(self) -> None:
        """PCRs start anew, persistent keys stay."""
        self.stop()
        self.start()

    def open(self) -> TPM:
        """A connection to it."""
        return TPM(self.tcti)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture
def make_tpm() -> Iterator[Callable[[], SoftwareTPM]]:
    """Makes software TPMs that are not started yet."""
    made: list[SoftwareTPM] = []
    with tempfile.TemporaryDirectory(prefix="fc-") as name:

        def make() -> SoftwareTPM:
            directory = Path(name) / str(len(made))
            directory.mkdir()
            made.append(SoftwareTPM(directory))
            return made[-1]

        yield make
        for each in made:
            each.stop()


@pytest.fixture
def swtpm(make_tpm: Callable[[], SoftwareTPM]) -> SoftwareTPM:
    """A fresh software TPM that is running."""
    made = make_tpm()
    made.start()
    return made


@pytest.fixture
def tpm(swtpm: SoftwareTPM) -> Iterator[TPM]:
    """An open connection to a fresh software TPM."""
    with swtpm.open() as opened:
        yield opened
