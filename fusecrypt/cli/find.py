"""fusecrypt find: from paths in the decrypted tree to paths in the lower one, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fusecrypt.cli.output import Failures, null_option, write_names
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.offline.show import lower_path, upper_path
from fusecrypt.sources.given import KeyOptions


@click.command(short_help="Find the lower file of a file, or the file of a lower one.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=bytes), metavar="PATH...")
@click.option("-u", "--upper", is_flag=True, help="PATH is a lower path: print what it is called above.")
@null_option
@key_options
def find(lower: Path, paths: Sequence[bytes], upper: bool, null: bool, keys: KeyOptions) -> int:
    """Print where PATH of the decrypted tree lies below LOWER, or with --upper the reverse.

    A PATH of the decrypted tree begins at its root. A lower one may begin at LOWER or lead there from
    anywhere. Only what exists is found: `fusecrypt name` converts names that stand in a list. The key is
    taken as `fusecrypt mount` takes it. Nothing is written below.

    \b
    fusecrypt find ~/.Private Documents/letter.txt
    fusecrypt find --upper ~/.Private ~/.Private/ECRYPTFS_FNEK_ENCRYPTED.FWb...

    Exit statuses: 0 all was found; 1 something does not exist; 2 PATH lies outside LOWER; 3 no key opens
    the tree; 4 a name does not decode, or LOWER holds no eCryptfs data.
    """
    failures = Failures()
    with open_tree(lower, keys) as tree:
        for path in paths:
            with failures.of(path):
                if upper:
                    found = upper_path(tree, lower, Path(path.decode(errors="surrogateescape")))
                else:
                    found = bytes(lower) + b"/" + lower_path(tree, path)
                write_names([found], null)
    return failures.status
