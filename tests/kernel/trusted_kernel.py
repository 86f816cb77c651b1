"""A kernel with trusted keys, which Debian's own lacks: Debian's source of the same series, with few options.

It is small, takes no modules and boots from the same initramfs. The build takes some ten minutes on two
cores and 2 GB of disk meanwhile, once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.kernel import packages
from tests.kernel.cache import built
from tests.kernel.errors import HarnessError

OPTIONS = Path(__file__).with_name("trusted.config")
_SOURCES = ("trusted_kernel.py", OPTIONS.name)
_PROGRAMS = ("bc", "bison", "flex", "gcc", "make", "xz")


def trusted_kernel(cache: Path) -> Path:
    """The kernel's image: built, or found in the cache."""
    return built(cache, "trusted", _SOURCES, _build) / "bzImage"


def _build(directory: Path) -> None:
    missing = [program for program in _PROGRAMS if not shutil.which(program)]
    if missing:
        raise HarnessError(f"a kernel is to be built, without {', '.join(missing)}: run script/bootstrap")
    work = directory / "work"
    shutil.rmtree(work, ignore_errors=True)  # of a build that was interrupted
    source = _source(work)
    _make(source, "tinyconfig")
    with (source / ".config").open("a") as config:
        config.write(OPTIONS.read_text())
    _make(source, "olddefconfig")
    _check_options((source / ".config").read_text())
    _make(source, f"-j{os.cpu_count() or 1}", "bzImage")
    shutil.copy(source / "arch/x86/boot/bzImage", directory)
    shutil.rmtree(work)


def _source(work: Path) -> Path:
    """Debian's source of the series that its kernel package is of."""
    series = re.match(r"linux-image-(\d+\.\d+)", packages.kernel_package())
    assert series
    name = f"linux-source-{series[1]}"
    package = packages.download(name, work)
    subprocess.run(["dpkg-deb", "-x", package, work], check=True)
    subprocess.run(["tar", "-C", work, "-xf", work / f"usr/src/{name}.tar.xz"], check=True)
    return work / name


def _make(source: Path, *goals: str) -> None:
    command = ["nice", "make", "-s", "-C", str(source), *goals]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise HarnessError(f"make {goals[-1]} failed:\n{last}")


def _check_options(config: str) -> None:
    """An option whose name or conditions another series has changed is dropped without a word."""
    wanted = {line for line in OPTIONS.read_text().splitlines() if line.startswith("CONFIG_")}
    dropped = sorted(wanted - set(config.splitlines()))
    if dropped:
        raise HarnessError(f"this kernel does not take {', '.join(dropped)}: see {OPTIONS.name}")
