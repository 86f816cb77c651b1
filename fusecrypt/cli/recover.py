"""fusecrypt recover: find the trees in a restored home, disk or backup, and open them with one secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.copying import copy_options
from fusecrypt.cli.output import Failures, json_option, json_path, write_json, write_line
from fusecrypt.cli.recovered import check_export, export_all, mount_all
from fusecrypt.cli.terminal import ask_secret, has_terminal, say, shell_words
from fusecrypt.errors import NotEcryptfsError, UsageError
from fusecrypt.escape import escaped
from fusecrypt.native import Secret, harden_process
from fusecrypt.offline.material import Material, beside, examine_all
from fusecrypt.offline.recover import (
    Attempt,
    Offer,
    attempt,
    mount_words,
    offers,
    offers_without_secret,
    salts,
)
from fusecrypt.offline.rules import Rules
from fusecrypt.offline.search import Findings, search
from fusecrypt.sources import secrets
from fusecrypt.sources.person import describe

_NO_KEY = 3


@dataclass(frozen=True)
class Given:
    """What the command line says about keys."""

    passfile: Sequence[str]
    passphrase_fd: Sequence[int]
    extpass: Sequence[str]
    salt: str | None
    keys: Sequence[Path]

    def secrets(self) -> list[Secret]:
        """Each secret that was named. Raises SecretError."""
        found = [secrets.from_file(path) for path in self.passfile]
        found += [secrets.from_descriptor(fd) for fd in self.passphrase_fd]
        return found + [secrets.from_command(command) for command in self.extpass]


@click.command(short_help="Find trees on an old disk or backup, and try a secret on them.")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--passfile", multiple=True, metavar="FILE", help="Secret: FILE's first line; - is stdin.")
@click.option("--passphrase-fd", multiple=True, type=int, metavar="N", help="Secret from descriptor N.")
@click.option("--extpass", multiple=True, metavar="CMD", help="Secret: the first line CMD prints.")
@click.option("--salt", metavar="HEX", help="Salt of the content key, 16 hex digits.")
@click.option(
    "--keys", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
    help="Key files, or a directory with such, that lie elsewhere.",
)  # fmt: skip
@click.option("--mount", "mountpoint", metavar="MNT", help="Mount what opens, read-only, on MNT.")
@click.option(
    "--export", "destination", type=click.Path(path_type=Path), metavar="DEST",
    help="Copy what opens, decrypted, into DEST; the options from --keep-going on are for that.",
)  # fmt: skip
@copy_options
@json_option
def recover(
    directory: Path,
    mountpoint: str | None,
    destination: Path | None,
    rules: Rules,
    ignore_space: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Find the eCryptfs trees in DIR, a restored home, disk, backup or share, and open them with one secret.

    It finds whole encrypted homes (home/.ecryptfs/USER), private directories, shares of a NAS and trees
    that lie anywhere, and beside them, or anywhere in DIR: wrapped passphrases, exported keys of a NAS,
    key-slot files, and salts. One secret is asked for, unless options give some, and tried on every tree as
    all that it can be: mount passphrase, login passphrase, slot passphrase, recovery key. Then it says which
    trees opened, and with what, and which did not.

    With --mount they are mounted: one tree on MNT itself, several in directories in MNT that are named
    after their users or shares. With --export they are copied as `fusecrypt export` does it, and begun again
    it goes on where it was: if there is one tree in DIR into DEST itself, if there are several, opened or
    not, into such directories in DEST. Otherwise it says which commands to use. DIR is never changed.

    \b
    fusecrypt recover /mnt/old-disk
    fusecrypt recover --passfile FILE --keys /media/stick --mount /mnt/saved /backup/home
    fusecrypt recover --keep-going --export ~/saved /mnt/old-disk

    Exit statuses: 0 all trees opened, and are exported; 1 something cannot be read, mounted or written; 2
    wrong command line; 3 a tree did not open, or no key opens an object; 4 there is no eCryptfs tree in DIR,
    or an object is damaged; 5 FUSE is missing for --mount. The highest holds.
    """
    harden_process()
    if mountpoint is not None and destination is not None:
        raise UsageError("--mount and --export do not go together", "name one of them")
    if destination is not None:
        check_export(directory, destination)
    options = Given(**given)
    with ExitStack() as stack:
        findings = search(directory)
        _say_elsewhere(findings)
        if not findings.trees:
            raise NotEcryptfsError(
                f"there is no eCryptfs tree in {directory}",
                f"`fusecrypt identify {directory}` says what there is",
            )
        found = _material(findings, options.keys)
        attempts = _attempts(findings, found, options, stack)
        failures = Failures()
        mounted = {} if mountpoint is None else mount_all(attempts, mountpoint, failures)
        exported = {}
        if destination is not None:
            exported = export_all(attempts, destination, rules, failures, check_room=not ignore_space)
        for each in attempts:
            if as_json:
                write_json(_json(each, mounted.get(each.lower), exported.get(each.lower)))
            else:
                _print(each, mountpoint is None and destination is None)
    return max(failures.status, 0 if all(each.policy for each in attempts) else _NO_KEY)


def _say_elsewhere(findings: Findings) -> None:
    for path in findings.unreadable:
        say(f"{path} cannot be read: it is passed over")
    for path, what in findings.others:
        say(f"{path} is something else: {what.name}")
    for link, target in findings.links:
        if not any(tree.parts[-2:] == target.parts[-2:] for tree in findings.trees):
            say(f"{link} leads to {target}, which is not in here")


def _material(findings: Findings, elsewhere: Sequence[Path]) -> list[Material]:
    paths = list(findings.material)
    for path in elsewhere:
        paths += search(path).material if path.is_dir() else [path]
    for part in findings.parts:
        paths += beside(part.path, sorted(part.signatures))
    found, refusals = examine_all(paths)
    for refusal in refusals:
        say(refusal)
    return found


def _attempts(findings: Findings, found: list[Material], options: Given, stack: ExitStack) -> list[Attempt]:
    """Try what needs no secret, then what was given, and ask only if a tree is still closed."""
    known: list[Offer] = []
    all_salts = [*([secrets.parse_salt(options.salt)] if options.salt else []), *salts(found)]

    def take(more: Iterator[Offer]) -> list[Attempt]:
        for offer in more:
            stack.callback(offer.wipe)
            known.append(offer)
        return [attempt(tree, known) for tree in findings.trees]

    attempts = take(offers_without_secret(found))
    given = options.secrets()
    if not given and has_terminal() and not all(each.policy for each in attempts):
        given = [ask_secret("login passphrase, mount passphrase or recovery key")]
    for secret in given:
        with secret:
            attempts = take(offers(secret, found, all_salts))
    return attempts


def _commands(each: Attempt) -> Iterator[tuple[str, str]]:
    words = [*mount_words(each.lower, each.used), str(each.lower.absolute())]
    yield "mount", shell_words(["fusecrypt", "mount", "-o", "ro", *words, "MOUNTPOINT"])
    yield "export", shell_words(["fusecrypt", "export", *words, "DEST"])
    yield "list", shell_words(["fusecrypt", "ls", *words])


def _print(each: Attempt, commands: bool) -> None:
    path = escaped(str(each.lower))
    if each.policy is None:
        assert each.error is not None
        write_line(f"{path}: not opened: {escaped(describe(each.error))}")
        for found in examine_all(beside(each.lower, ()))[0]:
            write_line(f"  {'key':<8}{escaped(f'{found.path}: {found.what}')}")
        return
    how = " and ".join(escaped(offer.how) for offer in each.used)
    write_line(f"{path}: opened with {how}")
    if commands:
        for name, value in _commands(each):
            write_line(f"  {name:<8}{value}")


def _json(each: Attempt, mounted: str | None, exported: Path | None) -> dict[str, Any]:
    return {
        **json_path("lower", bytes(each.lower)),
        "opened": each.policy is not None,
        "with": [offer.how for offer in each.used],
        "options": mount_words(each.lower, each.used),
        "signatures": [token.sig for token in each.policy.content] if each.policy else [],
        "names_encrypted": bool(each.policy and each.policy.names),
        "mountpoint": mounted,
        "exported": None if exported is None else os.fspath(exported),
        "error": describe(each.error) if each.error else None,
    }
