"""Bars as SVG: a block of bars for each row."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from html import escape

from fusecrypt.measure.report import number
from fusecrypt.measure.results import OURS, Results
from fusecrypt.measure.workload import Row

_WIDTH, _LEFT, _RIGHT = 720, 110, 90
_BAR, _GAP, _TITLE = 16, 4, 30
_OUR_COLOUR, _COLOUR = "#2b6cb0", "#a0aec0"


def to_svg(results: Results, workload: str = "") -> str:
    """The medians of a workload, or of all, with a line from the worst to the best round over each bar."""
    rows = [row for row in results.samples if workload in ("", row.workload)]
    parts: list[str] = []
    y = 10
    for row in rows:
        block = list(_block(results, row, y))
        parts += block
        y += _TITLE + len(results.samples[row]) * (_BAR + _GAP)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 10}" width="{_WIDTH}" '
        f'height="{y + 10}" font-family="sans-serif" font-size="12" fill="#1a202c">'
    )
    background = f'<rect width="{_WIDTH}" height="{y + 10}" fill="#ffffff"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"


def _block(results: Results, row: Row, y: int) -> Iterator[str]:
    """The bars of one row from ``y`` downwards."""
    better = "more is better" if row.higher_is_better else "less is better"
    yield _text(10, y + 16, f"{row.workload}: {row.what} ({row.unit}, {better})", "bold")
    samples = {name: results.samples[row][name] for name in results.versions if name in results.samples[row]}
    greatest = max((max(values) for values in samples.values()), default=0.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / greatest if greatest > 0 else 0.0
    y += _TITLE - 6
    for name, values in samples.items():
        median = statistics.median(values)
        width = max(0.0, median * scale)
        colour = _OUR_COLOUR if name == OURS else _COLOUR
        yield _text(10, y + 12, name)
        yield f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
        low, high = (_LEFT + max(0.0, value) * scale for value in (min(values), max(values)))
        middle = y + _BAR / 2
        yield f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#1a202c"/>'
        yield _text(max(high, _LEFT + width) + 6, y + 12, number(median))
        y += _BAR + _GAP


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-weight="{weight}">{escape(text)}</text>'
