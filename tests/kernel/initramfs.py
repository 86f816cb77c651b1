"""What the guest boots from: Debian's kernel, an initramfs of Debian's programs, an empty disk.

Built once (see cache.py), from packages that are downloaded and only read.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.kernel import cpio, modules, packages
from tests.kernel.cache import built
from tests.kernel.errors import HarnessError

PROGRAMS = ("python3", "busybox-static", "tar", "acl", "attr", "keyutils", "mount")
DISK_SIZE = 4 << 30  # sparse

_NOT_NEEDED = re.compile(
    r"^(dpkg|gcc-.*-base|libdb5.*|libgpm2|libnsl2|libncurses.*|libtirpc.*|libreadline.*|libsqlite.*|media-types"
    r"|openssl-provider-legacy|python3|readline-common)_"
)
_LEFT_OUT = re.compile(
    r"(etc|var|usr/share|usr/include|usr/lib/python3/.*|usr/lib/python3[^/]*/(__pycache__|test|lib2to3|idlelib"
    r"|turtledemo|ensurepip|tkinter|distutils|pydoc_data|sqlite3|config-[^/]*)"
    r"|usr/lib/x86_64-linux-gnu/(gconv|ossl-modules|engines-3|perl.*))(/|$)"
)
_MERGED = ("bin", "lib", "lib64", "sbin")  # directories that are links into /usr, as everywhere in Debian
_HERE = Path(__file__).parent
_SOURCES = ("cpio.py", "initramfs.py", "modules.py", "packages.py", "init.sh")


@dataclass(frozen=True)
class BootFiles:
    """What QEMU is given. The disk is an ext4 file system that every boot sees pristine."""

    kernel: Path
    initramfs: Path
    disk: Path


def boot_files(cache: Path) -> BootFiles:
    """Build the boot files, or find them in the cache."""
    directory = built(cache, "boot", _SOURCES, _build)
    return _files(directory)


def _files(directory: Path) -> BootFiles:
    return BootFiles(directory / "vmlinuz", directory / "initramfs", directory / "disk")


def _build(directory: Path) -> None:
    files, downloads = _files(directory), directory / "packages"
    kernel = packages.download(packages.kernel_package(), downloads / "kernel")
    programs = packages.download_closure(PROGRAMS, downloads / "programs")
    image, drivers = modules.read_kernel(kernel)
    files.kernel.write_bytes(image)
    with files.initramfs.open("wb") as target:
        archive = cpio.Cpio(target)
        _add_skeleton(archive, drivers)
        for package in programs:
            if not _NOT_NEEDED.match(package.name):
                _add_package(archive, package)
        archive.close()
    _make_disk(files.disk)
    shutil.rmtree(downloads)


def _add_skeleton(archive: cpio.Cpio, drivers: list[tuple[str, bytes]]) -> None:
    for name in ("proc", "sys", "dev", "tmp", "root", "mnt", "ctl", "share", "scratch"):
        archive.add(name, cpio.DIRECTORY)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    archive.add("etc/passwd", cpio.PLAIN, b"root:x:0:0:root:/root:/bin/sh\n")
    archive.add("etc/group", cpio.PLAIN, b"root:x:0:\n")
    archive.add("etc/mtab", cpio.SYMLINK, b"/proc/self/mounts")
    archive.add("usr/bin/sh", cpio.SYMLINK, b"busybox")
    archive.add("init", cpio.EXECUTABLE, (_HERE / "init.sh").read_bytes())
    for name in _MERGED:
        archive.add(name, cpio.SYMLINK, b"usr/" + name.encode())
    for number, (name, data) in enumerate(drivers):
        archive.add(f"modules/{number:03}-{name}.ko", cpio.PLAIN, data)


def _add_package(archive: cpio.Cpio, package: Path) -> None:
    with packages.opened(package) as tree:
        for member in tree:
            name = _merged_name(member.name)
            if _LEFT_OUT.match(name) or name.endswith((".a", ".pyc")):
                continue
            if member.issym():
                archive.add(name, cpio.SYMLINK, os.fsencode(member.linkname))
            elif member.isfile():
                archive.add(name, stat.S_IFREG | member.mode, _contents(tree, member))


def _merged_name(name: str) -> str:
    name = name.removeprefix("./")
    return "usr/" + name if name.split("/")[0] in _MERGED else name


def _contents(tree: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tree.extractfile(member) or io.BytesIO()
    return stream.read()


def _make_disk(path: Path) -> None:
    with path.open("wb") as disk:
        disk.truncate(DISK_SIZE)
    mkfs = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not mkfs:
        raise HarnessError("mkfs.ext4 is missing: run script/bootstrap")
    # No journal: the disk is thrown away. 256-octet inodes hold nanoseconds and small xattrs.
    options = ["-q", "-F", "-O", "^has_journal", "-I", "256", "-E", "root_owner=0:0"]
    subprocess.run([mkfs, *options, str(path)], check=True, stdin=subprocess.DEVNULL)
