"""Samples, and what they amount to: medians, spread, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fusecrypt.measure.bare import Bare
from fusecrypt.measure.ours import Fusecrypt
from fusecrypt.measure.workload import Row

OURS = Fusecrypt.name
FLOOR = Bare.name
"""No rival: what the directory below does by itself."""


def spread(samples: Sequence[float]) -> float:
    """Half of the distance between the least and the greatest, as a part of the median."""
    median = statistics.median(samples)
    return (max(samples) - min(samples)) / 2 / abs(median) if median else 0.0


@dataclass
class Results:
    """All samples of one run in one place."""

    place: str
    scale: str
    date: str
    build: str
    """Commit or version of what is measured."""
    machine: str
    load: float
    versions: dict[str, str]
    samples: dict[Row, dict[str, list[float]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """A line for each contender or workload that could not be measured."""

    def add(self, contender: str, row: Row, value: float) -> None:
        self.samples.setdefault(row, {}).setdefault(contender, []).append(value)

    def contenders(self) -> list[str]:
        """Those that have samples, in the order of the versions."""
        seen = {name for row in self.samples.values() for name in row}
        return [name for name in self.versions if name in seen]

    def median(self, row: Row, contender: str) -> float | None:
        samples = self.samples.get(row, {}).get(contender)
        return statistics.median(samples) if samples else None

    def best_rival(self, row: Row) -> str | None:
        """The rival with the best median."""
        medians = {
            name: statistics.median(samples)
            for name, samples in self.samples.get(row, {}).items()
            if name not in (OURS, FLOOR)
        }
        if not medians:
            return None
        choose = max if row.higher_is_better else min
        return choose(medians, key=medians.__getitem__)

    def advantage(self, row: Row, rival: str | None) -> float | None:
        """How many times better we are than ``rival``; above 1 is better, whatever the unit."""
        ours = self.median(row, OURS)
        theirs = None if rival is None else self.median(row, rival)
        if not ours or not theirs or ours < 0 or theirs < 0:
            return None
        return ours / theirs if row.higher_is_better else theirs / ours


def geometric_mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.geometric_mean(values) if values else None
