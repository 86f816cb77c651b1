"""The systemd units: what they run is run as they say, with a socket for notices and a credential."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusecrypt.mount.notify import notify
from tests import golden
from tests.mount.support import PATIENCE, PROGRAM, is_mounted, run

UNITS = Path(__file__).parents[2] / "units"
NAME = "fusecrypt@.service"
KINDS = ("system", "user")
TREE = golden.tree("aes32")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a tree, a mount point and a credential."""
    TREE.unpack(tmp_path / "lower")
    (tmp_path / "up").mkdir()
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/fusecrypt.passphrase").write_text("cipher aes\n")
    return tmp_path


def unit(kind: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / kind / NAME)
    return parser


def command(kind: str, place: Path, options: str) -> list[str]:
    """What the unit starts: $WORD is split at blanks, ${WORD} is not."""
    words = unit(kind)["Service"]["ExecStart"].split()
    assert words[0] == "/usr/bin/fusecrypt"
    known = {"$OPTIONS": options.split(), "${LOWER}": [f"{place}/lower"], "${MOUNTPOINT}": [f"{place}/up"]}
    return [str(PROGRAM), *(part for word in words[1:] for part in known.get(word, [word]))]


@contextmanager
def service(
    kind: str, place: Path, options: str = "", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The unit's process."""
    more = {"NOTIFY_SOCKET": f"{place}/notify", **environment}
    process = subprocess.Popen(
        command(kind, place, options), stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ | more
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_well_formed(kind: str, tmp_path: Path) -> None:
    """systemd itself reads them; the program is put where it is here."""
    path = tmp_path / "fusecrypt@private.service"
    path.write_text((UNITS / kind / NAME).read_text().replace("/usr/bin/fusecrypt", str(PROGRAM)))
    words: list[str | Path] = [
        "systemd-analyze",
        "--man=no",
        *(["--user"] if kind == "user" else []),
        "verify",
        path,
    ]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert [line for line in done.stderr.splitlines() if "fusecrypt" in line] == []
    assert unit(kind)["Service"]["Type"] == "notify"


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_from_start_to_stop(kind: str, place: Path) -> None:
    """Ready when the mount answers; watched; the key from the credential; stopped by SIGTERM."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(f"{place}/notify")
        notices.settimeout(PATIENCE)
        credentials = {"CREDENTIALS_DIRECTORY": f"{place}/credentials", "WATCHDOG_USEC": "200000"}
        with service(kind, place, "-o ro --idle 1h", **credentials) as process:
            assert notices.recv(100) == b"READY=1"
            assert (place / "up/hello.txt").read_text().startswith("hello")
            start = time.monotonic()
            assert [notices.recv(100) for _ in range(5)] == [b"WATCHDOG=1"] * 5
            assert 0.2 < time.monotonic() - start < PATIENCE
            process.send_signal(signal.SIGTERM)
            while (notice := notices.recv(100)) == b"WATCHDOG=1":
                pass
            assert notice == b"STOPPING=1"
            assert process.wait(PATIENCE) == 0
    assert not is_mounted(place / "up")


def test_the_system_service_does_nothing_that_is_forbidden(place: Path) -> None:
    """With the capabilities that are left to it, and by the list of its system calls."""
    text = (UNITS / "system" / NAME).read_text()
    forbidden = re.findall(r"CAP_(\w+)", " ".join(re.findall(r"^CapabilityBoundingSet=~(.*)$", text, re.M)))
    assert "SYS_MODULE" in forbidden
    bounds = [
        "setpriv",
        "--no-new-privs",
        "--bounding-set=" + ",".join(f"-{each.lower()}" for each in forbidden),
    ]
    watched = ["strace", "-f", "-qq", "--signal=none", "--seccomp-bpf", "-o", f"{place}/trace", *bounds]
    words = [*watched, *command("system", place, "")]
    credentials = {"CREDENTIALS_DIRECTORY": f"{place}/credentials", "NOTIFY_SOCKET": f"{place}/notify"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(f"{place}/notify")
        notices.settimeout(PATIENCE)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, env=os.environ | credentials) as process:
            assert notices.recv(100) == b"READY=1"
            try:
                _use(place / "up")
            finally:
                run("umount", place / "up")
                assert process.wait(PATIENCE) == 0
    allowed = {
        name for each in unit("system")["Service"]["SystemCallFilter"].split() for name in _calls(each)
    }
    used = set(re.findall(r"^\d+ +(\w+)\(", (place / "trace").read_text(errors="replace"), re.M))
    assert {"mount", "execve", "memfd_secret", "setxattr", "mknodat"} <= used
    assert used - allowed == set()


def _use(up: Path) -> None:
    """A bit of everything."""
    (up / "new").write_bytes(bytes(10000))
    os.chown(up / "new", 1234, 1234)
    os.chmod(up / "new", 0o4755)
    os.utime(up / "new", (1, 2))
    os.setxattr(up / "new", "trusted.word", b"x")
    os.truncate(up / "new", 5000)
    with (up / "new").open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 20000)
        os.fsync(file)
    os.link(up / "new", up / "linked")
    os.rename(up / "new", up / "moved")
    os.symlink("target", up / "pointer")
    os.mknod(up / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (up / "directory").mkdir()
    assert {"moved", "linked", "pointer", "device", "directory"} <= set(os.listdir(up))
    assert (up / "moved").read_bytes() == bytes(20000)
    (up / "directory").rmdir()
    os.statvfs(up)


def _calls(group: str) -> set[str]:
    """The system calls in one of systemd's groups."""
    if not group.startswith("@"):
        return {group}
    words = ["systemd-analyze", "syscall-filter", group]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    names = [line.strip() for line in listed if line.strip() and not line.strip().startswith("#")]
    return {call for name in names for call in _calls(name)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_starts_again_after_it_was_killed(kind: str, place: Path) -> None:
    """And no mount is taken down for a service that failed by itself: it may be another's."""
    words = shlex.split(unit(kind)["Service"]["ExecStopPost"].removeprefix("-").replace("$$", "$"))
    words = [word.replace("${MOUNTPOINT}", f"{place}/up") for word in words]
    words = [word.replace("/usr/bin/fusecrypt", str(PROGRAM)) for word in words]
    credentials = f"{place}/credentials"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(f"{place}/notify")
        notices.settimeout(PATIENCE)
        for last in ("signal", "watchdog"):
            with service(kind, place, CREDENTIALS_DIRECTORY=credentials) as process:
                assert notices.recv(100) == b"READY=1"
                process.kill()
                process.wait()
                for result, stands in (("exit-code", True), ("success", True), (last, False)):
                    subprocess.run(words, env=os.environ | {"SERVICE_RESULT": result}, check=True)
                    assert is_mounted(place / "up") == stands


def test_nobody_waits_for_a_manager_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(f"{tmp_path}/notify")

        def tell() -> None:
            for _ in range(2000):
                notify("WATCHDOG=1")

        noticing = threading.Thread(target=tell, daemon=True)
        noticing.start()
        noticing.join(PATIENCE)
        assert not noticing.is_alive()


def test_a_wrong_credential(place: Path) -> None:
    """Nothing is mounted, nobody is told that it is ready."""
    (place / "credentials/fusecrypt.passphrase").write_text("wrong\n")
    with service("system", place, CREDENTIALS_DIRECTORY=f"{place}/credentials") as process:
        assert process.wait(PATIENCE) == 3


def test_other_sources_go_before_the_credential(place: Path) -> None:
    (place / "credentials/fusecrypt.passphrase").write_text("wrong\n")
    (place / "pass").write_text("cipher aes\n")
    environment = os.environ | {"CREDENTIALS_DIRECTORY": str(place / "credentials")}
    run("mount", "--passfile", place / "pass", place / "lower", place / "up", env=environment)
    run("umount", place / "up")


AGENT = """
import configparser, os, socket, sys, time
directory = "/run/systemd/ask-password"
for answer in sys.argv[1:]:
    while not (names := [n for n in os.listdir(directory) if n.startswith("ask.")]):
        time.sleep(0.01)
    asked = configparser.ConfigParser(interpolation=None, strict=False)
    asked.read(os.path.join(directory, names[0]))
    print(asked["Ask"]["Id"], asked["Ask"]["Message"], flush=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(b"+" + answer.encode(), asked["Ask"]["Socket"])
    while os.path.exists(os.path.join(directory, names[0])):
        time.sleep(0.01)
"""


def test_a_service_asks_through_systemd(place: Path) -> None:
    """The real systemd-ask-password, and an agent as plymouth or a console would be; twice mistyped."""
    script = (
        "umount -a -l -t fuse.fusecrypt; mount -t tmpfs none /run && mkdir -p /run/systemd/ask-password && "
        '"$1" -c "$2" wrong "wrong again" "cipher aes" & '
        'shift 2; (sh -c \'SYSTEMD_EXEC_PID=$$ exec "$@"\' sh "$@") && cat "$UP/hello.txt" && umount "$UP"; '
        "wait"
    )
    inner = [sys.executable, AGENT, str(PROGRAM), "mount", str(place / "lower"), str(place / "up")]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *inner],
        env=os.environ | {"UP": str(place / "up")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
        start_new_session=True,
    )  # fmt: skip
    asked = [line for line in done.stdout.splitlines() if line.startswith("fusecrypt ")]
    assert asked == ["fusecrypt mount passphrase (fusecrypt)"] * 3, done.stdout + done.stderr
    assert "hello" in done.stdout
    assert "cipher aes" not in done.stderr


def test_nobody_is_asked_outside_of_a_service(place: Path) -> None:
    """Nor by what a service starts, which has its environment: a cron job, a builder."""
    script = (
        'mount -t tmpfs none /run && mkdir -p /run/systemd/ask-password && SYSTEMD_EXEC_PID=$$ "$@"; exit $?'
    )
    inner = [str(PROGRAM), "mount", str(place / "lower"), str(place / "up")]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *inner],
        env=os.environ | {"INVOCATION_ID": "0" * 32},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE,
        start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 3
    assert "there is no terminal" in done.stderr
