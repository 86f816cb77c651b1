"""Random calls of 4 KiB by fio, with a cold cache, through the page cache; writes end with fsync."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusecrypt.measure.errors import BenchError
from fusecrypt.measure.mount import Mount
from fusecrypt.measure.workload import Row, Sample, Scale, write_file

_JOBS = (("read", "randread"), ("write", "randwrite"), ("7 reads to 3 writes", "randrw"))


def random_io(mount: Mount, scale: Scale) -> Iterator[Sample]:
    path = mount.path / "random"
    write_file(path, scale.random_file, 1 << 20)
    for what, mode in _JOBS:
        mount.remount()
        yield Row("random 4 KiB", what, "op/s"), operations_each_second(_fio(path, mode, scale))


def operations_each_second(output: dict[str, Any]) -> float:
    """From fio's JSON: all calls over the time of the job, its last fsync included."""
    job = output["jobs"][0]
    calls = job["read"]["total_ios"] + job["write"]["total_ios"]
    return float(calls / (max(job["job_runtime"], 1) / 1000))


def _fio(path: Path, mode: str, scale: Scale) -> dict[str, Any]:
    command = [
        "fio", "--name=random", f"--filename={path}", f"--rw={mode}", "--rwmixread=70", "--bs=4k",
        "--ioengine=psync", "--thread", f"--size={scale.random_file}", "--end_fsync=1", "--randseed=1",
        f"--number_ios={scale.random_calls}", "--fallocate=none", "--output-format=json",
    ]  # fmt: skip
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        output: dict[str, Any] = json.loads(result.stdout)
    except FileNotFoundError:
        raise BenchError("fio is not installed") from None
    except (subprocess.CalledProcessError, json.JSONDecodeError):
        raise BenchError(f"fio failed with --rw={mode}") from None
    return output
