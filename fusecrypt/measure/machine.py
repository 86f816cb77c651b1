"""The machine that figures belong to."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.7
"""A load average below which a run counts as undisturbed."""


@dataclass(frozen=True)
class Machine:
    cpu: str
    cores: int
    memory_gib: int
    kernel: str
    load: float
    """Over the last minute, before the run."""

    @classmethod
    def look(cls) -> Machine:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cores = len(os.sched_getaffinity(0))
        return cls(_cpu(), cores, round(memory / 2**30), platform.release(), os.getloadavg()[0])

    @property
    def is_quiet(self) -> bool:
        return self.load < QUIET

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.memory_gib} GiB, Linux {self.kernel}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
