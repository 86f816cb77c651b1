"""Real mounts for tests: started by the installed command, looked after until they are gone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusecrypt.mount.mounts import mount_table
from tests import manifest, watch

PROGRAM = Path(sys.executable).with_name("fusecrypt")
PASSPHRASE = b"correct horse"
PATIENCE = 20.0
"""Seconds that a mount may take to answer, and a daemon to end: far more than either needs."""


@dataclass
class Mount:
    """A live mount. ``path`` is its mount point, ``pid`` its daemon."""

    lower: Path
    path: Path
    process: subprocess.Popen[bytes]
    log: Path
    program: Path = PROGRAM
    expected_log: str = ""
    ids: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def messages(self) -> str:
        """What the daemon has logged so far."""
        return self.log.read_text(errors="replace")

    def unmount(self) -> None:
        """``fusecrypt umount``, and wait until the daemon has ended well."""
        run("umount", self.path, program=self.program, ids=self.ids)
        self.wait()

    def wait(self, status: int = 0) -> None:
        """Wait for the daemon's end."""
        assert self.process.wait(PATIENCE) == status, self.messages
        assert not is_mounted(self.path)


def run(
    *arguments: str | Path,
    program: Path = PROGRAM,
    ids: dict[str, Any] | None = None,
    status: int = 0,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run fusecrypt to its end and check its exit status."""
    command: list[str | Path] = [program, *arguments]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, **(ids or {}), **more}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )
    assert done.returncode == status, f"status {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@contextmanager
def mounted(
    lower: Path,
    *options: str,
    passphrases: Sequence[bytes] = (PASSPHRASE,),
    path: Path | None = None,
    program: Path = PROGRAM,
    ids: dict[str, Any] | None = None,
    log_allows: Sequence[str] = (),
) -> Iterator[Mount]:
    """Mount ``lower`` (made if absent) in the foreground, beside it unless ``path`` says where.

    ``options`` are words for ``fusecrypt mount``; ``ids`` are subprocess's user, group and extra_groups.
    At the end the mount is taken down, its daemon must have ended with status 0, and its log must hold
    nothing but lines that contain one of ``log_allows``.
    """
    lower.mkdir(exist_ok=True)
    path = path or lower.with_name(lower.name + ".mnt")
    path.mkdir(exist_ok=True)
    if ids:
        os.chown(path, int(str(ids["user"])), int(str(ids["group"])))
    with tempfile.TemporaryDirectory(prefix="fusecrypt-test-") as name:
        os.chmod(name, 0o755)
        files = _passfiles(Path(name), passphrases)
        log = Path(name, "log")
        already = mounts_on(path)
        with log.open("wb") as stderr:
            command: list[str | Path] = [program, "mount", "--foreground", *files, *options, lower, path]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, **(ids or {}))
        mount = Mount(lower, path, process, log, program, ids=ids or {})
        try:
            _wait_until_it_answers(mount, already)
            yield mount
            if process.poll() is None and is_mounted(path):
                mount.unmount()
            assert process.wait(PATIENCE) == 0, mount.messages
            assert not _unexpected(mount.messages, log_allows), mount.messages
        finally:
            _clear_away(mount)


def _passfiles(directory: Path, passphrases: Sequence[bytes]) -> list[str]:
    words = []
    for number, passphrase in enumerate(passphrases):
        file = directory / f"pass{number}"
        file.write_bytes(passphrase + b"\n")
        words += ["--passfile", str(file)]
    return words


def _wait_until_it_answers(mount: Mount, already: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while mounts_on(mount.path) == already:
        assert mount.process.poll() is None, f"did not mount: {mount.messages}"
        assert time.monotonic() < deadline, "the mount does not answer"
        time.sleep(0.005)
    if not mount.ids:
        os.statvfs(mount.path)


_NOISE = ("new tree: ", "key memory is not locked")


def _unexpected(messages: str, allowed: Sequence[str]) -> list[str]:
    return [line for line in messages.splitlines() if not any(word in line for word in (*_NOISE, *allowed))]


def _clear_away(mount: Mount) -> None:
    """After a failure."""
    if mount.process.poll() is None:
        mount.process.kill()
        mount.process.wait()
    if is_mounted(mount.path):
        subprocess.run(["umount", "-l", mount.path], check=False)


def is_mounted(path: Path) -> bool:
    """Whether a fusecrypt mount is on exactly this path."""
    return mounts_on(path) > 0


def mounts_on(path: Path) -> int:
    """How many fusecrypt mounts are on exactly this path, one over the other."""
    return sum(mount.path == str(path) and mount.fstype == watch.FS_TYPE for mount in mount_table())


def daemons() -> set[int]:
    """Daemons of this test run."""
    return {pid for pid in watch._processes() if "fusecrypt.mount.daemon" in watch._arguments(pid)}


def wait_for_end(pid: int, seconds: float = PATIENCE) -> None:
    """Wait until a process that is not our child is gone."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and _state(pid) != "Z":
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def outcome(call: Callable[..., object], *arguments: object, **named: object) -> str:
    """The name of the errno that a call fails with, or "done"."""
    try:
        call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def fails(code: int, call: Callable[..., object], *arguments: object, **named: object) -> None:
    """The call must fail with this errno."""
    assert outcome(call, *arguments, **named) == errno.errorcode[code]


def lower_state(lower: Path) -> list[manifest.Entry]:
    """All that writing to a lower tree would change, to the octet and the nanosecond."""
    entries = manifest.manifest(lower)
    for entry in entries:
        path = os.path.join(os.fsencode(lower), os.fsencode(entry["path"]))
        st = os.lstat(path)
        entry.update(ino=st.st_ino, ctime_ns=st.st_ctime_ns, blocks=st.st_blocks)
    return entries
