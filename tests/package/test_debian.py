"""The Debian package in a bare root of its release: installed, used from fstab, purged, nothing left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fusecrypt import __version__
from tests import golden
from tests.package.roots import bare, build_package

pytestmark = pytest.mark.full
FSTAB = "/srv/lower /srv/up fuse.fusecrypt noauto,passfile=/srv/pass 0 0\n"
USE = """
set -e
mount /srv/up
cat /srv/up/hello.txt
findmnt -n -o FSTYPE /srv/up
fusecrypt status /srv/up
umount /srv/up
fusecrypt doctor
ls /usr/share/man/man1/fusecrypt-mount.1.gz
"""


def test_install_use_purge(release: str, package: Path, place: Path) -> None:
    root = bare(release, place / "root")
    root.satisfy(package)
    (root.path / "tmp/fusecrypt.deb").write_bytes(package.read_bytes())
    golden.tree("aes32").unpack(root.path / "srv/lower")
    (root.path / "srv/up").mkdir()
    root.put("srv/pass", "cipher aes\n")
    root.put("etc/fstab", FSTAB)
    before = root.files()
    root.install("/tmp/fusecrypt.deb")
    assert root.run("fusecrypt", "--version") == f"fusecrypt, version {__version__}\n"
    used = root.run("sh", "-c", USE)
    assert used.startswith("hello")
    assert "fuse.fusecrypt\n" in used
    assert "health    good" in used
    assert "good  fstab: mount(8) finds /sbin/mount.fuse.fusecrypt" in used
    root.run("apt-get", "-q", "-y", "purge", "fusecrypt")
    assert root.files() == before


def test_the_same_sources_give_the_same_package(release: str, package: Path, place: Path) -> None:
    time.sleep(2)
    again = build_package(release, place / "again")
    assert again.read_bytes() == package.read_bytes()
