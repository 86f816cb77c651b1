"""Secrets stay where they belong: not in arguments, environments, logs or core dumps, and not in swap.

Commands and daemons write no core at all. What one would hold is looked at nevertheless, with that
hardening taken away: all memory that the kernel would dump, while every key is at hand.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fusecrypt.keys.slotfile import CONTENT, NAMES
from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slots.recovery import RecoveryEnrolment, write_key
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from fusecrypt.keys.volume import Volume
from tests.mount.keys import SOFTWARE, software_tpm
from tests.mount.support import PATIENCE, PROGRAM, mounted
from tests.mount.test_keys_slots import beside
from tests.unit.keys.secrets import octets, secret

# Words that stand nowhere else in a process's memory.
PASSPHRASE = b"mQ7 mount passphrase"
WORDS = b"mQ7 slot passphrase"
NEW_WORDS = b"mQ7 other slot passphrase"
PIN = b"mQ7-4815162342"

UNHARDENED = f"""#!{sys.executable}
import json, logging, os, signal, sys
import fusecrypt.native as native
native.harden_process = lambda: None
"""

COMMAND = """
import fusecrypt.keys.slotstore as slotstore, fusecrypt.mount.spawn as spawn
from fusecrypt._native import ffi
places, made = [], native.Secret.__init__
def noted(self, n):
    made(self, n)
    places.append(int(ffi.cast("uintptr_t", self._memory)))
def stopped(*_, **__):
    print(json.dumps(places), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
native.Secret.__init__ = noted
spawn.Daemon.serve = slotstore.SlotStore.save = slotstore.SlotStore.create = stopped
from fusecrypt.cli.main import main
main()
"""
"""A command that stops when it has all keys: before it hands them to a daemon, or writes its file."""

DAEMON = """
import fusecrypt.mount.daemon as daemon
set_up = daemon._set_up_log
def at_debug_level(config):
    set_up(config)
    logging.getLogger().setLevel(logging.DEBUG)
daemon._set_up_log = at_debug_level
sys.exit(daemon.main(sys.argv[1:]))
"""

MOUNT = """
import fusecrypt.mount.spawn as spawn
spawn._command = lambda fd: [sys.executable, DAEMON_SCRIPT, str(fd)]
from fusecrypt.cli.main import main
main()
"""


class Region(NamedTuple):
    """A mapping of a process: its addresses and flags, as smaps names them."""

    start: int
    end: int
    flags: frozenset[str]


class Place(NamedTuple):
    """A tree with all kinds of slots: its directory, its software TPM, and every secret of it."""

    directory: Path
    tcti: str
    secrets: Mapping[str, bytes]

    @property
    def lower(self) -> Path:
        return self.directory / "lower"

    def file(self, name: str) -> str:
        """A secret in a file."""
        path = self.directory / f"{name}.secret"
        path.write_bytes(self.secrets[name])
        return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A tree of its own. Slots: 0 a passphrase, 1 a recovery key, 2 a TPM with a PIN, 3 a TPM alone."""
    directory = tmp_path_factory.mktemp("custody")
    with pytest.MonkeyPatch.context() as patch, software_tpm() as tpm:
        for name in ("STATE", "CONFIG"):
            patch.setenv(f"XDG_{name}_HOME", str(directory / name))
        (directory / "mnt").mkdir()
        with mounted(directory / "lower", passphrases=[PASSPHRASE]) as mount:
            (mount.path / "file").write_bytes(b"text")
        recovery = RecoveryEnrolment()
        volume = _volume().add(PassphraseEnrolment(secret(WORDS))).add(recovery)
        with tpm.open() as opened:
            volume = volume.add(TPM2Enrolment(opened, secret(PIN))).add(TPM2Enrolment(opened))
        SlotStore(directory / "lower.keyslots").create(volume)
        content, names = (octets(held.token.key) for held in volume.tokens())
        secrets = {
            "mount passphrase": PASSPHRASE,
            "passphrase": WORDS,
            "new passphrase": NEW_WORDS,
            "recovery key": octets(write_key(recovery.key)),
            "recovery key's octets": octets(recovery.key),
            "PIN": PIN,
            "volume key": octets(volume.key),
            "beginning of the content key": content[:16],  # all that AES-128 needs
            "beginning of the name key": names[:16],
        }
        yield Place(directory, tpm.tcti, secrets)


def _volume() -> Volume:
    with secret(PASSPHRASE) as passphrase:
        content = AuthToken.from_passphrase(passphrase)
        names = AuthToken.from_passphrase(passphrase, FNEK_SALT)
    return Volume.create([(content, (CONTENT,)), (names, (NAMES,))])


def mappings(pid: int) -> list[Region]:
    """What /proc/PID/smaps says."""
    found, start, end = [], 0, 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = (int(text, 16) for text in head.groups())
        elif line.startswith("VmFlags:"):
            found.append(Region(start, end, frozenset(line.split()[1:])))
    return found


def dumpable(pid: int) -> bytes:
    """All memory of a process that a core dump may hold, shared libraries included."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in mappings(pid):
            if "dd" not in mapping.flags and "rd" in mapping.flags and "io" not in mapping.flags:
                memory.seek(mapping.start)
                parts.append(memory.read(mapping.end - mapping.start))
    return b"".join(parts)


def memory_of(pid: int) -> Iterator[tuple[Region, bytes]]:
    """All that root can read; not even root reads what memfd_secret() gave."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for region in mappings(pid):
            if "rd" in region.flags and "io" not in region.flags:
                memory.seek(region.start)
                try:
                    yield region, memory.read(region.end - region.start)
                except OSError:
                    continue


def shown(pid: int) -> bytes:
    """Arguments and environment of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def absent(secrets: Mapping[str, bytes], where: str, data: bytes) -> None:
    """No secret is in these octets, neither as it is nor as hex digits."""
    for name, value in secrets.items():
        assert value not in data, f"the {name} is in {where}"
        assert value.hex().encode() not in data.lower(), f"the {name} is in {where} as hex digits"


@contextmanager
def at_its_worst(place: Place, *words: str) -> Iterator[tuple[int, list[int]]]:
    """A command that has stopped with all keys at hand: its process and the places of its secrets."""
    command = [sys.executable, "-c", UNHARDENED + COMMAND, *words]
    pipes: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    with subprocess.Popen(command, cwd=place.directory, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read().decode()
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            yield process.pid, json.loads(line)
        finally:
            process.kill()


def words_of(place: Place, way: str) -> list[str]:
    """The commands that are looked at."""
    tcti = ["--tcti", place.tcti]
    mount = ["mount", *tcti, "lower", "mnt"]
    unlock = ["--keyslots", str(beside(place.lower)), "--unlock-passfile", place.file("recovery key"), *tcti]
    made = ["--keyslots", "F", "--recovery-file", "R"]
    new = ["--passfile", place.file("new passphrase")]
    return {
        "mount by the TPM": [*mount, "--slot", "3"],
        "mount by a PIN": [*mount, "--slot", "2", "--pin-file", place.file("PIN")],
        "mount by a slot": [*mount, "--passfile", place.file("passphrase")],
        "mount by the recovery key": [*mount, "--passfile", place.file("recovery key")],
        "mount by the passphrase": [*mount, "--passfile", place.file("mount passphrase")],
        "create": ["key", "create", "lower", *made, "--passfile", place.file("mount passphrase")],
        "add passphrase": ["key", "add", "passphrase", *unlock, *new],
        "add tpm2": ["key", "add", "tpm2", *unlock],
        "add tpm2 with a PIN": ["key", "add", "tpm2", *unlock, "--pin-file", place.file("PIN")],
        "change": ["key", "change", *unlock, "--slot", "0", *new],
    }[way]


WAYS = (
    "mount by the TPM",
    "mount by a PIN",
    "mount by a slot",
    "mount by the recovery key",
    "mount by the passphrase",
    "create",
    "add passphrase",
    "add tpm2",
    "add tpm2 with a PIN",
    "change",
)


@pytest.mark.parametrize("way", WAYS)
def test_a_commands_memory(way: str, place: Place) -> None:
    """Keys are in pages that are locked (lo) and left out of dumps (dd), and nowhere else."""
    with at_its_worst(place, *words_of(place, way)) as (pid, secrets):
        memory = dumpable(pid)
        assert b"fusecrypt.cli.main" in memory  # it is the process
        absent(place.secrets, "a core dump", memory)
        absent(place.secrets, "the arguments or the environment", shown(pid))
        held = [each for each in mappings(pid) if any(each.start <= at < each.end for at in secrets)]
        assert held
        assert all({"lo", "dd"} <= each.flags for each in held)


def test_a_daemons_memory_and_log(place: Place, tmp_path: Path) -> None:
    """It reads and writes, and logs all it can."""
    daemon, program = tmp_path / "daemon", tmp_path / "program"
    daemon.write_text(UNHARDENED + DAEMON)
    program.write_text(UNHARDENED + MOUNT.replace("DAEMON_SCRIPT", repr(str(daemon))))
    program.chmod(0o755)
    words = ["--verbose", "--tcti", place.tcti, "--slot", "2", "--pin-file", place.file("PIN")]
    # At that level the libraries log too.
    with mounted(place.lower, *words, passphrases=(), program=program, log_allows=[""]) as mount:
        (mount.path / "new").write_bytes(b"text")
        assert (mount.path / "file").read_bytes() == b"text"
        memory = dumpable(mount.pid)
        assert b"fusecrypt.mount.daemon" in memory
        absent(place.secrets, "a core dump", memory)
        absent(place.secrets, "the arguments or the environment", shown(mount.pid))
        absent(place.secrets, "the log", mount.log.read_bytes())
        opening = {name: value for name, value in place.secrets.items() if not name.startswith("beginning")}
        for region, data in memory_of(mount.pid):  # in locked pages neither
            absent(opening, str(region), data)
        assert SOFTWARE in mount.messages


def test_no_core_is_written(place: Place, tmp_path: Path) -> None:
    """Not of a command that has a secret (what it asks for another kills it), and not of a daemon."""
    aborted = [sys.executable, "-c", "import os; os.abort()"]
    assert _leaves_a_core(_start(aborted, tmp_path)), "cores are off here: nothing can be seen"
    lower, mnt = str(place.lower), str(place.directory / "mnt")
    passfile = ["--passfile", place.file("mount passphrase")]
    kill = [*passfile, "--extpass", "sh -c 'kill -ABRT $PPID'"]
    for command in (["mount", *kill, lower, mnt], ["key", "create", lower, "--keyslots", "F", *kill]):
        assert not _leaves_a_core(_start([str(PROGRAM), *command], tmp_path))
    daemon = _start([str(PROGRAM), "mount", "--foreground", *passfile, lower, mnt], tmp_path)
    try:
        deadline = time.monotonic() + PATIENCE
        while not Path(mnt, "file").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        daemon.send_signal(signal.SIGABRT)
        assert not _leaves_a_core(daemon)
    finally:
        daemon.kill()
        subprocess.run(["umount", "--lazy", mnt], check=True)


def _start(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start a command that may write cores of any size."""

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=directory, preexec_fn=unlimited, stdin=quiet, stderr=quiet)


def _leaves_a_core(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process that is aborted has left a core."""
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)
