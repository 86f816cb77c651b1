"""The Debian package in a bare root of this release: installed, used from fstab, purged, nothing left."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from fusecrypt import __version__
from tests import golden

ROOT = Path(__file__).parents[2]
APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
pytestmark = pytest.mark.full


def call(*command: str | Path, **more: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    return Path(call(ROOT / "script/package", directory).splitlines()[-1])


class Bare:
    """A Debian root with nothing in it but apt; the test's mount namespace is its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str) -> str:
        script = 'mount -t proc proc "$1/proc" && shift && exec chroot "$@"'
        inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
        return call(*inside, self.path, self.path, *command)

    def files(self) -> set[str]:
        """All that a package might leave: neither apt's and dpkg's own notes nor caches of others."""
        listed = call(
            "find", ".", "-xdev", "-not", "-path", "./var/*", "-not", "-path", "./tmp/*", cwd=self.path
        )
        return set(listed.splitlines())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    path = tmp_path_factory.mktemp("bare") / "root"
    release = call("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").strip()
    call("debootstrap", "--variant=minbase", release, path)
    call("sh", "-c", 'cp /etc/apt/sources.list.d/* "$1/etc/apt/sources.list.d/" || true', "sh", path)
    if not (path / "dev/fuse").exists():
        os.mknod(path / "dev/fuse", 0o20666, os.makedev(10, 229))
    return Bare(path)


FSTAB = "/srv/lower /srv/up fuse.fusecrypt noauto,passfile=/srv/pass 0 0\n"
USE = """
set -e
mount /srv/up
cat /srv/up/hello.txt
findmnt -n -o FSTYPE /srv/up
fusecrypt status /srv/up
umount /srv/up
fusecrypt doctor
man -w fusecrypt-mount 2>/dev/null || ls /usr/share/man/man1/fusecrypt-mount.1.gz
"""


def test_install_use_purge(package: Path, bare: Bare) -> None:
    bare.run(*APT, "update")
    bare.run(*APT, "satisfy", "--no-install-recommends", call("dpkg-deb", "-f", package, "Depends").strip())
    (bare.path / "tmp/fusecrypt.deb").write_bytes(package.read_bytes())
    golden.tree("aes32").unpack(bare.path / "srv/lower")
    (bare.path / "srv/up").mkdir()
    (bare.path / "srv/pass").write_text("cipher aes\n")
    (bare.path / "etc/fstab").write_text(FSTAB)
    before = bare.files()
    bare.run(*APT, "install", "--no-install-recommends", "/tmp/fusecrypt.deb")
    assert bare.run("fusecrypt", "--version") == f"fusecrypt, version {__version__}\n"
    used = bare.run("sh", "-c", USE)
    assert used.startswith("hello")
    assert "fuse.fusecrypt\n" in used
    assert "health    good" in used
    assert "good  fstab: mount(8) finds /sbin/mount.fuse.fusecrypt" in used
    bare.run(*APT, "purge", "fusecrypt")
    assert bare.files() == before


def test_the_same_sources_give_the_same_package(package: Path, tmp_path: Path) -> None:
    time.sleep(2)
    again = Path(call(ROOT / "script/package", tmp_path).splitlines()[-1])
    assert again.read_bytes() == package.read_bytes()
