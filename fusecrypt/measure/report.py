"""A run as data, and figures as text."""

from __future__ import annotations

import json
import statistics
from typing import Any

from fusecrypt.measure.results import Results, spread
from fusecrypt.measure.workload import Row


def to_data(results: Results) -> dict[str, Any]:
    """Everything, the single samples included, for JSON."""
    return {
        "place": results.place,
        "scale": results.scale,
        "date": results.date,
        "build": results.build,
        "machine": results.machine,
        "load_before": results.load,
        "versions": results.versions,
        "left_out": results.left_out,
        "rows": [_row(results, row) for row in results.samples],
    }


def _row(results: Results, row: Row) -> dict[str, Any]:
    return {
        **row._asdict(),
        "higher_is_better": row.higher_is_better,
        "contenders": {
            name: {"median": statistics.median(samples), "spread": spread(samples), "samples": samples}
            for name, samples in results.samples[row].items()
        },
    }


def dumps(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
