"""What may use a lower tree at the same time, on real mounts."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import golden
from tests.mount.support import PASSPHRASE, mounted, run, wait_for_end
from tests.mount.users import PYTHON, User

NOBODY = User(65534, 65534)


def refused(lower: Path, point: Path, passfile: Path, *options: str) -> str:
    """What a mount that must be refused says."""
    point.mkdir(exist_ok=True)
    passfile.write_bytes(PASSPHRASE + b"\n")
    done = run("mount", "--passfile", passfile, *options, lower, point, status=1)
    assert not os.path.ismount(point)
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(("first", "second"), [("", ""), ("--shared", ""), ("", "--shared")])
def test_a_second_mount_is_refused(tmp_path: Path, first: str, second: str) -> None:
    with mounted(tmp_path / "lower", *filter(None, [first])) as mount:
        (mount.path / "file").write_bytes(b"mine")
        said = refused(mount.lower, tmp_path / "b", tmp_path / "pass", *filter(None, [second]))
        message, hint = said.splitlines()
        assert f"process {mount.pid} " in message
        assert str(mount.path) in message
        assert "--shared" in hint
        assert (mount.path / "file").read_bytes() == b"mine"
    with mounted(tmp_path / "lower") as mount:
        assert (mount.path / "file").read_bytes() == b"mine"


def test_the_refusal_asks_for_no_secret(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with mounted(tmp_path / "lower") as mount:
        said = run("mount", "--passfile", "/nonexistent", mount.lower, tmp_path / "b", status=1).stderr
    assert "in use for writing" in said


def test_the_daemon_itself_refuses(tmp_path: Path) -> None:
    """One that was not there yet when the command looked."""
    lower = tmp_path / "lower"
    (tmp_path / "b").mkdir()
    asked = tmp_path / "asked"
    wait = f"sh -c 'touch {asked}; while [ -e {asked} ]; do sleep 0.05; done; echo {PASSPHRASE.decode()}'"
    lower.mkdir()
    failures: list[str] = []

    def late() -> None:
        done = run("mount", "--extpass", wait, lower, tmp_path / "b", status=1)
        failures.append(done.stderr)

    thread = threading.Thread(target=late)
    thread.start()
    while not asked.exists():
        assert thread.is_alive(), failures
        time.sleep(0.01)
    with mounted(lower):
        asked.unlink()
        thread.join()
    assert "in use for writing" in failures[0]


def test_the_lock_goes_with_a_killed_daemon(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    first = _background(lower, tmp_path / "a", tmp_path / "pass")
    os.kill(first, 9)
    wait_for_end(first)
    run("umount", tmp_path / "a")
    with mounted(lower) as mount:
        (mount.path / "file").touch()


def test_mounting_again_right_after_umount(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    for _ in range(5):
        _background(lower, tmp_path / "a", tmp_path / "pass")
        run("umount", tmp_path / "a")


def _background(lower: Path, point: Path, passfile: Path) -> int:
    """Mount without --foreground; returns the daemon's process id, as the lock names it."""
    for place in (lower, point):
        place.mkdir(exist_ok=True)
    passfile.write_bytes(PASSPHRASE + b"\n")
    run("mount", "--passfile", passfile, lower, point)
    inode = f":{lower.stat().st_ino}"
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return next(int(fields[4]) for fields in locks if fields[5].endswith(inode))


@contextmanager
def stranger(lower: Path) -> Iterator[str]:
    """Somebody who may only read the tree has locked it; gives what is said about that."""
    program = f"import fcntl, os, sys; fd = os.open({str(lower)!r}, 0); fcntl.flock(fd, 2); "
    program += "print('locked', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [PYTHON, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **NOBODY.ids
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"locked\n"
        yield f"locked by process {process.pid}, which may not write there"
        assert process.stdin
        process.stdin.close()


def test_somebody_who_may_only_read_the_tree_keeps_nobody_off(open_tmp_path: Path) -> None:
    """Nor does a mount that was made meanwhile go without a lock that others heed, once they have left."""
    lower, second, passfile = open_tmp_path / "lower", open_tmp_path / "second", open_tmp_path / "pass"
    lower.mkdir(0o755)
    with ExitStack() as stack:
        with stranger(lower) as locked:
            mount = stack.enter_context(mounted(lower, log_allows=[locked]))
            (mount.path / "file").write_bytes(b"mine")
            assert f"was {locked} and was not heeded" in mount.messages
            is_mounted = f"{lower} is mounted on {mount.path}"
            for words in ((), ("--shared",)):
                assert is_mounted in refused(lower, second, passfile, *words)
            with mounted(lower, "-o", "ro", path=second, log_allows=[locked]) as reader:
                assert (reader.path / "file").exists()
        for words in ((), ("--shared",)):
            assert is_mounted in refused(lower, second, passfile, *words)
    with mounted(lower) as mount:
        assert (mount.path / "file").read_bytes() == b"mine"


def test_mounts_that_are_shared_bear_each_other_beside_a_stranger(open_tmp_path: Path) -> None:
    lower, second, third = (open_tmp_path / name for name in ("lower", "second", "third"))
    lower.mkdir(0o755)
    with ExitStack() as stack:
        with stranger(lower) as locked:
            for path in (None, second):
                stack.enter_context(mounted(lower, "--shared", path=path, log_allows=[locked]))
        stack.enter_context(mounted(lower, "--shared", path=third))
        (third / "file").write_bytes(b"ours")
        assert (second / "file").read_bytes() == b"ours"


def test_nothing_is_rebuilt_without_the_lock(open_tmp_path: Path) -> None:
    lower, passfile = golden.tree("aes32").unpack(open_tmp_path / "lower"), open_tmp_path / "pass"
    lower.chmod(0o755)
    passfile.write_text("cipher aes\n")
    (open_tmp_path / "source").mkdir()
    keys = ("--passfile", passfile)
    with stranger(lower) as locked:
        for command in (
            ("rekey", *keys, "--new-passfile", passfile, lower),
            ("check", "--repair", open_tmp_path / "undo", *keys, lower),
            ("import", *keys, open_tmp_path / "source", lower),
        ):
            assert locked in run(*command, status=1).stderr


def test_trees_in_one_another(tmp_path: Path) -> None:
    outer = tmp_path / "lower"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    for one, other in ((outer, inner), (inner, outer)):
        with mounted(one, path=tmp_path / "up"):
            for words in ((), ("--shared",)):
                said = refused(other, tmp_path / "b", tmp_path / "pass", *words)
                assert f"{other} and {one}, which is mounted on {tmp_path / 'up'}, lie in one another" in said
            with mounted(other, "-o", "ro", "-o", "ecryptfs_passthrough", path=tmp_path / "b"):
                pass
            (tmp_path / "source").mkdir(exist_ok=True)
            key = ("--passfile", tmp_path / "pass")
            assert "lie in one another" in run("import", *key, tmp_path / "source", other, status=1).stderr
    with mounted(outer, "-o", "ro,ecryptfs_passthrough", path=tmp_path / "up"):
        rekey = ("rekey", "--passfile", tmp_path / "pass", "--new-passfile", tmp_path / "pass", inner)
        assert "lie in one another" in run(*rekey, status=1).stderr


def test_a_tree_in_what_a_mount_shows(tmp_path: Path) -> None:
    """Also where the mount covers its lower directory."""
    with mounted(tmp_path / "lower", path=tmp_path / "lower") as mount:
        (mount.path / "tree").mkdir()
        with mounted(mount.path / "tree", path=tmp_path / "up") as inner:
            (inner.path / "file").write_bytes(b"twice")
        assert not (mount.path / "tree" / "file").exists()


def test_no_mount_begins_while_a_tree_is_rekeyed(tmp_path: Path) -> None:
    lower = golden.tree("aes32").unpack(tmp_path / "lower")
    for name, text in (("pass", "cipher aes"), ("new", "another")):
        (tmp_path / name).write_text(text)
    asked = tmp_path / "asked"
    wait = f"sh -c 'touch {asked}; while [ -e {asked} ]; do sleep 0.05; done; echo cipher aes'"
    words = ["rekey", "--extpass", wait, "--new-passfile", str(tmp_path / "new"), str(lower)]
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(run(*words).stderr))
    thread.start()
    while not asked.exists():
        assert thread.is_alive()
        time.sleep(0.01)
    (tmp_path / "up").mkdir()
    for options in ((), ("-o", "ro"), ("--shared",)):
        mount = ("mount", "--passfile", tmp_path / "pass", *options, lower, tmp_path / "up")
        said = run(*mount, status=1).stderr
        assert f"{lower} is in use for writing already by process" in said
        assert "(fusecrypt rekey)\n" in said
        assert "mounted" not in said
        assert "hint: wait until it has ended" in said
    asked.unlink()
    thread.join()
    assert "names changed" in done[0]
