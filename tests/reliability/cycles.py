"""A tree under load whose daemon is killed again and again; after each kill all of it is read and judged."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.mount.support import PASSPHRASE, Mount, mounted
from tests.reliability.load import Worker

LONGEST = 0.5
"""Seconds of load before a kill, at most."""


@dataclass
class Figures:
    """What a run has done."""

    operations: int = 0
    kills: int = 0
    remounts: int = 0
    octets: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.operations} operations, {self.kills} kills, {self.remounts} remounts,"
            f" {self.octets} octets verified, lost: {len(self.wrong)}"
        )


class Cycles:
    """Workers on one lower tree. The same seed chooses the same work, not the same moments of a kill."""

    def __init__(
        self,
        lower: Path,
        seed: int,
        workers: int = 3,
        options: Sequence[str] = (),
        passphrases: Sequence[bytes] = (PASSPHRASE,),
        figures: Figures | None = None,
    ) -> None:
        """``figures`` are those that go on here."""
        self._lower = lower
        self._path = lower.with_name(lower.name + ".mnt")
        self._options = options
        self._passphrases = passphrases
        self._random = random.Random(seed)
        self._workers = [Worker(self._path / f"worker {n}", f"{seed} {n}") for n in range(workers)]
        self.figures = figures or Figures()

    def run(self, kills: int) -> None:
        """So many kills, and the last judgement."""
        for _ in range(kills):
            self.kill_once()
        self.judge_at_the_end()

    def kill_once(self) -> None:
        """Mount, judge what the last kill has left, work and kill."""
        with self._mounted() as mount:
            self._judge()
            self._work_until_killed(mount)
        self.figures.kills += 1

    def judge_at_the_end(self) -> None:
        with self._mounted():
            self._judge()

    @contextmanager
    def _mounted(self) -> Iterator[Mount]:
        with mounted(self._lower, *self._options, path=self._path, passphrases=self._passphrases) as mount:
            self.figures.remounts += 1
            yield mount

    def _work_until_killed(self, mount: Mount) -> None:
        errors: list[BaseException | None] = []
        threads = [
            threading.Thread(target=lambda worker=worker: errors.append(worker.run(1 << 30)))
            for worker in self._workers
        ]
        before = sum(worker.done for worker in self._workers)
        for thread in threads:
            thread.start()
        time.sleep(self._random.random() * LONGEST)
        mount.process.kill()
        mount.process.wait()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a caller hangs after its daemon was killed"
        self.figures.operations += sum(worker.done for worker in self._workers) - before
        subprocess.run(["umount", "-l", mount.path], check=True)
        mount.process.returncode = 0  # as it was meant to end

    def _judge(self) -> None:
        for number, worker in enumerate(self._workers):
            directory = self._path / f"worker {number}"
            directory.mkdir(exist_ok=True)
            try:
                found = worker.found()
            except OSError as error:
                self.figures.wrong.append(f"kill {self.figures.kills}: unreadable: {error}")
                continue
            self.figures.octets += sum(map(len, found.values()))
            wrong = worker.oracle.complaints(found, mend=True)
            self.figures.wrong += [f"kill {self.figures.kills}: worker {number}: {line}" for line in wrong]
