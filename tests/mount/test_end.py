"""How a mount ends: nothing unwritten, nobody left over. And what its process gives away while it lives."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mount.support import (
    PASSPHRASE,
    Mount,
    daemons,
    fails,
    is_mounted,
    mounted,
    run,
    wait_for_end,
)

DATA = os.urandom(3_000_000)


def read_again(lower: Path, name: str = "f") -> bytes:
    with mounted(lower) as mount:
        return (mount.path / name).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals(tmp_path: Path, number: signal.Signals) -> None:
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "f").write_bytes(DATA)
        mount.process.send_signal(number)
        mount.wait()
    assert read_again(mount.lower) == DATA


def test_umount_command(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "f").write_bytes(DATA)
        subprocess.run(["umount", mount.path], check=True)
        mount.wait()
    assert read_again(mount.lower) == DATA


def test_who_is_about_to_go_is_waited_for(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        holder = subprocess.Popen(["sleep", "0.3"], cwd=mount.path)
        try:
            assert subprocess.run(["umount", mount.path], capture_output=True, check=False).returncode != 0
            run("umount", mount.path)
        finally:
            holder.wait()


def test_busy(tmp_path: Path) -> None:
    """umount refuses; SIGTERM writes all, dirty mappings too, and ends when the last user goes."""
    with mounted(tmp_path / "lower") as mount:
        path = mount.path / "f"
        with path.open("w+b", buffering=0) as file:
            file.write(DATA)
            mapping = mmap.mmap(file.fileno(), 0)
            mapping[1_000_000:1_000_005] = b"dirty"
            done = run("umount", mount.path, status=1)
            assert "is busy" in done.stderr
            assert is_mounted(mount.path)
            mount.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 10
            while is_mounted(mount.path):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert mount.process.poll() is None
            assert os.pread(file.fileno(), 5, 1_000_000) == b"dirty"
            mapping.close()
        mount.wait()
    assert read_again(mount.lower) == DATA[:1_000_000] + b"dirty" + DATA[1_000_005:]


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """What was written before the first one is there all the same."""
    with mounted(tmp_path / "lower", log_allows=["in use"]) as mount:
        fd = os.open(mount.path / "f", os.O_WRONLY | os.O_CREAT)
        os.write(fd, DATA)
        mount.process.send_signal(signal.SIGTERM)
        while is_mounted(mount.path):
            time.sleep(0.01)
        time.sleep(0.2)
        start = time.monotonic()
        mount.process.send_signal(signal.SIGTERM)
        mount.process.wait(5)
        assert time.monotonic() - start < 3
        fails(errno.ENOTCONN, os.fsync, fd)
        with suppress(OSError):
            os.close(fd)
    assert read_again(mount.lower) == DATA


@pytest.mark.full
def test_patience_ends(tmp_path: Path) -> None:
    """Ten seconds after SIGTERM a mount that stays busy is given up."""
    with mounted(tmp_path / "lower", log_allows=["still open"]) as mount:
        fd = os.open(mount.path, os.O_RDONLY)
        mount.process.send_signal(signal.SIGTERM)
        mount.wait()
        os.close(fd)


def test_working_directory_inside(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "f").write_bytes(DATA)
        sleeper = subprocess.Popen(["sleep", "60"], cwd=mount.path)
        try:
            run("umount", mount.path, status=1)
            mount.process.send_signal(signal.SIGTERM)
            while is_mounted(mount.path):
                time.sleep(0.01)
        finally:
            sleeper.kill()
            sleeper.wait()
        mount.wait()
    assert read_again(mount.lower) == DATA


def test_lazy(tmp_path: Path) -> None:
    with mounted(tmp_path / "lower") as mount:
        with (mount.path / "f").open("wb") as file:
            run("umount", "--lazy", mount.path)
            assert not is_mounted(mount.path)
            file.write(DATA)
        mount.wait()
    assert read_again(mount.lower) == DATA


def test_under_load(tmp_path: Path) -> None:
    """SIGTERM among many writers: what each had synced is there, and the rest is a prefix."""
    writer = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "try:\n"
        "    while True:\n"
        "        os.write(fd, b'0123456789abcdef' * 500)\n"
        "except OSError:\n"
        "    pass\n"
    )
    with mounted(tmp_path / "lower", log_allows=["in use", "still open"]) as mount:
        command = [sys.executable, "-c", writer]
        writers = [subprocess.Popen([*command, mount.path / f"f{n}"]) for n in range(4)]
        time.sleep(0.5)
        mount.process.send_signal(signal.SIGTERM)
        while is_mounted(mount.path):
            time.sleep(0.01)
        for process in writers:
            process.kill()
            process.wait()
        mount.wait()
    with mounted(mount.lower) as again:
        for n in range(4):
            data = (again.path / f"f{n}").read_bytes()
            assert len(data) > 0
            assert data == (b"0123456789abcdef" * (len(data) // 16 + 1))[: len(data)]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Mount]:
    """A mount in the background, as users have it. ``process`` is not its daemon."""
    (tmp_path / "lower").mkdir()
    (tmp_path / "up").mkdir()
    (tmp_path / "pass").write_bytes(PASSPHRASE + b"\n")
    run("mount", "--passfile", tmp_path / "pass", tmp_path / "lower", tmp_path / "up")
    (pid,) = daemons()
    yield Mount(tmp_path / "lower", tmp_path / "up", Background(pid), tmp_path / "pass")  # type: ignore[arg-type]
    if is_mounted(tmp_path / "up"):
        run("umount", tmp_path / "up")
    wait_for_end(pid)


class Background:
    """A process known by its id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def proc(mount: Mount, name: str) -> str:
    return Path(f"/proc/{mount.pid}/{name}").read_text(errors="surrogateescape")


def test_daemon_is_detached(daemon: Mount) -> None:
    fields = proc(daemon, "stat").rpartition(")")[2].split()
    session, terminal = int(fields[3]), int(fields[4])
    assert session == daemon.pid
    assert terminal == 0
    assert [os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
    assert os.readlink(f"/proc/{daemon.pid}/cwd") == "/"
    (daemon.path / "f").write_bytes(DATA)
    os.kill(daemon.pid, signal.SIGTERM)
    wait_for_end(daemon.pid, 5)
    assert not is_mounted(daemon.path)
    assert read_again(daemon.lower) == DATA


def test_daemon_gives_no_secret_away(daemon: Mount) -> None:
    for name in ("cmdline", "environ"):
        assert PASSPHRASE.decode() not in proc(daemon, name)
    assert "Max core file size        0                    0" in proc(daemon, "limits")
    open_files = [os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{daemon.pid}/fd")]
    assert not [target for target in open_files if target.startswith(("/memfd:", "/secretmem"))]
    assert os.stat(f"/proc/{daemon.pid}/mem").st_uid == 0


def test_idle_daemon_uses_no_cpu(daemon: Mount) -> None:
    for n in range(50):
        (daemon.path / f"{n}").write_bytes(b"x")
    time.sleep(0.5)

    def ticks() -> int:
        fields = proc(daemon, "stat").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(2)
    assert ticks() == before


def test_dead_daemon(tmp_path: Path) -> None:
    """Nothing can be saved from a killed daemon; its mount point can be taken down and used again."""
    with mounted(tmp_path / "lower") as mount:
        (mount.path / "f").write_bytes(DATA)
        subprocess.run(["sync", "-f", mount.path / "f"], check=True)
        mount.process.kill()
        mount.process.wait()
        fails(errno.ENOTCONN, os.listdir, mount.path)
        run("umount", mount.path)
        mount.process.returncode = 0
    assert read_again(mount.lower) == DATA


def test_covered_by_another(tmp_path: Path) -> None:
    """A mount on the same place: each daemon ends with its own mount, and writes everything first."""
    with mounted(tmp_path / "lower") as below:
        (below.path / "f").write_bytes(DATA)
        with mounted(tmp_path / "other", path=below.path) as above:
            (above.path / "g").write_bytes(b"above")
            below.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert os.listdir(above.path) == ["g"]
            subprocess.run(["umount", above.path], check=True)
            above.process.wait(10)
        below.wait()
    assert read_again(tmp_path / "lower") == DATA
    assert read_again(tmp_path / "other", "g") == b"above"
