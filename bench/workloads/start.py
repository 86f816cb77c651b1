"""From the command to the first answer, passphrase and key derivation included."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import Row, Sample, Scale, make_small, read_small


def start(mount: Mount, scale: Scale) -> Iterator[Sample]:
    path = mount.path / "first"
    make_small([path])
    mount.unmount()
    began = time.perf_counter()
    mount.mount()
    mounted = time.perf_counter()
    os.listdir(mount.path)
    read_small([path])
    answered = time.perf_counter()
    if mount.has_daemon:
        yield Row("start", "unlock and mount", "s"), mounted - began
        yield Row("start", "mount to first answer", "s"), answered - began
