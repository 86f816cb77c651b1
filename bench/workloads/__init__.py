"""The workloads, one file a group."""

from __future__ import annotations

from bench.workloads.base import FULL, QUICK, TINY, Row, Sample, Scale, Workload
from bench.workloads.curves import curves
from bench.workloads.memory import memory
from bench.workloads.parallel import parallel
from bench.workloads.random_io import random_io
from bench.workloads.small_files import small_files
from bench.workloads.start import start
from bench.workloads.streams import streams
from bench.workloads.trees import trees

WORKLOADS: dict[str, Workload] = {
    "streams": streams,
    "random": random_io,
    "small": small_files,
    "trees": trees,
    "parallel": parallel,
    "start": start,
    "memory": memory,
    "curves": curves,
}

__all__ = ["FULL", "QUICK", "TINY", "WORKLOADS", "Row", "Sample", "Scale", "Workload"]
