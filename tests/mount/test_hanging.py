"""A lower file system that hangs for one object: who waits for it, who does not, and who can be killed.

In mounts that the express lane answers, and in those whose answers all are Python's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fusecrypt.keys.token import FNEK_SALT
from tests.mount.callers import Caller, all_wait
from tests.mount.hangfs import KEPT
from tests.mount.support import PASSPHRASE, PATIENCE, Mount, is_mounted, mounted, run
from tests.tree.support import token

PLAIN = ("-o", "ecryptfs_enable_filename_crypto=n")
CONTENTS = b"contents" * 1000


def _hangs(lower: Path) -> Path:
    return lower.with_name("hangs")


@pytest.fixture
def lower(tmp_path: Path) -> Iterator[Path]:
    """Such a file system, empty; ``_hangs`` of it says what hangs."""
    path = tmp_path / "lower"
    path.mkdir()
    _hangs(path).touch()
    command: list[str | Path] = [sys.executable, "-m", "tests.mount.hangfs", path, _hangs(path)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        while not os.path.ismount(path):
            assert process.poll() is None
            time.sleep(0.01)
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
        assert process.wait(PATIENCE) == 0


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(CONTENTS)


@pytest.fixture
def mount(lower: Path) -> Iterator[Mount]:
    """A mount over it, with a few objects that are not in memory."""
    with mounted(lower, *PLAIN) as made:
        fill(made.path, "here/waits", "here/other", "there/inner")
        yield made


@contextmanager
def hanging(mount: Mount, *calls: str) -> Iterator[None]:
    """Some calls of the lower file system do not come back; nothing of it is known any more."""
    time.sleep(KEPT + 1)  # the kernel forgets names above after a second
    _hangs(mount.lower).write_text("\n".join(calls))
    try:
        yield
    finally:
        _hangs(mount.lower).write_text("")


LISTED = "assert sorted(os.listdir()) == ['other', 'waits']"
CALLS = {
    "stat": ("lookup waits", f"assert os.stat('waits').st_size == {len(CONTENTS)}"),
    "a header": ("read waits", f"assert os.stat('waits').st_size == {len(CONTENTS)}"),
    "open": ("lookup waits", f"assert len(open('waits', 'rb').read()) == {len(CONTENTS)}"),
    "unlink": ("lookup waits", "os.unlink('waits')"),
    "rename": ("lookup waits", "os.rename('waits', 'moved')"),
    "list": ("read waits", LISTED),
    "list names": ("list here", LISTED),
    "chmod": ("lookup waits", "os.chmod('waits', 0o600)"),
    "make": ("lookup absent", "os.mkdir('absent')"),
}


def others_read_on(mount: Mount, contents: bytes = CONTENTS) -> None:
    there = mount.path / "there"
    assert (there / "inner").read_bytes() == contents
    assert os.listdir(there) == ["inner"]


def others_go_on(mount: Mount, contents: bytes = CONTENTS) -> None:
    """In another directory: the kernel itself locks the one in which somebody changes a name."""
    others_read_on(mount, contents)
    there = mount.path / "there"
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


# Mounts whose answers are all Python's

READS = {
    "stat": "assert os.stat('waits').st_size == len(expected)",
    "open": "assert open('waits', 'rb').read() == expected",
    "list": "assert os.listdir() == ['waits']",
}
CHANGES = {
    "unlink": "os.unlink('waits')",
    "rename": "os.rename('waits', 'moved')",
    "chmod": "os.chmod('waits', 0o600)",
    "cut": "os.truncate('waits', 0)",
    "make": "os.mkdir('waits too')",
    "write": "open('waits too', 'x')",
}
OTHER = b"another passphrase"
KINDS: dict[str, dict[str, str]] = {
    "passthrough": READS | CHANGES,
    "encrypted view": READS,
    "two keys": READS,
}


@contextmanager
def mount_of(kind: str, lower: Path) -> Iterator[Mount]:
    """A directory for each call, with a file in it."""
    files = [f"{call}/waits" for call in KINDS[kind]] + ["there/inner"]
    keys, options = [PASSPHRASE], PLAIN
    if kind == "two keys":  # half of the names are under each
        with mounted(lower) as made:
            fill(made.path, *files[::2])
        keys.append(OTHER)
        options = (
            "-o",
            f"ecryptfs_sig={token(PASSPHRASE).sig},ecryptfs_fnek_sig={token(OTHER, FNEK_SALT).sig}",
        )
        files = files[1::2]
    with mounted(lower, *options, passphrases=keys) as made:
        fill(made.path, *files)
    if kind == "passthrough":
        (lower / "open/waits").unlink()
        (lower / "open/waits").write_bytes(CONTENTS)  # without a header
    of_kind = "ro" if kind == "two keys" else f"ecryptfs_{kind.replace(' ', '_')}"
    with mounted(lower, "-o", of_kind, passphrases=keys) as mount:
        yield mount


def _below(mount: Mount, *path: str) -> str:
    """The lower name of an object, which has the number that it has above."""
    lower, upper = mount.lower, mount.path
    for name in path:
        upper /= name
        lower = next(each for each in lower.iterdir() if each.stat().st_ino == upper.stat().st_ino)
    return lower.name


def _hanging_calls(mount: Mount, calls: Iterable[str]) -> list[str]:
    names = {_below(mount, call, "waits") for call in calls}
    return [f"list {_below(mount, 'list')}", "lookup waits too", *(f"lookup {name}" for name in names)]


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_else_waits_in_other_mounts(lower: Path, kind: str) -> None:
    """All calls hang at the same time, each in a directory of its own. Every second one is killed."""
    calls = KINDS[kind]
    with mount_of(kind, lower) as mount, ExitStack() as stack:
        contents = (mount.path / "there/inner").read_bytes()
        hanging_calls = _hanging_calls(mount, calls)
        prepared = "expected = open('waits', 'rb').read()"
        callers = [stack.enter_context(Caller(mount.path / name, prepared, calls[name])) for name in calls]
        with hanging(mount, *hanging_calls):
            for caller in callers:
                caller.call()
            assert all_wait(callers)
            (others_go_on if kind == "passthrough" else others_read_on)(mount, contents)
            assert all_wait(callers)
            assert all(caller.can_be_killed() for caller in callers[1::2])
        assert all(caller.returns() for caller in callers[::2])
        for name in list(calls)[1::2]:
            assert (mount.path / name / "waits").stat().st_size == len(contents)
