"""fusecrypt check: what is wrong with a tree, without a mount."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from fusecrypt.cli.activity import amount
from fusecrypt.cli.manifest import read_manifest
from fusecrypt.cli.output import json_option, json_path, printable, write_json, write_line
from fusecrypt.cli.progress import expect_all, with_progress
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.cli.terminal import say
from fusecrypt.cli.unmounted import check_outside, lock_unmounted
from fusecrypt.errors import NotEcryptfsError, UsageError
from fusecrypt.mount.lock import Use
from fusecrypt.native import open_quietly
from fusecrypt.offline.check import Checker
from fusecrypt.offline.findings import Finding, Kind
from fusecrypt.offline.fit import TARGET_MAX, Room, too_long
from fusecrypt.offline.lower import DIRECTORY
from fusecrypt.offline.manifest import Comparison
from fusecrypt.offline.quarantine import LOG, Quarantine
from fusecrypt.offline.repair import Outcome, repair
from fusecrypt.offline.repair import undo as undo_repairs
from fusecrypt.sources.given import KeyOptions
from fusecrypt.tree.survey import Walk
from fusecrypt.tree.tree import Tree


@click.command(short_help="Look for damage in all of a tree, and mend what can be.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.option("--no-key", is_flag=True, help="Look as far as that goes without a key.")
@click.option("--all", "every", is_flag=True, help="Print good objects too.")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Name what in the plain directory DIR is too long to import.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare the contents with FILE of `fusecrypt manifest`.",
)
@click.option(
    "--verify-key", type=click.Path(path_type=Path), metavar="KEY", help="Its public Ed25519 key, PEM."
)
@click.option(
    "--repair",
    "repair_to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Repair what can be without any loss, with an undo log in DIR.",
)
@click.option(
    "--undo",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Undo the repairs that are logged in DIR, and nothing else.",
)
@json_option
@key_options
def check(
    lower: Path,
    no_key: bool,
    every: bool,
    source: Path | None,
    manifest: Path | None,
    verify_key: Path | None,
    repair_to: Path | None,
    undo: Path | None,
    as_json: bool,
    keys: KeyOptions,
) -> int:
    """Look at every object in the tree LOWER and print what is wrong with it.

    Each finding is one line: its kind, the path in the decrypted tree and the lower one, and more about it.
    All files are read from beginning to end. eCryptfs has no integrity: data that was changed, but not
    zeroed or cut, is noticed with --manifest only. The key is taken as `fusecrypt
    mount` takes it; without one (--no-key) names and symlink targets are checked by their form only, and
    keys are not missed. Nothing is written below.

    \b
    notes      empty lower file, longer than its size field says, header unlike the others
    status 1   unreadable; too long to import
    status 3   unknown key; name under another key
    status 4   no eCryptfs file; damaged header; header octets changed; header attribute damaged; cut in
               the header; cut in the data; zeros where encrypted data should be; no zeros after its end;
               size field far below the length; its keys disagree; undecodable name or symlink target;
               name not encrypted; two lower names for one name; not as in the manifest

    With -o ecryptfs_passthrough files that are no eCryptfs files are good.

    --repair changes only what no reader goes by, or nobody sees: header octets that are ignored, cut headers
    of empty files, names that prove to be the tree's in another form or under another key at hand; of two
    lower names for one name the one that is not found is moved into DIR, which is made, on the same file
    system. Each change is in the log before it is made. The exit status is that of the findings. Neither
    --repair nor --undo runs while the tree is mounted.

    Exit statuses: the highest of all findings, 0 if there are only notes; 2 wrong command line; 3 also: no
    key opens the tree; 4 also: LOWER holds no eCryptfs data.
    """
    if undo is not None:
        return _undo(lower, undo)
    if no_key and (manifest or repair_to):
        raise UsageError("manifests and repairs need the key", "leave out --no-key")
    if repair_to is not None:
        check_outside(lower, repair_to, "name a directory beside it")
        if (repair_to / LOG).exists():
            raise UsageError(
                f"{repair_to} has an undo log already", "name another directory, or undo it first"
            )
    report = Report(as_json, every, remember=repair_to is not None)
    with _opened(lower, None if no_key else keys) as (root_fd, tree):
        if repair_to is not None:
            lock_unmounted(root_fd, lower, Use.REBUILD)
        listed = read_manifest(tree, manifest, verify_key) if tree and manifest else None
        comparison = None if listed is None else Comparison(listed)
        checker = Checker(root_fd, tree.policy if tree else None, os.cpu_count() or 1, comparison)
        expect_all(root_fd, checker.tally)
        with closing(checker.findings()) as findings:
            report.take(with_progress(findings, checker.tally))
        if source is not None:
            report.take(_too_long(source, tree))
        report.end(checker)
        if tree and repair_to is not None:
            _repair(lower, tree, report.wrong, repair_to)
    return report.status


def _repair(lower: Path, tree: Tree, wrong: list[Finding], directory: Path) -> None:
    done = 0
    with closing(Quarantine(directory, os.fstat(tree.root_fd).st_ino, new=True)) as quarantine:
        for outcome in repair(tree.root_fd, tree.policy, wrong, quarantine):
            _say(outcome)
            done += bool(outcome.done)
        if not done:
            quarantine.remove()
    undo_words = shlex.join(["fusecrypt", "check", "--undo", str(directory), str(lower)])
    say(f"repaired {done}; to undo: {undo_words}" if done else "nothing was repaired")


def _undo(lower: Path, directory: Path) -> int:
    status = 0
    root_fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock_unmounted(root_fd, lower, Use.REBUILD)
        with closing(Quarantine(directory, os.fstat(root_fd).st_ino, new=False)) as quarantine:
            for outcome in undo_repairs(root_fd, quarantine):
                _say(outcome)
                status = 1 if outcome.refused else status
    finally:
        os.close(root_fd)
    return status


def _say(outcome: Outcome) -> None:
    text = outcome.done or f"left as it is: {outcome.refused}"
    say(f"{printable(outcome.path)}: {text}")


@dataclass
class Report:
    """Prints findings and counts them. ``status`` is the worst so far; ``wrong`` are those that are not good,
    if it is to ``remember`` them."""

    as_json: bool
    every: bool
    remember: bool
    status: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    wrong: list[Finding] = field(default_factory=list)

    def take(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.status = max(self.status, finding.status)
            self.counts[finding.kind] += 1
            if self.remember and not finding.is_good:
                self.wrong.append(finding)
            if self.every or not finding.is_good:
                self._write(finding)

    def end(self, checker: Checker) -> None:
        """The summary."""
        if self.as_json:
            counts = {kind.name.lower(): count for kind, count in self.counts.items()}
            write_json({"summary": counts, "objects": checker.tally.objects, "status": self.status})
            return
        found = ", ".join(f"{count} {kind.value}" for kind, count in self.counts.most_common())
        write_line(f"{_progress(checker)}: {found or 'nothing in it'}")

    def _write(self, finding: Finding) -> None:
        if self.as_json:
            upper = {} if finding.upper is None else json_path("upper", finding.upper)
            paths = {**json_path("lower", finding.lower), **upper}
            kind = {"kind": finding.kind.name.lower(), "status": finding.status}
            write_json({**kind, **paths, "detail": finding.detail})
            return
        lower = printable(finding.lower or b".")
        same = finding.upper is None or finding.upper == finding.lower
        path = lower if same else f"{printable(finding.upper or b'.')} ({lower})"
        write_line(f"{finding.kind.value}: {path}" + (f": {finding.detail}" if finding.detail else ""))


def _progress(checker: Checker) -> str:
    return f"{checker.tally.objects} objects, {amount(checker.tally.octets)}"


@contextmanager
def _opened(lower: Path, keys: KeyOptions | None) -> Iterator[tuple[int, Tree | None]]:
    if keys is not None:
        with open_tree(lower, keys) as tree:
            yield tree.root_fd, tree
        return
    root_fd = open_quietly(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not Walk(root_fd).first_findings().is_ecryptfs:
            raise NotEcryptfsError(f"{lower} holds no eCryptfs data", "check the path")
        yield root_fd, None
    finally:
        os.close(root_fd)


def _too_long(source: Path, tree: Tree | None) -> Iterator[Finding]:
    room = Room(tree.statfs()[1], tree.codec.longest(TARGET_MAX)) if tree else Room()
    fd = open_quietly(source, DIRECTORY)
    try:
        yield from too_long(fd, room)
    finally:
        os.close(fd)
