"""The ledger: a dated line for each run that was undisturbed, with the machine in it."""

from __future__ import annotations

from pathlib import Path

from bench.contenders import OURS, REFERENCE
from fusecrypt.measure.report import number
from fusecrypt.measure.results import Results, geometric_mean
from fusecrypt.measure.workload import Row

LEDGER = Path(__file__).with_name("PERFORMANCE.md")

_COLUMNS = {
    "write 128k": Row("streams", "write, 128 KiB calls", "MiB/s"),
    "write 4k": Row("streams", "write, 4 KiB calls", "MiB/s"),
    "read": Row("streams", "read, 128 KiB calls", "MiB/s"),
    "random read": Row("random 4 KiB", "read", "op/s"),
    "random write": Row("random 4 KiB", "write", "op/s"),
    "create": Row("small files", "create", "µs each"),
    "stat": Row("small files", "stat, cold", "µs each"),
    "read small": Row("small files", "read, cold", "µs each"),
    "delete": Row("small files", "delete", "µs each"),
    "untar": Row("source tree", "tar x", "s"),
    "ls -lR": Row("source tree", "ls -lR, cold", "s"),
    "rm -r": Row("source tree", "rm -r", "s"),
    "start": Row("start", "mount to first answer", "s"),
}

_HEAD = f"""# Performance ledger

One line for each run of `script/bench --ledger` on a quiet machine. A cell is {OURS}'s median, then in
brackets how many times better it is than {REFERENCE} in the same run (above 1 is better, in throughput as in
time); *all* is the geometric mean of these ratios. Throughput in MiB/s, random calls in op/s, small files in
µs each, the rest in seconds.

| date | commit | machine | place, scale, load | {" | ".join(_COLUMNS)} | all |
|---|---|---|---|{"---:|" * (len(_COLUMNS) + 1)}
"""


def line(results: Results) -> str:
    """The run as a row of the ledger's table."""
    cells = [_cell(results, row) for row in _COLUMNS.values()]
    mean = geometric_mean(
        ratio for row in _COLUMNS.values() if (ratio := results.advantage(row, REFERENCE)) is not None
    )
    where = f"{results.place}, {results.scale}, {results.load:.2f}"
    last = "" if mean is None else f"{mean:.2f}"
    return f"| {' | '.join([results.date, results.build, results.machine, where, *cells, last])} |\n"


def _cell(results: Results, row: Row) -> str:
    median = results.median(row, OURS)
    if median is None:
        return ""
    ratio = results.advantage(row, REFERENCE)
    return number(median) + ("" if ratio is None else f" ({ratio:.2f})")


def append(results: Results, ledger: Path = LEDGER) -> None:
    """Raises OSError."""
    text = ledger.read_text() if ledger.exists() else _HEAD
    ledger.write_text(text + line(results))
