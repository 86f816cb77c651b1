"""A run as JSON, and as a table in Markdown."""

from __future__ import annotations

import statistics

from bench.contenders import OURS, REFERENCE
from fusecrypt.measure.report import dumps, number, to_data
from fusecrypt.measure.results import Results, spread


def to_json(results: Results) -> str:
    """Everything, the single samples and the ratios to rivals included."""
    data = to_data(results)
    for row, described in zip(results.samples, data["rows"], strict=True):
        rival = results.best_rival(row)
        described["against_" + REFERENCE] = results.advantage(row, REFERENCE)
        described["best_rival"] = rival
        described["against_best_rival"] = results.advantage(row, rival)
    return dumps(data)


def to_markdown(results: Results) -> str:
    """One table for each workload: medians, half of the spread, and how many times better we are."""
    lines = [
        f"# {results.date}, {results.scale} run on {results.place}",
        "",
        f"Commit {results.build}. {results.machine}; load before the run {results.load:.2f}.",
        f"Versions: {', '.join(f'{name} ({version})' for name, version in results.versions.items())}.",
        "",
        "Medians, ± half the distance between the worst and the best round. The last two columns say how",
        f"many times better {OURS} is than {REFERENCE} and than the best rival in that row: above 1 is",
        "better, in throughput as in time.",
    ]
    for workload in dict.fromkeys(row.workload for row in results.samples):
        lines += ["", f"## {workload[0].upper()}{workload[1:]}", "", *_table(results, workload)]
    if results.left_out:
        lines += ["", "## Left out", "", *(f"* {reason}" for reason in results.left_out)]
    return "\n".join(lines) + "\n"


def _table(results: Results, workload: str) -> list[str]:
    names = results.contenders()
    head = ["", *names, f"against {REFERENCE}", "against the best rival"]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for row in results.samples:
        if row.workload != workload:
            continue
        cells = [_cell(results.samples[row].get(name)) for name in names]
        rival = results.best_rival(row)
        advantage = results.advantage(row, rival)
        best = "" if advantage is None else f"{advantage:.2f} ({rival})"
        reference = _ratio(results.advantage(row, REFERENCE))
        lines.append(_line([f"{row.what}, {row.unit}", *cells, reference, best]))
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(samples: list[float] | None) -> str:
    if not samples:
        return ""
    text = number(statistics.median(samples))
    return text if len(samples) == 1 else f"{text} ±{spread(samples):.0%}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
