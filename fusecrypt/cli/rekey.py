"""fusecrypt rekey: another passphrase for an existing tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from fusecrypt.cli.activity import Activity
from fusecrypt.cli.key.access import new_secret
from fusecrypt.cli.output import printable
from fusecrypt.cli.source_tree import key_options
from fusecrypt.cli.terminal import hint, say
from fusecrypt.cli.unmounted import check_outside, lock_unmounted
from fusecrypt.errors import KeyNotFoundError, NotEcryptfsError, UsageError
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from fusecrypt.mount.lock import Use
from fusecrypt.native import harden_process
from fusecrypt.offline.journal import Journal
from fusecrypt.offline.rekey import Keys, Left, Rekeying
from fusecrypt.sources.gather import gather
from fusecrypt.sources.given import KeyOptions
from fusecrypt.sources.request import Request
from fusecrypt.sources.vouching import unproven
from fusecrypt.tree.resolve import Candidates, resolve
from fusecrypt.tree.survey import Walk

_FIRST = (
    "file keys stay as they are: whoever had the old key may have kept them",
    "while names change only fusecrypt, given both keys and reading only, shows all of them",
    "headers change, sizes and times do not: backups that go by these must be refreshed",
)


@click.command(short_help="Give a tree another passphrase; contents stay as they are.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.option("--new-passfile", metavar="FILE", help="The new passphrase: FILE's first line; - is stdin.")
@click.option("--keep-old", is_flag=True, help="Add the new passphrase to the files; names keep the old key.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Undo journal, outside of LOWER; by default LOWER.rekey.",
)
@key_options
def rekey(
    lower: Path,
    new_passfile: str | None,
    keep_old: bool,
    dry_run: bool,
    journal: Path | None,
    keys: KeyOptions,
) -> int:
    """Give the tree LOWER another mount passphrase. Contents are not encrypted anew: file keys stay.

    First every file gets the new key beside the old one, then names and symlink targets are encrypted with
    the new name key, then the old keys that were given go. The keys that open the tree now are taken as
    `fusecrypt mount` takes them. With --keep-old the first step is all: both passphrases open the files, and
    encrypted names need the old one.

    The tree must not be mounted. A run that was interrupted is begun again with the same words: it goes on
    where it was, and until then no file is without a key. Each header is in the journal, flushed, until it
    is written and flushed. Times, modes and owners stay. The kernel reads the result.

    Exit statuses: 0 done; 1 the tree is mounted, or something could not be read or written: in the first
    two steps then no old key is taken away, in the last one only what is named keeps its old key, and the
    run is to be begun again; 2 wrong command line; 3 no key opens the tree, or a file has other keys and was
    left; 4 an object is damaged or foreign and was left, or LOWER holds no eCryptfs data.
    """
    harden_process()
    journal = journal or lower.absolute().with_name(lower.absolute().name + ".rekey")
    check_outside(lower, journal, "name a file elsewhere: --journal FILE")
    root_fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock_unmounted(root_fd, lower, Use.REBUILD)
        for line in _FIRST[: 1 if keep_old else None]:
            say(line)
        its_keys = _keys(root_fd, lower, keys, new_passfile, begun=os.path.lexists(journal))
        with _opened(journal, root_fd, its_keys.content, dry_run) as opened:
            activity = Activity()
            run = Rekeying(root_fd, its_keys, opened, lambda: activity.show(f"{run.done.objects} objects"))
            status = _run(run, activity, keep_old, dry_run)
            if opened is not None and run.done.is_whole:
                opened.remove()
        return status
    finally:
        os.close(root_fd)


def _run(run: Rekeying, activity: Activity, keep_old: bool, dry_run: bool) -> int:
    undone = run.undo_interrupted()
    if undone:
        say(f"put back {undone} headers that an interrupted run was writing")
    run.add()
    if not keep_old and run.done.is_whole:
        run.rename()
        if run.done.is_whole:
            run.drop()
    activity.clear()
    _report_left(run.done.left)
    done, would = run.done, "would be " if dry_run else ""
    dropped = done.added if dry_run and not keep_old else done.dropped
    say(
        f"the new key {would}added to {done.added} files, {done.renamed} names {would}changed, "
        f"old keys {would}taken from {dropped} files"
    )
    if not done.is_whole:
        hint("see to what is named above and begin again with the same keys; until then both may be needed")
    elif not dry_run and not keep_old:
        hint("key-slot files, wrapped passphrases, Private.sig, fstab and manifests still go by the old key")
    return max((left.status for left in done.left), default=0) if done.is_whole else 1


def _report_left(left: list[Left]) -> None:
    for path, reason in dict.fromkeys((each.path, each.reason) for each in left):
        say(f"{printable(path or b'.')}: {reason}")


def _keys(root_fd: int, lower: Path, keys: KeyOptions, new_passfile: str | None, *, begun: bool) -> Keys:
    """The keys that open the tree now, once they have proved to, and those of the new passphrase.

    Near the end of a run that was ``begun`` nothing has the old keys any more: then the new ones do as well.
    """
    walk = Walk(root_fd)
    if not walk.first_findings().is_ecryptfs:
        raise NotEcryptfsError(f"{lower} holds no eCryptfs data", "check the path")
    options = keys.options.tree_options()
    gathered = gather(Request(keys.sources, keys.slots, keys.options, lower, walk))
    if not begun:
        resolve(iter(walk), gathered.candidates, options)
    old = {token.signature: token for each in gathered.candidates for token in each.tokens}
    if gathered.read_only or unproven([old[sig] for sig in gathered.unproven & set(old)], walk):
        raise KeyNotFoundError(
            "the keys may be forged, so nothing is written with them",
            "give the mount passphrase, or restore the key-slot file from a backup",
        )
    with new_secret(new_passfile, "mount passphrase") as passphrase:
        content = AuthToken.from_passphrase(passphrase)
        names = AuthToken.from_passphrase(passphrase, FNEK_SALT)
    if content.signature in old:
        raise UsageError("the new passphrase is the old one", "choose another one")
    if begun:
        resolve(iter(walk), [Candidates(content, names, tuple(old.values()))], options)
    return Keys(tuple(old.values()), content, names)


@contextmanager
def _opened(path: Path, root_fd: int, new: AuthToken, dry_run: bool) -> Iterator[Journal | None]:
    if dry_run:
        yield None
        return
    journal = Journal(path, os.fstat(root_fd).st_ino, new.sig)
    try:
        yield journal
    finally:
        journal.close()
