"""Debian packages as archives: found and downloaded by apt, read where they lie, never installed."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kernel.errors import HarnessError

KERNEL = "linux-image-amd64"  # depends on the package that holds the current kernel


def kernel_package() -> str:
    """Name of the package that holds Debian's kernel, for instance linux-image-6.1.0-56-amd64."""
    command = ["apt-cache", "depends", KERNEL]
    found = re.search(r"Depends: (linux-image-\S+)", _retried(command, pattern="Depends: linux-image"))
    if not found:
        raise HarnessError(f"apt knows no {KERNEL}: the kernel tests need Debian on x86-64")
    return found.group(1)


def download(package: str, directory: Path) -> Path:
    """Fetch one package without its dependencies; returns the archive's path."""
    directory.mkdir(parents=True, exist_ok=True)
    _retried(["apt-get", "-q", *_AS_IS, "download", package], cwd=directory)
    return max(directory.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)


def download_closure(packages: Iterable[str], directory: Path) -> list[Path]:
    """Fetch packages and everything they depend on, as if nothing were installed here."""
    (directory / "partial").mkdir(parents=True, exist_ok=True)
    status = directory / "status"
    status.touch()
    options = ["-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={directory}"]
    flags = ["-q", "-y", "--no-install-recommends", "--download-only", *_AS_IS, *options]
    _retried(["apt-get", *flags, "install", *packages])
    return sorted(directory.glob("*.deb"))


# Works for any user: no lock on the system's package state, no change of user for downloads.
_AS_IS = ("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=")


def _retried(command: list[str], cwd: Path | None = None, pattern: str = "") -> str:
    """Output of an apt command; if it fails the package lists are brought up to date first."""
    for attempt in range(2):
        result = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode == 0 and pattern in result.stdout:
            return result.stdout
        if attempt == 0:
            sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
            update = [*sudo, "apt-get", "-q", "update"]
            subprocess.run(update, stdin=subprocess.DEVNULL, capture_output=True)
    last = (result.stdout + result.stderr).strip().splitlines()[-3:]
    raise HarnessError(f"{' '.join(command)} failed: {' / '.join(last)}")


@contextmanager
def opened(package: Path) -> Iterator[tarfile.TarFile]:
    """The file tree inside a .deb, as a stream of tar members."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            yield archive
        assert process.stdout
        while process.stdout.read(1 << 20):  # what pads the archive, or dpkg-deb ends by a signal
            pass
    if process.returncode:
        raise HarnessError(f"{package.name} cannot be read")
