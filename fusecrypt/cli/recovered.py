"""What `recover` does with the trees that opened: it mounts them, or exports them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from fusecrypt.cli.copying import Report, check_not_mounted_there
from fusecrypt.cli.mount import fuse_options
from fusecrypt.cli.output import Failures
from fusecrypt.cli.progress import progress
from fusecrypt.cli.terminal import say
from fusecrypt.mount import spawn
from fusecrypt.mount.config import MountConfig
from fusecrypt.native import open_quietly
from fusecrypt.offline.export import check_apart, export_tree
from fusecrypt.offline.recover import Attempt, label
from fusecrypt.offline.rules import Rules
from fusecrypt.sources.options import MountOptions
from fusecrypt.tree.tree import Tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def check_export(directory: Path, destination: Path) -> None:
    """Raises UsageError where the copies would lie in what is searched, or it in them; OSError."""
    fd = open_quietly(directory, _DIRECTORY)
    try:
        check_apart(fd, destination)
    finally:
        os.close(fd)


def export_all(
    attempts: Sequence[Attempt], destination: Path, rules: Rules, failures: Failures, *, check_room: bool
) -> dict[Path, Path]:
    """Copy what opened; returns what was copied where.

    The places depend on the trees that were found, not on those that opened, so that another run with
    another secret goes on in the same ones. Raises OSError.
    """
    places = [destination]
    if len(attempts) > 1:
        places = [destination / name for name in _labels(attempts)]
        os.makedirs(destination, exist_ok=True)
    exported = {}
    for each, place in zip(attempts, places, strict=True):
        if each.policy is None:
            continue
        with failures.of(bytes(each.lower)):
            check_not_mounted_there(each.lower, place)
            say(f"{each.lower} is exported to {place}")
            report = Report()
            try:
                _export(each, place, rules, report, check_room)
            finally:
                failures.status = max(failures.status, report.status)
            report.end("exported")
            exported[each.lower] = place
    return exported


def _export(each: Attempt, place: Path, rules: Rules, report: Report, check_room: bool) -> None:
    assert each.policy is not None
    tree = Tree(open_quietly(each.lower, _DIRECTORY), each.policy)
    with closing(tree), progress(report.tally):
        export_tree(tree, place, rules, report.tell, report.tally, check_room=check_room)


def mount_all(attempts: Sequence[Attempt], mountpoint: str, failures: Failures) -> dict[Path, str]:
    """Mount what opened; returns what is mounted where."""
    opened = [each for each in attempts if each.policy is not None]
    spawn.check_directory("mount point", mountpoint)
    places = (
        [mountpoint] if len(opened) == 1 else [os.path.join(mountpoint, name) for name in _labels(opened)]
    )
    mounted = {}
    for each, place in zip(opened, places, strict=True):
        with failures.of(bytes(each.lower)):
            if place != mountpoint:
                os.makedirs(place, exist_ok=True)
            _mount(each, place)
            mounted[each.lower] = place
            say(f"{each.lower} is mounted read-only on {place}")
    return mounted


def _labels(opened: Sequence[Attempt]) -> list[str]:
    """A directory name for each, all different."""
    names: list[str] = []
    for each in opened:
        name, number = label(each.lower), 1
        while name in names:
            number += 1
            name = f"{label(each.lower)}-{number}"
        names.append(name)
    return names


def _mount(each: Attempt, place: str) -> None:
    assert each.policy is not None
    spawn.check_places(str(each.lower), place)
    config = MountConfig(
        lower=str(each.lower),
        mountpoint=os.path.realpath(place),
        policy=each.policy,
        options=fuse_options(MountOptions(), read_only=True),
        key_source=" and ".join(offer.how for offer in each.used),
    )
    with spawn.Daemon() as daemon:
        daemon.serve(config, os.open(each.lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
