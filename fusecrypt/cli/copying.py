"""What `export` and `import` have in common: their options, what they say, and their exit status."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.activity import amount
from fusecrypt.cli.output import Failures
from fusecrypt.cli.terminal import say
from fusecrypt.errors import UsageError
from fusecrypt.mount.mounts import FSTYPE, mount_table
from fusecrypt.offline.items import Problem, Tally
from fusecrypt.offline.patterns import Selection
from fusecrypt.offline.rules import Rules

_OPTIONS = (
    click.option("-k", "--keep-going", is_flag=True, help="Name what cannot be copied, and go on."),
    click.option("--overwrite", is_flag=True, help="Replace files that are in the way and differ."),
    click.option("--special", is_flag=True, help="Copy device nodes, set-id bits and capabilities too."),
    click.option(
        "--include", multiple=True, metavar="PATTERN", help="Copy only what matches, and its inside."
    ),
    click.option(
        "--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches, and its inside."
    ),
    click.option("--ignore-space", is_flag=True, help="Begin although there seems to be too little room."),
)


def copy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with the options of a copy; it gets ``rules`` and ``ignore_space``."""

    @functools.wraps(command)
    def collected(
        *arguments: Any,
        keep_going: bool,
        overwrite: bool,
        special: bool,
        include: Sequence[str],
        exclude: Sequence[str],
        **named: Any,
    ) -> Any:
        rules = Rules(Selection(include, exclude), keep_going, overwrite, special)
        return command(*arguments, rules=rules, **named)

    decorated = collected
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


class Report:
    """Says every object that is not copied as it is, one line each; ``status`` is the exit status."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._failures = Failures()
        self._count = 0

    @property
    def status(self) -> int:
        return self._failures.status

    def tell(self, problem: Problem) -> None:
        self._count += problem.status > 0
        self._failures.note(problem.path or b".", problem.reason, problem.status)

    def end(self, done: str) -> None:
        """Say what was done: ``exported``."""
        tally = self.tally
        there = f", {tally.there} of them earlier" if tally.there else ""
        failed = f"; {self._count} problems are named above" if self._count else ""
        say(f"{done} {tally.objects} objects, {amount(tally.octets)}{there}{failed}")


def check_not_mounted_there(lower: Path, other: Path) -> None:
    """Raises UsageError if a mount of the tree leads to the other place: it would be copied into itself."""
    real, place = os.path.realpath(lower), Path(os.path.realpath(other))
    for mount in mount_table():
        if mount.fstype in (FSTYPE, "ecryptfs") and mount.source == real and place.is_relative_to(mount.path):
            raise UsageError(f"{other} lies in a mount of {lower}", "choose another place")
