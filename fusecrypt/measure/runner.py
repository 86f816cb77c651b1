"""Run workloads over contenders, interleaved: what disturbs the machine for a while disturbs all of them."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fusecrypt.measure.contender import Contender
from fusecrypt.measure.errors import BenchError
from fusecrypt.measure.mount import Mount
from fusecrypt.measure.results import Results
from fusecrypt.measure.workload import MIB, Row, Scale, Workload

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure, in ``directory`` (which exists)."""

    directory: Path
    on_disk: bool
    scale: Scale
    contenders: Sequence[Contender]
    workloads: Mapping[str, Workload]
    once: frozenset[str] = frozenset()
    """Workloads of the first round only."""


def check_room(directory: Path, scale: Scale) -> None:
    """Raises BenchError if the directory is too full."""
    free = shutil.disk_usage(directory).free
    if free < scale.room:
        raise BenchError(
            f"{directory} has {free // MIB} MiB free, a {scale.name} run needs {scale.room // MIB} MiB"
        )


def run_rounds(plan: Plan, results: Results, say: Say) -> None:
    """Fill ``results``; a contender that fails in a workload is left out of it from then on."""
    deadline = time.monotonic() + plan.scale.seconds
    failed: set[tuple[str, str]] = set()
    with _Mounts(plan) as mounts:
        for number, workload, contender in order(plan):
            if number and time.monotonic() > deadline:
                say(f"time is up in round {number + 1} of {plan.scale.rounds}")
                return
            if (workload, contender.name) in failed:
                continue
            say(f"round {number + 1} of {plan.scale.rounds}: {workload}, {contender.name}")
            try:
                with mounts.use(contender) as mount:
                    _measure(plan, workload, mount, results)
            except (BenchError, OSError) as error:
                failed.add((workload, contender.name))
                results.left_out.append(f"{workload}, {contender.name}: {describe(error)}")


def order(plan: Plan) -> Iterator[tuple[int, str, Contender]]:
    """Rounds of workloads, each over all contenders; every round begins with another contender."""
    for number in range(plan.scale.rounds):
        first = number % max(len(plan.contenders), 1)
        for workload in plan.workloads:
            if number and workload in plan.once:
                continue
            for contender in (*plan.contenders[first:], *plan.contenders[:first]):
                yield number, workload, contender


class _Mounts:
    """A fresh mount for each use; the same one again where mounts are dear, until one fails."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._kept: dict[str, ExitStack] = {}
        self._mounts: dict[str, Mount] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._kept):
            self._drop(name)

    @contextmanager
    def use(self, contender: Contender) -> Iterator[Mount]:
        if not contender.dear_mount:
            with self._new(contender) as mount:
                yield mount
            return
        if contender.name not in self._mounts:
            stack = self._kept[contender.name] = ExitStack()
            self._mounts[contender.name] = stack.enter_context(self._new(contender))
        try:
            yield self._mounts[contender.name]
            self._mounts[contender.name].clear()
        except BaseException:
            self._drop(contender.name)
            raise

    def _new(self, contender: Contender) -> Mount:
        return Mount(contender, self._plan.directory / contender.name, self._plan.on_disk)

    def _drop(self, name: str) -> None:
        self._mounts.pop(name, None)
        self._kept.pop(name).close()


def _measure(plan: Plan, workload: str, mount: Mount, results: Results) -> None:
    name = mount.contender.name
    measured = False
    for row, value in plan.workloads[workload](mount, plan.scale):
        results.add(name, row, value)
        measured = True
    mount.usage()
    if measured and mount.peak:
        results.add(name, Row("memory", f"peak in {workload}", "MiB"), mount.peak / MIB)


def describe(error: Exception) -> str:
    """One line."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space left"
    if isinstance(error, OSError) and error.errno:
        return f"{os.strerror(error.errno)}: {error.filename}" if error.filename else os.strerror(error.errno)
    return str(error)
