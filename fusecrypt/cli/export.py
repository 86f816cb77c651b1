"""fusecrypt export: copy a tree decrypted to a directory or a tar stream, without a mount."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fusecrypt.cli.copying import Report, check_not_mounted_there, copy_options
from fusecrypt.cli.progress import progress
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.cli.workers import worker_options, workers_of
from fusecrypt.errors import UsageError
from fusecrypt.offline.export import export_tar, export_tree
from fusecrypt.offline.rules import Rules
from fusecrypt.sources.given import KeyOptions


@click.command(short_help="Copy a tree out, decrypted; begun again it goes on.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path), metavar="DEST|-")
@copy_options
@worker_options
@key_options
def export(
    lower: Path,
    destination: Path,
    rules: Rules,
    ignore_space: bool,
    keys: KeyOptions,
    dask: str | None,
    worker_key_command: str | None,
) -> int:
    """Copy what the tree LOWER holds, decrypted, into the directory DEST, or as a tar stream to standard
    output (-).

    The contents of LOWER go directly into DEST, which is made if it is absent. Times, modes, owners,
    extended attributes, ACLs, hard links, FIFOs and sockets are kept, as far as DEST and the user's rights
    go. A file has its name in DEST only when it is whole and on the disk; a run that was interrupted goes on
    when it is begun again. What is in DEST is never overwritten, unless --overwrite says so. Needs neither
    FUSE nor root. The key is taken as `fusecrypt mount` takes it. Nothing is written below.

    Without --keep-going the first object that cannot be read or restored ends the run. With it each one is
    named, with the reason, and the others are copied; of a damaged file all extents that can be read are
    kept as NAME.partial, with zeros between them.

    A PATTERN is a shell pattern: without / it is matched with names, with / with whole paths. Excluding
    wins.

    With --dask the workers of a cluster carry the contents, small files in batches and large ones in pieces,
    from LOWER to DEST, which they see under the same paths. They find the key where the options say, or by
    --worker-key-command; it is never sent. The scheduler is one at tls://HOST:PORT, or on this machine.
    Whoever may use it can read the key.

    \b
    fusecrypt export --passfile FILE /backup/.Private ~/restored
    fusecrypt export ~/.Private - | ssh host tar -xpf - --xattrs --acls

    Exit statuses: 0 all is there; 1 something could not be read or written, or DEST is full; 2 wrong command
    line; 3 no key opens the tree, or an object; 4 an object is damaged or foreign, or LOWER holds no
    eCryptfs data. What is left out for want of --special, and owners that only root can set, are named too,
    and are no failures.
    """
    report = Report()
    to_stream = str(destination) == "-"
    if to_stream and sys.stdout.isatty():
        raise UsageError("an archive is not for a terminal", "redirect standard output")
    if to_stream and dask is not None:
        raise UsageError("workers cannot write into a stream", "name a directory that each of them has")
    if not to_stream:
        check_not_mounted_there(lower, destination)
    with (
        open_tree(lower, keys) as tree,
        workers_of(dask, worker_key_command, lower, keys) as workers,
        progress(report.tally),
    ):
        if to_stream:
            export_tar(tree, sys.stdout.buffer, rules, report.tell, report.tally)
        else:
            room = not ignore_space
            export_tree(tree, destination, rules, report.tell, report.tally, check_room=room, workers=workers)
    report.end("exported")
    return report.status
