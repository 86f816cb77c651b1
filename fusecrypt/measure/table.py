"""A run as a table for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rich import box
from rich.table import Table

from fusecrypt.measure.report import number
from fusecrypt.measure.results import OURS, Results, spread
from fusecrypt.measure.workload import Row

LEGEND = f"""Medians, ± half the distance between the worst and the best round; in brackets how many times
better {OURS} is, in throughput as in time. Extents have 4096 octets; "32 a call" are 32 extents."""


def tables(results: Results) -> Iterator[Table]:
    """One for each workload, memory last; its columns are the contenders that took part."""
    workloads = dict.fromkeys(row.workload for row in results.samples)
    for workload in sorted(workloads, key="memory".__eq__):
        rows = [row for row in results.samples if row.workload == workload]
        names = [n for n in results.versions if any(n in results.samples[row] for row in rows)]
        table = Table(title=workload, box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column("")
        for name in names:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(f"{row.what}, {row.unit}", *(_cell(results, row, name) for name in names))
        yield table


def _cell(results: Results, row: Row, name: str) -> str:
    samples = results.samples[row].get(name)
    if not samples:
        return ""
    text = number(statistics.median(samples))
    if name == OURS:
        return text if len(samples) == 1 else f"{text} ±{spread(samples):.0%}"
    ratio = results.advantage(row, name)
    return text if ratio is None else f"{text} ({ratio:.2f})"
