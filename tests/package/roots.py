"""Root directories of Debian releases: made once by debootstrap, copied for each use, entered by chroot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.kernel.cache import built, default_cache
from tests.kernel.errors import HarnessError

RELEASES = ("bookworm", "trixie")
"""Debian 12 and 13."""
PROJECT = Path(__file__).parents[2]
LISTING = "find . -xdev -not -path './var/*' -not -path './tmp/*' -not -path './root/*' | sort"
"""A command for a root: all that a package might leave, but for notes of apt's and caches."""

_SYSTEM = """
systemd-sysv udev dbus libpam-systemd libpam-mount kmod login passwd mount fuse3 python3 procps
linux-image-cloud-amd64 initramfs-tools
""".split()
"""What a system that boots and lets people log in is made of; the kernel is Debian's for virtual machines."""
_OURS = ("../package/roots.py",)
_BOOTSTRAP = ("../../script/bootstrap", "../../requirements/run.txt", "../../requirements/sdists.txt")
_PASSED_ON = re.compile(r"(pip|uv)_|(https?|no)_proxy$", re.IGNORECASE)
_BUNDLES = ("PIP_CERT", "SSL_CERT_FILE")
_SCRIPT = 'mount -t proc proc "$1/proc" && mount --bind /dev/pts "$1/dev/pts" && shift && exec chroot "$@"'


class Root:
    """A root directory. What runs in it sees this machine's kernel and network, and no mounts of ours."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str | Path) -> str:
        """The standard output of a command that runs in it. HarnessError if it fails."""
        inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", _SCRIPT, "sh"]
        return call(*inside, self.path, self.path, *command, env=self._environment())

    def install(self, *packages: str) -> None:
        """Install packages by apt, without what they only recommend."""
        self._apt("install", *packages)

    def satisfy(self, package: Path) -> None:
        """Install what a package depends on."""
        self._apt("satisfy", call("dpkg-deb", "-f", package, "Depends").strip())

    def _apt(self, *words: str) -> None:
        command = ("apt-get", "-q", "-y", "--no-install-recommends", *words)
        try:
            self.run(*command)
        except HarnessError:  # the lists may be absent or old
            self.run("apt-get", "-q", "update")
            self.run(*command)

    def files(self) -> str:
        """All that a package might leave, a name on a line."""
        return call("sh", "-c", LISTING, cwd=self.path)

    def put(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file, with the directories above it."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def _environment(self) -> dict[str, str]:
        """Little of ours: how registries are reached from here, with the certificates that this takes."""
        passed = {name: value for name, value in os.environ.items() if _PASSED_ON.match(name)}
        passed.pop("PIP_FIND_LINKS", None)
        bundle = next((path for name in _BUNDLES if (path := os.environ.get(name))), None)
        if bundle is not None:
            shutil.copy(bundle, self.path / "root/certificates.pem")
            passed |= dict.fromkeys(_BUNDLES, "/root/certificates.pem")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        fixed = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return passed | fixed


def call(*command: str | Path, **more: object) -> str:
    """The standard output of a command. HarnessError if it fails, or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    except FileNotFoundError as error:
        raise HarnessError(f"{error.filename} is missing: run script/bootstrap") from None
    if done.returncode:
        raise HarnessError(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return str(done.stdout)


def bare(release: str, path: Path) -> Root:
    """A new root at ``path`` with nothing in it but apt."""

    def make(root: Root) -> None:
        call("debootstrap", "--variant=minbase", release, root.path)
        root.put("etc/dpkg/dpkg.cfg.d/test", "force-unsafe-io\n")
        if not (root.path / "dev/fuse").exists():
            os.mknod(root.path / "dev/fuse", 0o20666, os.makedev(10, 229))

    return _copy("bare", release, path, make)


def for_building(release: str, path: Path) -> Root:
    """A new root with what script/package needs."""

    def make(root: Root) -> None:
        bare(release, root.path).install("git")
        checkout(root)
        root.run("/project/script/bootstrap", "package")
        shutil.rmtree(root.path / "project")

    return _copy("building", release, path, make, _OURS + _BOOTSTRAP)


def bootable(release: str, path: Path) -> Root:
    """A new root that boots."""

    def make(root: Root) -> None:
        bare(release, root.path).install(*_SYSTEM)

    return _copy("bootable", release, path, make)


def checkout(root: Root) -> None:
    """Put what is committed to /project."""
    call("git", "clone", "--quiet", "--no-hardlinks", PROJECT, root.path / "project")


def build_package(release: str, path: Path) -> Path:
    """The Debian package, built in a new root of this release at ``path`` by script/package."""
    root = for_building(release, path)
    checkout(root)
    return path / root.run("/project/script/package", "/tmp").splitlines()[-1].removeprefix("/")


def _copy(
    kind: str, release: str, path: Path, make: Callable[[Root], None], sources: tuple[str, ...] = _OURS
) -> Root:
    """Made once, and anew when these sources change; then copied."""

    def build(directory: Path) -> None:
        shutil.rmtree(directory / "root", ignore_errors=True)  # of a run that was interrupted
        make(Root(directory / "root"))

    kept = built(default_cache(), f"{kind}-{release}", sources, build)
    call("cp", "-a", "--reflink=auto", kept / "root", path)
    return Root(path)
