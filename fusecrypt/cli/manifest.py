"""fusecrypt manifest: a list of what a tree holds, made and compared."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from fusecrypt.cli.activity import amount
from fusecrypt.cli.output import Failures, json_option, json_path, printable, write_json, write_line
from fusecrypt.cli.progress import expect_all, with_progress
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.cli.terminal import say
from fusecrypt.cli.unmounted import check_outside
from fusecrypt.errors import UsageError
from fusecrypt.offline import manifest as manifests
from fusecrypt.offline.digests import Digester, Object, Unreadable
from fusecrypt.offline.manifest import Difference
from fusecrypt.offline.seals import KeyCheck, KeySeal, SignatureCheck, SignatureSeal
from fusecrypt.sources.given import KeyOptions
from fusecrypt.tree.tree import Tree


@click.group(short_help="Keep a list that shows later what has changed.")
def manifest() -> None:
    """Keep a list of what a tree holds, outside the tree, to find whatever changes in it.

    \b
    fusecrypt manifest create ~/.Private ~/private.manifest
    fusecrypt manifest verify ~/.Private ~/private.manifest

    eCryptfs itself has no integrity: contents can be damaged, and files exchanged or put back, unnoticed.
    The manifest lists names, sizes and digests in plain text. docs/manifest.md describes the format.
    """


@manifest.command(short_help="List what a tree holds.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sign", type=click.Path(path_type=Path), metavar="KEY", help="Private Ed25519 key, PEM.")
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it is there.")
@key_options
def create(lower: Path, file: Path, sign: Path | None, force: bool, keys: KeyOptions) -> int:
    """List what the tree LOWER holds in FILE, which must lie outside of it.

    All files are read, in parallel. The list is authenticated with a key that derives from the tree's
    content key, so whoever has that key can make another list; with --sign it is signed instead. FILE is
    written whole or not at all. It shows names and sizes: keep it as you keep the contents.

    Exit statuses: 0 done; 1 FILE cannot be written, or an object not be read: it is named, and not listed;
    2 wrong command line; 3 no key opens the tree, or an object; 4 an object is damaged, or LOWER holds no
    eCryptfs data.
    """
    check_outside(lower, file, "keep the list where the tree is not")
    if os.path.lexists(file) and not force:
        raise UsageError(f"{file} is there already", "choose another name, or add --force")
    failures = Failures()
    with open_tree(lower, keys) as tree:
        seal = SignatureSeal.read(sign) if sign else KeySeal(tree.policy.content[0])
        digester = Digester(tree, os.cpu_count() or 1)
        with _shown(digester, tree) as found:
            manifests.write(file, _listed(found, failures), seal)
    say(f"{file} lists {digester.tally.objects} objects, {amount(digester.octets)}")
    return failures.status


@manifest.command(short_help="Compare a tree with its list.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--verify-key", type=click.Path(path_type=Path), metavar="KEY", help="Public Ed25519 key, PEM.")
@json_option
@key_options
def verify(lower: Path, file: Path, verify_key: Path | None, as_json: bool, keys: KeyOptions) -> int:
    """Compare the tree LOWER with the list in FILE, once that has proved to be authentic.

    Each difference is one line: changed, missing, added or unreadable. All files are read, in parallel. A
    list that was signed needs --verify-key. Owners, modes, times and extended attributes are not compared.

    Exit statuses: 0 all is as it was; 1 an object cannot be read; 2 wrong command line; 3 no key opens the
    tree, or an object, or FILE was made with another key; 4 something differs or is damaged, or FILE is not
    authentic (then nothing was compared), or LOWER holds no eCryptfs data.
    """
    with open_tree(lower, keys) as tree:
        listed = read_manifest(tree, file, verify_key)
        digester = Digester(tree, os.cpu_count() or 1)
        status, counts = 0, Counter[str]()
        with _shown(digester, tree) as found:
            for difference in manifests.compare(listed, found):
                status = max(status, difference.status)
                counts[difference.what] += 1
                _write(difference, as_json)
    if as_json:
        write_json({"summary": dict(counts), "objects": digester.tally.objects, "status": status})
    else:
        result = ", ".join(f"{count} {what}" for what, count in counts.items())
        seen = f"{digester.tally.objects} objects, {amount(digester.octets)}"
        write_line(f"{seen}: {result or 'all as listed'}")
    return status


def read_manifest(tree: Tree, file: Path, verify_key: Path | None) -> dict[bytes, Object]:
    """The objects of an authentic manifest. Raises OSError, FormatError, and SecretError for no key."""
    check = SignatureCheck.read(verify_key) if verify_key else KeyCheck(tree.policy)
    return manifests.read(file, check)


@contextmanager
def _shown(digester: Digester, tree: Tree) -> Iterator[Iterator[Object | Unreadable]]:
    """All that is in the tree, with its progress; no thread reads it any more afterwards."""
    expect_all(tree.root_fd, digester.tally)
    with closing(digester.run()) as found:
        yield with_progress(found, digester.tally)


def _listed(found: Iterable[Object | Unreadable], failures: Failures) -> Iterator[Object]:
    for each in found:
        if isinstance(each, Unreadable):
            failures.note(each.path or b".", each.reason, each.status)
        else:
            yield each


def _write(difference: Difference, as_json: bool) -> None:
    if as_json:
        what = {"what": difference.what, "status": difference.status}
        write_json({**what, **json_path("path", difference.path), "detail": difference.detail})
    else:
        write_line(f"{difference.what}: {printable(difference.path or b'.')}: {difference.detail}")
