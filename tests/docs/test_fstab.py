"""The lines of /etc/fstab in README.md, by mount(8): root's, and a user's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import golden
from tests.cli.key.terminal import talk
from tests.docs.reader import the_block
from tests.mount.support import run
from tests.mount.system import System, system
from tests.mount.users import User, program_for_others

ROOTS, MINE = the_block("../README.md", "fstab").splitlines()
ME = User(65534, 65534)


@pytest.fixture
def place(open_tmp_path: Path) -> Iterator[System]:
    """A namespace; what the lines have at the root is below its directory."""
    python = program_for_others(open_tmp_path).with_name("python")
    with system(open_tmp_path, [python], ["mount.fuse.fusecrypt"]) as made:
        yield made
    subprocess.run(["umount", open_tmp_path / "checkout"], check=True)


def put(place: System, line: str) -> tuple[Path, Path]:
    """Write a line, and make the places it names; its lower directory and its mount point."""
    line = re.sub(r"(?<=[ =])/|^/", f"{place.directory}/", line)
    (place.directory / "etc/fstab").write_text(f"{line}\n")
    lower, mountpoint = map(Path, line.split()[:2])
    golden.tree("aes32").unpack(lower)
    mountpoint.mkdir(parents=True)
    return lower, mountpoint


def test_roots(place: System) -> None:
    lower, mountpoint = put(place, ROOTS)
    (place.directory / "pass").write_text("cipher aes\n")
    slots = place.directory / "etc/me.keyslots"
    run("key", "create", lower, "--keyslots", slots, "--passfile", place.directory / "pass")
    words = ["nsenter", "-m", "-t", str(place.pid), "mount", str(mountpoint)]
    answers = [("passphrase or recovery key: ", "cipher aes")]
    status, said = talk(words, answers, cwd=place.directory, env=dict(os.environ))
    assert status == 0, said
    assert place.run("cat", mountpoint / "hello.txt").stdout.startswith("hello")


def test_a_users(place: System) -> None:
    _, mountpoint = put(place, MINE)
    stick = place.directory / "media/stick"
    stick.mkdir(parents=True)
    (stick / "pass").write_text("cipher aes\n")
    subprocess.run(["chown", "-hR", f"{ME.uid}:{ME.gid}", place.directory / "home"], check=True)
    place.run("mount", "-a")
    assert place.mounts() == ""
    place.run("mount", mountpoint, ids=ME.ids)
    assert place.run("cat", mountpoint / "hello.txt", ids=ME.ids).stdout.startswith("hello")
    place.run("umount", mountpoint, ids=ME.ids)
    assert place.mounts() == ""
