"""fusecrypt bench: what this machine's encryption and a mount on it can do."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import Progress

from fusecrypt import __version__
from fusecrypt.cli.terminal import hint, say
from fusecrypt.errors import UsageError
from fusecrypt.keys.files import replace_file
from fusecrypt.measure.bare import Bare
from fusecrypt.measure.crypto import cases, crypto, versions
from fusecrypt.measure.machine import QUIET, Machine
from fusecrypt.measure.ours import Fusecrypt
from fusecrypt.measure.places import TMPFS, file_system, working_directory
from fusecrypt.measure.plot import to_svg
from fusecrypt.measure.processes import adopt_orphans
from fusecrypt.measure.random_calls import random_calls
from fusecrypt.measure.report import dumps, to_data
from fusecrypt.measure.results import Results
from fusecrypt.measure.runner import Plan, Say, check_room, order, run_rounds
from fusecrypt.measure.small_files import small_files
from fusecrypt.measure.streams import streams
from fusecrypt.measure.table import LEGEND, tables
from fusecrypt.measure.workload import FULL, QUICK, TINY, Scale

_WORKLOADS = {"streams": streams, "random": random_calls, "small": small_files}
_INCOMPLETE = 5
_PLOT_MODE = 0o644
_WIDTH = 110
"""Columns of a table that does not go to a terminal."""


@click.command(short_help="Measure encryption and a mount on this machine.")
@click.argument("directory", type=click.Path(readable=False), required=False, metavar="[DIR]")
@click.option("--full", "scale", flag_value="full", help="Larger files, five rounds: takes much longer.")
@click.option("--tiny", "scale", flag_value="tiny", help="Only shows that it works; measures nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print every sample as JSON instead of tables.")
@click.option(
    "--plot", type=click.Path(path_type=Path, resolve_path=True), metavar="FILE",
    help="Draw the results (SVG).",
)  # fmt: skip
def bench(directory: str | None, scale: str | None, as_json: bool, plot: Path | None) -> int:
    """Measure this machine: native encryption, then a file system in DIR.

    Extents are encrypted and decrypted with each cipher, key size and number of extents a call, on one core,
    beside what the machine can do at most: ipsec-mb alone, OpenSSL, copying. In DIR a new tree is made,
    mounted, measured beside the bare directory, and removed; without DIR there is only encryption. Takes
    about two minutes; DIR needs 600 MiB.

    Exit statuses: 0 all was measured; 1 DIR cannot be used or is too full, or interrupted; 5 something was
    left out, as a line says.
    """
    if plot is not None:
        _check_plot(plot)
    signal.signal(signal.SIGTERM, _interrupt)
    adopt_orphans()
    results = _measure(directory, {"full": FULL, "tiny": TINY}.get(scale or "", QUICK))
    if as_json:
        click.echo(dumps(to_data(results)), nl=False)
    else:
        _print(results)
    if plot is not None:
        replace_file(plot, to_svg(results).encode(), mode=_PLOT_MODE)
    for reason in results.left_out:
        say(f"left out: {reason}")
    return _INCOMPLETE if results.left_out else 0


def _check_plot(plot: Path) -> None:
    """Raises UsageError for what could not be written once all is measured."""
    if not os.access(plot.parent, os.W_OK | os.X_OK) or (plot.exists() and not plot.is_file()):
        raise UsageError(f"{plot} cannot be written to", "name a file in a directory that you may write to")


def _measure(directory: str | None, scale: Scale) -> Results:
    """Raises BenchError if ``directory`` cannot be used, before anything is measured."""
    machine, todo = Machine.look(), cases()
    results = Results(
        place="memory", scale=scale.name, date=time.strftime("%Y-%m-%d"), build=__version__,
        machine=str(machine), load=machine.load, versions=versions(),
    )  # fmt: skip
    with ExitStack() as stack:
        plan = None
        if directory is not None:
            place = stack.enter_context(working_directory(directory))
            check_room(place, scale)
            results.place = file_system(place)
            contenders = [Fusecrypt(), Bare()]
            results.versions[Bare.name] = contenders[-1].version()
            plan = Plan(place, results.place != TMPFS, scale, contenders, _WORKLOADS)
        steps = scale.rounds * len(todo) + (len(list(order(plan))) if plan else 0)
        step = stack.enter_context(_progress(steps))
        crypto(results, scale, todo, step)
        if plan is not None:
            run_rounds(plan, results, step)
    return results


@contextmanager
def _progress(steps: int) -> Iterator[Say]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=steps)

        def step(text: str) -> None:
            progress.update(task, description=text, advance=1)

        yield step


def _print(results: Results) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    console.print(f"{results.machine}; load {results.load:.2f} before the run", highlight=False)
    console.print(", ".join(f"{name} ({what})" for name, what in results.versions.items()), highlight=False)
    for table in tables(results):
        console.print(table)
    console.print(LEGEND, highlight=False)
    if results.load >= QUIET:
        hint("the machine was busy: the figures are lower than they should be")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
