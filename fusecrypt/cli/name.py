"""fusecrypt name: convert names of a tree, in arguments or as a filter."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click

from fusecrypt.cli.output import Failures, null_option, printable
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.errors import UsageError
from fusecrypt.offline.convert import decrypt_text, encrypt_path
from fusecrypt.sources.given import KeyOptions
from fusecrypt.tree.names import NameCodec

_BLOCK = 1 << 16


@click.command(short_help="Decrypt names in any text, or encrypt them.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Path(path_type=bytes), metavar="[NAME]...")
@click.option("-e", "--encrypt", is_flag=True, help="The other way: from upper to lower names.")
@null_option
@key_options
def name(lower: Path, names: Sequence[bytes], encrypt: bool, null: bool, keys: KeyOptions) -> int:
    """Decrypt each encrypted name in NAME under the key of the tree LOWER; without NAME, filter standard
    input line by line.

    A NAME or line may be any text: a path, a line of a log, of `ls -l`, of rsync. What is no encrypted name
    stays as it is. With --encrypt each is a path, and each name in it is encrypted. Whether there is such a
    file does not matter (`fusecrypt find` tells). The key is taken as `fusecrypt mount` takes it.

    \b
    fusecrypt name ~/.Private ECRYPTFS_FNEK_ENCRYPTED.FWb...
    rsync -n ... | fusecrypt name --passfile FILE /backup/.Private
    fusecrypt name --encrypt ~/.Private Documents/letter.txt

    Exit statuses: 0 all were converted; 1 a name cannot be encrypted; 3 no key opens the tree; 4 a name is
    of another key or damaged, or LOWER holds no eCryptfs data.
    """
    if not names and "-" in keys.sources.passfile:
        raise UsageError("standard input cannot give the passphrase and the names", "use --passphrase-fd N")
    failures = Failures()
    end = b"\0" if null else b"\n"
    with open_tree(lower, keys) as tree:
        convert = _encrypt if encrypt else _decrypt
        for line in names or _lines(sys.stdin.buffer, end):
            for converted in convert(tree.codec, line, null, failures):
                sys.stdout.buffer.write(converted + end)
                sys.stdout.buffer.flush()
    return failures.status


def _lines(source: BinaryIO, end: bytes) -> Iterator[bytes]:
    """What ``end`` separates; the last one may lack it."""
    if end == b"\n":
        yield from (line.removesuffix(end) for line in source)
        return
    rest = b""
    while block := source.read(_BLOCK):
        *whole, rest = (rest + block).split(end)
        yield from whole
    if rest:
        yield rest


def _decrypt(codec: NameCodec, line: bytes, null: bool, failures: Failures) -> Iterable[bytes]:
    converted, failed = decrypt_text(codec, line, bytes if null else lambda name: printable(name).encode())
    if failed:
        failures.note(line, f"{failed} of its names are of another key, or damaged", 4)
    return [converted]


def _encrypt(codec: NameCodec, line: bytes, null: bool, failures: Failures) -> Iterable[bytes]:
    with failures.of(line):
        yield encrypt_path(codec, line)
