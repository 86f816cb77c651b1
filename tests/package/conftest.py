"""The releases that packages are for, and what script/package builds on each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.package.household import CONFIGURE, HELLO, furnish
from tests.package.machine import Machine
from tests.package.roots import LISTING, RELEASES, bootable, build_package


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def temporary() -> Iterator[Path]:
    """A directory for roots, which are too large to be kept with what pytest keeps."""
    with tempfile.TemporaryDirectory(prefix="fusecrypt-root-") as name:
        yield Path(name)


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary() as directory:
        yield directory


@pytest.fixture(scope="session")
def package(release: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this release, of what is committed."""
    directory = tmp_path_factory.mktemp(release)
    built = build_package(release, directory / "building")
    kept = Path(shutil.copy(built, directory))
    shutil.rmtree(directory / "building")
    return kept


@pytest.fixture(scope="session")
def machine(release: str, package: Path) -> Iterator[Machine]:
    """Booted, the package installed and configured, and booted again; /root/before lists the files before.

    It is one for all tests of a release; each leaves it as it was.
    """
    with temporary() as directory:
        root = bootable(release, directory / "root")
        furnish(root, package)
        with Machine(root, directory) as machine:
            machine.output(f"cd / && {LISTING} > /root/before")
            machine.output("apt-get -q -y install /root/fusecrypt.deb")
            machine.output(CONFIGURE)
            assert machine.output("cat /srv/unit/hello.txt").startswith(HELLO)
            machine.reboot()
            yield machine
