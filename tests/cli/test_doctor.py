"""`fusecrypt doctor` on systems that lack something: what is missing is taken away in a mount namespace."""

from __future__ import annotations

import json
import resource
import subprocess
from typing import Any

import pytest

from tests.mount.support import PROGRAM, run


def examine(
    before: str = "true", *, status: int = 0, limits: Any = None, wrap: tuple[str, ...] = ()
) -> dict[str, dict[str, str]]:
    """The results by subject, after a shell command in a mount namespace of its own."""
    script = f'umount -a -l -t fuse.fusecrypt; {before} && exec "$@"'
    begin = ("unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh")
    command = [*begin, *wrap, str(PROGRAM), "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limits)
    assert done.returncode == status, done.stdout + done.stderr
    return {result["subject"]: result for result in map(json.loads, done.stdout.splitlines())}


def test_a_system_that_has_all_for_mounting() -> None:
    results = examine()
    for subject in ("libraries", "FUSE device", "fusermount3", "mount table", "descriptors"):
        assert (results[subject]["level"], results[subject]["fix"]) == ("good", "")
    text = run("doctor").stdout
    for subject, result in results.items():
        assert f"{result['level']:<5} {subject}: " in text
        assert bool(result["fix"]) == (result["level"] != "good")


@pytest.mark.parametrize(
    ("before", "subject", "level", "fix"),
    [
        ("mount -t tmpfs none /dev", "FUSE device", "bad", "`modprobe fuse`"),
        ("mount -t tmpfs none /etc", "mount table", "note", "ln -s ../proc/self/mounts /etc/mtab"),
        ("mount -t tmpfs none /etc", "allow_other", "note", "user_allow_other"),
        ("mount -t tmpfs none /etc && echo user_allow_other > /etc/fuse.conf", "allow_other", "good", ""),
        ("mount -t tmpfs none /usr/sbin", "fstab", "note", "/sbin/"),
        (
            "mount -t tmpfs none /usr/sbin && echo > /sbin/mount.fuse.fusecrypt && chmod 755 /sbin/mount.*",
            "fstab",
            "good",
            "",
        ),
        ("export PATH=/nowhere", "fusermount3", "note", "install the package fuse3"),
    ],
)
def test_what_is_missing(before: str, subject: str, level: str, fix: str) -> None:
    result = examine(before, status=5 if level == "bad" else 0)[subject]
    assert result["level"] == level
    assert fix in result["fix"]


def test_limits() -> None:
    def tighten() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    results = examine(limits=tighten, wrap=("setpriv", "--bounding-set", "-ipc_lock"))
    assert "only 256 files" in results["descriptors"]["text"]
    assert "limit 0 octets" in results["locked memory"]["text"]
