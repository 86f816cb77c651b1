"""A real source tree (Python's own library): unpacked, listed, added up, read whole, removed."""

from __future__ import annotations

import os
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import Row, Sample, Scale, run, seconds_of


def trees(mount: Mount, scale: Scale) -> Iterator[Sample]:
    archive = mount.path / "tree.tar"  # read back from the page cache of the kernel, in few requests
    pack(archive, scale.tree_octets)
    (mount.path / "tree").mkdir()

    def timed(what: str, *command: str) -> Sample:
        return Row("source tree", what, "s"), seconds_of(lambda: run(command, mount.path))

    yield timed("tar x", "tar", "--no-same-owner", "-xf", "tree.tar", "-C", "tree")
    mount.remount()
    yield timed("ls -lR, cold", "ls", "-lR", "tree")
    yield timed("sha256sum of all", "find", "tree", "-type", "f", "-exec", "sha256sum", "{}", "+")
    mount.remount()
    yield timed("du, cold", "du", "-s", "tree")
    yield timed("rm -r", "rm", "-r", "tree")


def pack(archive: Path, limit: int) -> None:
    """About ``limit`` octets of the library's sources, in an order that is always the same."""
    library = Path(sysconfig.get_path("stdlib"))
    total = 0
    with tarfile.open(archive, "w") as tar:
        for name, directories, files in os.walk(library):
            directories[:] = sorted(set(directories) - {"__pycache__", "site-packages", "dist-packages"})
            for file in sorted(files):
                path = Path(name, file)
                if total > limit or path.is_symlink():
                    continue
                tar.add(path, str(path.relative_to(library)))
                total += path.stat().st_size
