"""fusecrypt import: copy a plain directory into a tree, without a mount."""

from __future__ import annotations

import os
from pathlib import Path

import click

from fusecrypt.cli.copying import Report, check_not_mounted_there, copy_options
from fusecrypt.cli.progress import progress
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.cli.unmounted import lock_unmounted
from fusecrypt.errors import KeyNotFoundError, UsageError
from fusecrypt.mount.lock import Use
from fusecrypt.offline.import_ import import_directory
from fusecrypt.offline.rules import Rules
from fusecrypt.sources.given import KeyOptions


@click.command("import", short_help="Copy a directory into a tree.")
@click.argument("source", type=click.Path(path_type=Path), metavar="SRC")
@click.argument("lower", type=click.Path(path_type=Path))
@copy_options
@key_options
def import_(source: Path, lower: Path, rules: Rules, ignore_space: bool, keys: KeyOptions) -> int:
    """Copy what the directory SRC holds into the root of the tree LOWER, encrypted.

    An empty LOWER becomes a new tree, as with `fusecrypt mount`, with the same options (-o); an existing one
    keeps its ciphers, keys and form of names. The key is taken as `fusecrypt mount` takes it. The tree must
    not be mounted for writing meanwhile. All else is as `fusecrypt export` does it the other way: what is
    kept, what is not overwritten, how a run goes on, and what the options mean. Names and symlink targets
    that are too long once they are encrypted are named before anything is written.

    \b
    mkdir cipher
    fusecrypt import ~/Photos cipher
    fusecrypt import --keep-going --exclude '*.tmp' ~/Photos ~/.Private

    Exit statuses: 0 all is there; 1 something could not be read or written or is too long, LOWER is full, or
    in use; 2 wrong command line; 3 no key opens the tree; 4 LOWER is damaged.
    """
    report = Report()
    check_not_mounted_there(lower, source)
    if "ro" in keys.options.fuse or keys.options.tree_options().encrypted_view:
        raise UsageError("a tree that is opened read-only cannot take anything", "leave out -o ro")
    lock_fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock_unmounted(lock_fd, lower, Use.IMPORT)
        with open_tree(lower, keys, writing=True) as tree, progress(report.tally):
            if tree.policy.read_only:
                raise KeyNotFoundError(
                    "the keys may be forged, so nothing is written with them",
                    "give the mount passphrase, or restore the key-slot file from a backup",
                )
            room = not ignore_space
            import_directory(source, tree, rules, report.tell, report.tally, check_room=room)
    finally:
        os.close(lock_fd)
    report.end("imported")
    return report.status
