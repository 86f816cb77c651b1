"""One contender's mount while a workload uses it: mounted afresh for a cold cache, watched, taken down."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fusecrypt.measure.contender import Contender, Place
from fusecrypt.measure.processes import Usage, descendants, forget_peaks, usage, wait_for_end

_PATIENCE = 60.0
"""Seconds that a daemon gets to end after its unmount."""


class Meter:
    """CPU seconds of the daemon; ``seconds`` is set at the end."""

    seconds = 0.0


class Mount:
    """A context manager; inside, ``path`` is the decrypted directory."""

    def __init__(self, contender: Contender, directory: Path, on_disk: bool) -> None:
        """``directory`` must not exist; it is removed at the end."""
        self.contender = contender
        self.path = contender.work(Place(directory))
        self.peak = 0
        self.place = Place(directory)
        self.on_disk = on_disk
        self._daemons: set[int] = set()

    def __enter__(self) -> Self:
        try:
            self.place.prepare()
            self.contender.create(self.place)
            self.mount()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.unmount()
        finally:
            self._tear_down()

    def mount(self) -> None:
        before = descendants()
        self.contender.mount(self.place)
        self._daemons = descendants() - before

    def unmount(self) -> None:
        """Returns when the daemon has ended, so that two never compete."""
        self.usage()
        self.contender.unmount(self.place)
        wait_for_end(self._daemons, _PATIENCE)
        self._daemons = set()

    def remount(self) -> None:
        """Empty the caches: those above by mounting afresh, those below (as root, on disk) by the kernel.

        A dear mount stays, and only the kernel's caches are emptied, if that is allowed.
        """
        if self.contender.dear_mount:
            _sync(self.path)
            if drop_caches(3):
                return
        self.unmount()
        if self.on_disk:
            _sync(self.place.lower)
            drop_caches(3)
        self.mount()

    def clear(self) -> None:
        """Make it as good as new for the next workload."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.peak = 0
        forget_peaks(self._daemons)

    def usage(self) -> Usage:
        """Of the daemon; its peak is remembered."""
        now = usage(self._daemons)
        self.peak = max(self.peak, now.peak)
        return now

    @property
    def has_daemon(self) -> bool:
        return bool(self._daemons)

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        meter, before = Meter(), self.usage().cpu
        yield meter
        meter.seconds = self.usage().cpu - before

    def _tear_down(self) -> None:
        """Whatever happened: no mount, no daemon, no files."""
        deadline = time.monotonic() + _PATIENCE
        while os.path.ismount(self.place.upper) and time.monotonic() < deadline:
            subprocess.run(["fusermount3", "-uz", str(self.place.upper)], check=False)
        wait_for_end(self._daemons, 5.0)
        shutil.rmtree(self.place.directory, ignore_errors=True)


def _sync(directory: Path) -> None:
    """Its file system only: others on this machine may have much to write."""
    subprocess.run(["sync", "--file-system", str(directory)], check=True)


def drop_caches(what: int) -> bool:
    """1: contents, 2: names and attributes, 3: both. Only root can; returns whether it was done."""
    with suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text(f"{what}\n")
        return True
    return False
