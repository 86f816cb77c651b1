"""Exporting and importing in tests: the engine without a command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusecrypt.offline.export import export_tree
from fusecrypt.offline.import_ import import_directory
from fusecrypt.offline.items import Problem, Tally
from fusecrypt.offline.patterns import Selection
from fusecrypt.offline.rules import Rules
from fusecrypt.tree.tree import Tree
from tests.manifest import Entry


def rules(include: Sequence[str] = (), exclude: Sequence[str] = (), **more: Any) -> Rules:
    """Rules that copy everything, unless they say otherwise."""
    return Rules(Selection(include, exclude), **{"special": True, **more})


def exported(
    tree: Tree, destination: Path, rules: Rules, *, check_room: bool = True
) -> tuple[list[Problem], Tally]:
    """Export a tree; what was told."""
    told: list[Problem] = []
    tally = Tally()
    export_tree(tree, destination, rules, told.append, tally, check_room=check_room)
    return told, tally


def imported(source: Path, tree: Tree, rules: Rules) -> tuple[list[Problem], Tally]:
    """Import a directory; what was told."""
    told: list[Problem] = []
    tally = Tally()
    import_directory(source, tree, rules, told.append, tally)
    return told, tally


def told_of(problems: list[Problem]) -> dict[str, tuple[str, int]]:
    """Reason and status by path."""
    return {os.fsdecode(problem.path): (problem.reason, problem.status) for problem in problems}


def readable(entries: list[Entry]) -> list[Entry]:
    """Without what no copy can have: files that the kernel could not read either."""
    return [entry for entry in entries if "error" not in entry]
