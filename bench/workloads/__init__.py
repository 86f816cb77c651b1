"""The workloads, one file a group."""

from __future__ import annotations

from bench.workloads.curves import curves
from bench.workloads.export import export
from bench.workloads.many import many
from bench.workloads.memory import memory
from bench.workloads.parallel import parallel
from bench.workloads.random_io import random_io
from bench.workloads.start import start
from bench.workloads.trees import trees
from fusecrypt.measure.small_files import small_files
from fusecrypt.measure.streams import streams
from fusecrypt.measure.workload import Workload

WORKLOADS: dict[str, Workload] = {
    "streams": streams,
    "random": random_io,
    "small": small_files,
    "trees": trees,
    "parallel": parallel,
    "start": start,
    "memory": memory,
    "export": export,
    "curves": curves,
    "many": many,
}

ONCE = frozenset({"many"})
"""What takes too long for every round."""

__all__ = ["ONCE", "WORKLOADS"]
