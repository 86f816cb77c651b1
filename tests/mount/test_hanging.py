"""A lower file system that hangs for one object: who waits for it, who does not, and who can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.callers import Caller
from tests.mount.hangfs import KEPT
from tests.mount.support import PATIENCE, Mount, is_mounted, mounted, run

PLAIN = ("-o", "ecryptfs_enable_filename_crypto=n")
CONTENTS = b"contents" * 1000


def _hangs(lower: Path) -> Path:
    return lower.with_name("hangs")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A mount over it, with a few objects that are not in memory."""
    lower = tmp_path / "lower"
    lower.mkdir()
    _hangs(lower).touch()
    command: list[str | Path] = [sys.executable, "-m", "tests.mount.hangfs", lower, _hangs(lower)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        while not os.path.ismount(lower):
            assert process.poll() is None
            time.sleep(0.01)
        with mounted(lower, *PLAIN) as made:
            for name in ("here/waits", "here/other", "there/inner"):
                (made.path / name).parent.mkdir(exist_ok=True)
                (made.path / name).write_bytes(CONTENTS)
            yield made
    finally:
        subprocess.run(["umount", lower], check=True)
        assert process.wait(PATIENCE) == 0


@contextmanager
def hanging(mount: Mount, call: str) -> Iterator[None]:
    """Some call of the lower file system does not come back; nothing of it is known any more."""
    time.sleep(KEPT + 1)  # the kernel forgets names above after a second
    _hangs(mount.lower).write_text(call)
    try:
        yield
    finally:
        _hangs(mount.lower).write_text("")


CALLS = {
    "stat": ("lookup waits", f"assert os.stat('waits').st_size == {len(CONTENTS)}"),
    "a header": ("read waits", f"assert os.stat('waits').st_size == {len(CONTENTS)}"),
    "open": ("lookup waits", f"assert len(open('waits', 'rb').read()) == {len(CONTENTS)}"),
    "unlink": ("lookup waits", "os.unlink('waits')"),
    "rename": ("lookup waits", "os.rename('waits', 'moved')"),
    "list": ("read waits", "assert sorted(os.listdir()) == ['other', 'waits']"),
    "chmod": ("lookup waits", "os.chmod('waits', 0o600)"),
    "make": ("lookup absent", "os.mkdir('absent')"),
}


def others_go_on(mount: Mount) -> None:
    """In another directory: the kernel itself locks the one in which somebody changes a name."""
    there = mount.path / "there"
    assert (there / "inner").read_bytes() == CONTENTS
    (there / "new").write_bytes(CONTENTS)
    assert sorted(os.listdir(there)) == ["inner", "new"]
    os.rename(there / "new", there / "newer")
    os.unlink(there / "newer")


@pytest.mark.parametrize("what", CALLS)
def test_nobody_else_waits(mount: Mount, what: str) -> None:
    hangs, call = CALLS[what]
    with Caller(mount.path / "here", "", call) as caller:
        with hanging(mount, hangs):
            caller.call()
            assert caller.waits
            others_go_on(mount)
            assert caller.waits
        assert caller.returns()


@pytest.mark.parametrize("what", ["stat", "a header", "list", "make"])
def test_who_waits_can_be_killed(mount: Mount, what: str) -> None:
    hangs, call = CALLS[what]
    with hanging(mount, hangs):
        with Caller(mount.path / "here", "", call) as caller:
            caller.call()
            assert caller.waits
            assert caller.can_be_killed()
        others_go_on(mount)
    assert (mount.path / "here/waits").read_bytes() == CONTENTS
    assert set(os.listdir(mount.path / "here")) - {"absent"} == {"other", "waits"}


def test_a_signal_that_is_handled_ends_no_call(mount: Mount) -> None:
    """Programs do not expect EINTR of stat(); only who is being killed gets an answer early."""
    prepared = "import signal; signal.signal(signal.SIGALRM, lambda *_: None)"
    call = "signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1); " + CALLS["stat"][1]
    with Caller(mount.path / "here", prepared, call) as caller:
        with hanging(mount, "lookup waits"):
            caller.call()
            assert caller.waits
        assert caller.returns()


def test_a_mount_ends_while_somebody_waits(mount: Mount) -> None:
    """The daemon's last thread goes when the lower file system answers: until then no signal reaches it."""
    with Caller(mount.path / "here", "", CALLS["stat"][1]) as caller, hanging(mount, "lookup waits"):
        caller.call()
        assert caller.waits
        assert caller.can_be_killed()
        run("umount", mount.path)
        assert not is_mounted(mount.path)
    mount.wait()
