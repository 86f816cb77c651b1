"""fusecrypt cat: write decrypted files to standard output without a mount."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fusecrypt.cli.output import Failures
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.offline.show import pieces
from fusecrypt.sources.given import KeyOptions


@click.command(short_help="Write files of a tree to standard output.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=bytes), metavar="PATH...")
@key_options
def cat(lower: Path, paths: Sequence[bytes], keys: KeyOptions) -> int:
    """Write the files PATH inside the tree LOWER to standard output, decrypted, one after the other.

    PATH is a name as the mounted tree would show it. A file of any size is read in pieces of 1 MiB. Of a
    file that is cut short all that is there is written, then an error; the files after it still come. The
    key is taken as `fusecrypt mount` takes it. Nothing is written below.

    \b
    fusecrypt cat --passfile FILE /backup/.Private Documents/letter.txt
    fusecrypt cat ~/.Private photos.tar | tar -x

    Exit statuses: 0 all was written whole; 1 a file is not there or cannot be read; 3 no key opens it;
    4 it is damaged or no eCryptfs file, or LOWER holds no eCryptfs data.
    """
    failures = Failures()
    out = sys.stdout.buffer
    with open_tree(lower, keys) as tree:
        for path in paths:
            for piece in failures.each(path, pieces(tree, path)):
                out.write(piece)
    out.flush()
    return failures.status
