"""mount(8) with our helper and an fstab of our own, in a mount namespace where both can be put in place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mount.support import PATIENCE

_BEGIN = """
umount -a -l -t fuse.fusecrypt
mount -t overlay -o "lowerdir=$1/sbin:/usr/sbin" overlay /usr/sbin &&
mount -t overlay -o "lowerdir=$1/etc:/etc" overlay /etc &&
echo ready && exec cat
"""


@dataclass(frozen=True)
class System:
    """A mount namespace. ``directory`` holds its fstab; mounts made here are seen here alone."""

    directory: Path
    pid: int

    def run(
        self, *command: str | Path, status: int = 0, ids: dict[str, Any] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there and check its exit status."""
        words: list[str | Path] = ["nsenter", "-m", "-t", str(self.pid)]
        if ids:
            words += ["setpriv", f"--reuid={ids['user']}", f"--regid={ids['group']}", "--clear-groups"]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": "/", **more}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [*words, *command], capture_output=True, text=True, timeout=PATIENCE, check=False, **options
        )
        assert done.returncode == status, f"status {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def fstab(self, *lines: str) -> None:
        """Write /etc/fstab."""
        (self.directory / "etc/fstab").write_text("".join(f"{line} 0 0\n" for line in lines))

    def mounts(self) -> str:
        """All mounts of our type, as findmnt lists them: source, target, options."""
        words = ("findmnt", "-rn", "-t", "fuse.fusecrypt", "-o", "SOURCE,TARGET,OPTIONS")
        done = subprocess.run(
            ["nsenter", "-m", "-t", str(self.pid), *words], capture_output=True, text=True, check=False
        )
        return done.stdout


@contextmanager
def system(directory: Path, python: Sequence[str | Path], names: Sequence[str]) -> Iterator[System]:
    """A namespace in which mount(8) finds the helper under the names given, run by an interpreter."""
    for name in ("etc", "sbin"):
        (directory / name).mkdir()
    (directory / "etc/fstab").touch()
    (directory / "etc/fuse.conf").write_text("user_allow_other\n")
    for name in names:
        helper = directory / "sbin" / name
        words = " ".join(map(str, python))
        helper.write_text(f"#!{words}\nfrom fusecrypt.cli.mount_helper import main\nmain()\n")
        helper.chmod(0o755)
    os.chmod(directory, 0o755)
    command: list[str | Path] = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        _BEGIN,
        "sh",
        directory,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        here = System(directory, process.pid)
        try:
            yield here
        finally:
            for line in here.mounts().splitlines():
                here.run("umount", "-l", line.split()[1])
