"""`fusecrypt status`: what mounts tell, and those that cannot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fusecrypt.cli.status import status as status_command
from fusecrypt.mount.mounts import FSTYPE, MountPoint
from tests import golden
from tests.mount.support import PATIENCE, PROGRAM, Mount, mounted, run

TREE = golden.tree("aes32")


def status(mount: Mount, code: int = 0) -> dict[str, Any]:
    report = json.loads(run("status", "--json", mount.path, status=code).stdout)
    assert report["mountpoint"] == str(mount.path)
    assert report["lower"] == str(mount.lower)
    return dict(report)


def test_what_a_mount_tells(tmp_path: Path) -> None:
    lower = TREE.unpack(tmp_path / "lower")
    with mounted(lower, "-o", "ro", passphrases=TREE.passphrases) as mount:
        before = status(mount)
        for _ in range(100):
            assert (mount.path / "hello.txt").read_text().startswith("hello")
        with (mount.path / "hello.txt").open():
            report = status(mount)
        assert report["requests"] >= before["requests"] + 100
        assert 100 <= report["requests_by_lane"] < report["requests"]
        assert (report["pid"], report["owner"], report["key_source"]) == (mount.pid, 0, "passphrase")
        assert (report["cipher"], report["key_bytes"], report["fn_cipher"]) == ("aes", 32, "aes")
        assert (report["read_only"], report["problems"]) == (True, [])
        assert report["inodes"] == before["inodes"] + 1 == 2  # the root and one file
        text = run("status", mount.path).stdout
        assert text.startswith(f"{mount.path}\n  lower     {lower}\n")
        assert "key       passphrase (9e91b2100d622d7a)" in text
        assert "cipher    aes-256, names aes-256" in text
        assert text.endswith("  health    good\n")
        everything = subprocess.run([PROGRAM, "status"], capture_output=True, text=True, check=False)
        assert str(mount.path) in everything.stdout  # beside whatever else is mounted


def test_it_does_not_keep_an_idle_mount(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower", "--idle", "2s") as mount:
        deadline = time.monotonic() + PATIENCE
        while mount.process.poll() is None:
            assert time.monotonic() < deadline
            subprocess.run([PROGRAM, "status", mount.path], capture_output=True, check=False)


def test_a_damaged_file_shows(tmp_path: Path) -> None:
    lower = TREE.unpack(tmp_path / "lower")
    with mounted(lower, passphrases=TREE.passphrases, log_allows=["cannot be read"]) as mount:
        for path in lower.iterdir():
            if path.is_file():
                os.truncate(path, 8192 + 100)
        (mount.path / "hello.txt").open().close()
        with contextlib.suppress(OSError):
            (mount.path / "hello.txt").read_text()
        report = status(mount, 1)
        assert report["failures"]["EIO"] >= 1
        assert "EIO: failed reads or writes" in report["problems"][0]
        assert "EIO: failed reads" in run("status", mount.path, status=1).stdout


def test_a_daemon_that_hangs_and_one_that_is_dead(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        mount.process.send_signal(signal.SIGSTOP)
        assert "does not answer" in run("status", mount.path, status=1).stdout
        mount.process.send_signal(signal.SIGCONT)
        assert status(mount)["problems"] == []
        mount.process.kill()
        mount.process.wait()
        assert "its daemon has ended (unmount it" in run("status", mount.path, status=1).stdout
        run("umount", mount.path)
        mount.process.returncode = 0


def test_others_are_not_answered(open_tmp_path: Path) -> None:
    with mounted(open_tmp_path / "lower") as mount:
        device = os.stat(mount.path).st_dev
        name = f"\0fusecrypt/{os.major(device)}:{os.minor(device)}"
        assert _answer_as(65534, name) == b""
        assert b'"key_source"' in _answer_as(0, name)


def _answer_as(user: int, name: str) -> bytes:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setuid(user)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(name)
            while data := connection.recv(4096):
                os.write(writer, data)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer


def test_others_are_not_believed(tmp_path: Path) -> None:
    """Who took the socket's name after the daemon's death, for one."""
    with mounted(tmp_path / "lower") as mount:
        device = os.stat(mount.path).st_dev
        name = f"\0fusecrypt/{os.major(device)}:{os.minor(device)}"
        mount.process.kill()
        mount.process.wait()
        if (child := os.fork()) == 0:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(name)
                listener.listen()
                signal.pause()
        try:
            while "of another user" not in run("status", mount.path, status=1).stdout:
                pass
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        run("umount", mount.path)
        mount.process.returncode = 0


_SENSE = {
    "failures": {}, "pid": 1, "version": "1", "since": 1, "requests": 1, "requests_by_lane": 1, "inodes": 1,
    "key_source": None, "signatures": [], "cipher": "aes", "key_bytes": 16, "fnek_signature": None,
    "fn_cipher": None, "fn_key_bytes": None, "xattr_metadata": False, "passthrough": False,
    "encrypted_view": False, "read_only": False, "shared": False, "memory_locked": True,
}  # fmt: skip
_WRONG: tuple[dict[str, object], ...] = (
    {"since": 1 << 60},
    {"since": "x"},
    {"key_bytes": None},
    {"signatures": [1]},
    {"failures": []},
    {"failures": {"EIO": "x"}},
    {"fn_cipher": "aes"},
    {"requests": True},
)
_NONSENSE = (
    b"not json",
    b"[]",
    b"7",
    b"[" * 100_000,
    b'{"failures":{},"pid":1}',
    *(json.dumps({**_SENSE, **wrong}).encode() for wrong in _WRONG),
)


def test_nonsense_for_an_answer(tmp_path: Path) -> None:
    """Users may mount what calls itself fusecrypt, and answer anything; other mounts are shown even so."""
    with (
        mounted(tmp_path / "lower") as fake,
        mounted(tmp_path / "other") as other,
        _instead_of_its_daemon(fake) as listener,
    ):
        for answer in (*_NONSENSE, json.dumps(_SENSE).encode()):
            said = _status_answered(listener, fake, answer)
            assert ("health    its daemon answers nonsense" in said) == (answer in _NONSENSE), said
        assert str(other.path) in _status_answered(listener, None, b"nonsense")


def test_an_answer_by_drops(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as fake, _instead_of_its_daemon(fake) as listener:
        begun = time.monotonic()
        assert "does not answer" in _status_answered(listener, fake, b" " * 30, pause=0.5)
        assert time.monotonic() - begun < 12


@contextlib.contextmanager
def _instead_of_its_daemon(mount: Mount) -> Iterator[socket.socket]:
    """The daemon is dead; its socket is ours."""
    device = os.stat(mount.path).st_dev
    mount.process.kill()
    mount.process.wait()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0fusecrypt/{os.major(device)}:{os.minor(device)}")
        listener.listen()
        listener.settimeout(PATIENCE)
        yield listener
    run("umount", mount.path)
    mount.process.returncode = 0


def _status_answered(listener: socket.socket, mount: Mount | None, answer: bytes, pause: float = 0) -> str:
    """What `fusecrypt status` shows if it gets this answer."""
    words: list[str | Path] = [PROGRAM, "status", *([mount.path] if mount else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
        connection = listener.accept()[0]
        with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in [answer[i : i + 1] for i in range(len(answer))] if pause else [answer]:
                connection.sendall(part)
                time.sleep(pause)
        said, errors = asking.communicate(timeout=PATIENCE)
    assert errors == ""
    return str(said)


def test_a_mount_that_has_ended_meanwhile_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = MountPoint("/gone", FSTYPE, "/lower", "0:999999", read_only=False, user=0)
    tables = [[gone], []]
    monkeypatch.setattr("fusecrypt.cli.status.mount_table", lambda: tables.pop(0))
    done = CliRunner().invoke(status_command, ["--json"], standalone_mode=False)
    assert (done.exception, done.output, done.return_value) == (None, "", 0)


def test_nothing_there(tmp_path: Path) -> None:
    assert "is no fusecrypt mount" in run("status", tmp_path, status=2).stderr
