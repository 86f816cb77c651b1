"""Exporting by a Dask cluster: processes of their own, as they would run on other machines."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fusecrypt.errors import UsageError
from fusecrypt.keys.token import FNEK_SALT
from fusecrypt.offline.cluster import PIECE
from fusecrypt.offline.target import WORK
from fusecrypt.offline.worker import check_address
from fusecrypt.tree.policy import NamePolicy
from tests.manifest import Entry, diff, manifest
from tests.mount.support import PROGRAM, run
from tests.tree.support import User, lower_name, opened, policy, token

PASSPHRASE = b"what nobody else would say"
PLAIN = replace(policy(), content=(token(PASSPHRASE),))
assert PLAIN.names is not None
POLICY = replace(PLAIN, names=NamePolicy(token(PASSPHRASE, FNEK_SALT), PLAIN.names.cipher))
KEYS = [bytes(each.key.view()) for each in POLICY.tokens]


_REGISTERED = b"Registered to"


class Cluster:
    """A scheduler and two workers on this machine, with all that they log."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "scheduler.json"
        self.scheduler = self._start("scheduler", "--host", "tcp://127.0.0.1", "--port", "0")
        self.workers = [self._worker(f"w{number}") for number in range(2)]

    def _worker(self, name: str) -> subprocess.Popen[bytes]:
        words = ("--no-nanny", "--nthreads", "1", "--local-directory", name)
        return self._start("worker", *words)

    def kill(self) -> None:
        """Kill a worker, as a power cut would."""
        self.workers[0].kill()
        self.workers[0].wait()

    def replace(self) -> None:
        """Start another one in its place."""
        seen = self.logs().count(_REGISTERED)
        self.workers[0] = self._worker(f"w{seen}")
        self.wait(seen + 1)

    def _start(self, kind: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self._file), "--no-dashboard"]
        command += words
        with (self._directory / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory)

    @property
    def address(self) -> str:
        deadline = time.monotonic() + 60
        start = "tcp://"
        while start not in (text := self._file.read_text() if self._file.exists() else ""):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)
        return start + text.partition(start)[2].partition('"')[0]

    def wait(self, n: int = 2) -> None:
        """Until workers have registered so often."""
        deadline = time.monotonic() + 60
        while self.logs().count(_REGISTERED) < n:
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def logs(self) -> bytes:
        return b"".join(path.read_bytes() for path in self._directory.glob("*.log"))

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        found.wait()
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def lower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with small files, files for a task, and one of several tasks; beside it its passphrase."""
    rng = random.Random("cluster")
    block = rng.randbytes(1 << 20)
    directory = tmp_path_factory.mktemp("tree")
    with made(directory) as user:
        user.mkdir("deep", 0o750)
        for number in range(30):
            user.create(f"deep/small{number}", rng.randbytes(rng.randrange(9000)))
        for number in range(12):
            user.create(f"deep/some{number}", block * 4 + rng.randbytes(number), 0o640)
        user.create("large", block * 130)
        user.link("large", "deep/link")
        user.symlink(b"deep/some1", "symlink")
    return directory / "lower"


@pytest.fixture(scope="module")
def plain(lower: Path) -> tuple[list[Entry], str]:
    """The tree restored without workers: its manifest, and what was said."""
    out = lower.parent / "plain"
    done = run("export", "--passfile", lower.parent / "pass", lower, out)
    return manifest(out), done.stderr


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    """A tree of small files, for several batches, and the manifest of a restore without workers."""
    rng = random.Random("many")
    block = rng.randbytes(60_000)
    directory = tmp_path_factory.mktemp("many")
    with made(directory) as user:
        for number in range(1500):
            if number % 50 == 0:
                user.mkdir(f"{number // 50}")
            user.create(f"{number // 50}/{number}", block[number:])
    lower = directory / "lower"
    run("export", "--passfile", directory / "pass", lower, directory / "plain")
    return lower, manifest(directory / "plain")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The same with two files."""
    with made(tmp_path) as user:
        for number in range(2):
            user.create(f"some{number}", random.Random(number).randbytes(4_000_000))
    return tmp_path / "lower"


@contextmanager
def made(directory: Path) -> Iterator[User]:
    """A new tree in ``directory``/lower, and its passphrase beside it."""
    (directory / "lower").mkdir()
    (directory / "pass").write_bytes(PASSPHRASE + b"\n")
    with opened(directory / "lower", POLICY) as tree:
        yield User(tree)


def command(lower: Path, out: Path, cluster: Cluster, *more: str) -> list[str | Path]:
    return ["export", "--dask", cluster.address, "--passfile", lower.parent / "pass", *more, lower, out]


def searched(pid: int, octets: list[bytes]) -> list[bytes]:
    """Which of some octets occur in the memory of a process."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, permissions = line.split()[:2]
            if permissions.startswith("rw"):
                start, end = (int(each, 16) for each in place.split("-"))
                with suppress(OSError, ValueError):  # of devices
                    memory.seek(start)
                    part = memory.read(end - start)
                    found += [each for each in octets if each in part]
    return found


def test_it_arrives_as_without_workers_and_no_key_is_seen(
    lower: Path, plain: tuple[list[Entry], str], cluster: Cluster, tmp_path: Path
) -> None:
    assert 2 * PIECE < 130 << 20
    done = run(*command(lower, tmp_path / "out", cluster))
    assert done.stderr == plain[1]
    assert diff(plain[0], manifest(tmp_path / "out")) == []
    again = run(*command(lower, tmp_path / "out", cluster))
    assert "of them earlier" in again.stderr
    ids = [process.pid for process in (cluster.scheduler, *cluster.workers)]
    assert searched(cluster.scheduler.pid, [b"carry_piece"])  # it is found, if it is there
    assert [searched(pid, KEYS) for pid in ids] == [[], [], []]  # workers have wiped them
    assert searched(cluster.scheduler.pid, [PASSPHRASE]) == []
    assert not any(key in cluster.logs() for key in (PASSPHRASE, *KEYS, *(k.hex().encode() for k in KEYS)))


def test_it_goes_on_when_a_worker_is_killed(
    lower: Path, plain: tuple[list[Entry], str], cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([PROGRAM, *command(lower, out, cluster)], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any(path.stat().st_size > 1 << 20 for path in drafts(out)), process)
        cluster.kill()
        assert process.poll() is None
        seen = searched(cluster.scheduler.pid, [b"carry_piece", PASSPHRASE, *KEYS])
        assert set(seen) == {b"carry_piece"}  # of the tasks that are in its memory
        assert process.wait(100) == 0
    finally:
        process.kill()
        process.communicate()
        cluster.replace()
    assert diff(plain[0], manifest(out)) == []


def test_small_files_are_carried_and_a_worker_may_be_killed_among_them(
    many: tuple[Path, list[Entry]], cluster: Cluster, tmp_path: Path
) -> None:
    out, killed = tmp_path / "out", cluster.workers[0]
    process = subprocess.Popen([PROGRAM, *command(many[0], out, cluster)], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: is_at_work(killed.pid, out), process)
        cluster.kill()
        seen = searched(cluster.scheduler.pid, [b"carry_batch", PASSPHRASE, *KEYS])
        assert set(seen) == {b"carry_batch"}
        assert process.wait(100) == 0
    finally:
        process.kill()
        process.communicate()
        cluster.replace()
    assert diff(many[1], manifest(out)) == []


def is_at_work(worker: int, out: Path) -> bool:
    """Whether a worker copies a batch of small files, some of which are there; it is stopped then."""
    os.kill(worker, signal.SIGSTOP)
    work = str(out / os.fsdecode(WORK))
    for link in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(link) == work and len(drafts(out)) > 1:
                return True
    os.kill(worker, signal.SIGCONT)
    return False


def drafts(out: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return list((out / os.fsdecode(WORK)).iterdir())
    return []


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while True:
        with suppress(FileNotFoundError):
            if ready():
                return
        assert process.poll() is None
        time.sleep(0.002)


def test_damage_is_told_and_saved_as_without_workers(small: Path, cluster: Cluster, tmp_path: Path) -> None:
    with opened(small, POLICY) as tree:
        place = small / lower_name(tree, "some1")
    os.truncate(place, 8192 + 2_000_000)
    key = ("--passfile", tmp_path / "pass")
    plain = run("export", "--keep-going", *key, small, tmp_path / "plain", status=4)
    done = run(*command(small, tmp_path / "out", cluster, "--keep-going"), status=4)
    assert done.stderr == plain.stderr
    assert "some1.partial" in done.stderr
    assert diff(manifest(tmp_path / "plain"), manifest(tmp_path / "out")) == []


def test_what_is_refused(small: Path, cluster: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wrong = run(*command(small, out, cluster, "--worker-key-command", "echo wrong"), status=3)
    assert "fit" in wrong.stderr
    far = run("export", "--dask", "tcp://192.0.2.1:1", "--passfile", tmp_path / "pass", small, out, status=2)
    assert "neither tls:// nor on this machine" in far.stderr
    assert "a stream" in run(*command(small, Path("-"), cluster), status=2).stderr
    descriptor: list[str | Path] = ["export", "--dask", cluster.address, "--passfile", "-", small, out]
    refused = run(*descriptor, status=2, stdin=None, input=f"{PASSPHRASE.decode()}\n")
    assert "--worker-key-command" in refused.stderr
    by_command = ["--worker-key-command", f"cat {tmp_path}/pass"]
    run(*command(small, out, cluster, *by_command, "--include", "some1"))
    shutil.rmtree(out)
    assert not out.exists()


@pytest.mark.parametrize(
    "address", ["tls://nas:8786", "127.0.0.1:8786", "tcp://[::1]:1", "tcp://localhost:1"]
)
def test_addresses_that_keep_others_out(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address", ["nas:8786", "tcp://10.0.0.1:8786", "ws://localhost:1", "ucx://127.0.0.1:1"]
)
def test_addresses_that_do_not(address: str) -> None:
    with pytest.raises(UsageError, match="neither tls:// nor on this machine"):
        check_address(address)
