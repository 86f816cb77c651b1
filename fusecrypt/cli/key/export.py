"""fusecrypt key export: the existing keys in the kernel's own form, sealed by the TPM."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from fusecrypt.cli import secrets as inputs
from fusecrypt.cli.key.access import Access, unlocking
from fusecrypt.cli.key.trees import beside, each_alone, resolved, walked
from fusecrypt.cli.terminal import say
from fusecrypt.cli.unlock import open_tpm
from fusecrypt.errors import SecretError
from fusecrypt.keys.export import DEFAULT_NAME, GIVES_UP, KernelKeys, export_kernel, mount_line
from fusecrypt.keys.files import write_new
from fusecrypt.keys.token import AuthToken
from fusecrypt.keys.tpm.kernel import read_auth
from fusecrypt.native import Secret


@click.command()
@click.argument("lower", type=click.Path(path_type=Path), required=False)
@click.argument("mountpoint", type=click.Path(path_type=Path), required=False)
@unlocking
@click.option("--format", "form", type=click.Choice(["kernel", "tss2"]), default="kernel", help="For whom.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="Where the files are written, by default here.",
)
@click.option("--name", default=DEFAULT_NAME, metavar="NAME", help="Name of the master key.")
@click.option("--blobauth-file", metavar="FILE", help="The master's auth value: 40 hex digits, no newline.")
def export(
    lower: Path | None,
    mountpoint: Path | None,
    access: Access,
    form: str,
    directory: Path,
    name: str,
    blobauth_file: str | None,
) -> None:
    """Write the keys of LOWER for the kernel's eCryptfs: a trusted master key and encrypted keys under it.

    The tree stays as it is. A fresh master is sealed by this machine's TPM, and the lines that load the keys
    and mount the tree are printed; no secret stands in them. LOWER is by default the tree that the file
    stands beside. tss2 writes the master as a TSS2 PRIVATE KEY (PEM) for other tools.
    """
    for sentence in GIVES_UP:
        say(sentence)
    lower = beside(access.keyslots, lower)
    opened = access.open()
    if not opened.volume.intact:
        raise SecretError("keys of a file that was tampered with are not exported")
    tokens = [held.token for held in opened.volume.tokens()]
    line = _mount_line(lower, mountpoint or lower, tokens)
    auth = _blobauth(blobauth_file) if blobauth_file else None
    with open_tpm(access.options.tcti) as tpm:
        exported = export_kernel(tpm, tokens, name=name, blobauth=auth)
    directory = directory.resolve()
    files = exported.files() if form == "kernel" else _tss2_files(exported)
    _write(directory, files)
    if form == "kernel":
        auth_path = Path(blobauth_file).resolve() if blobauth_file else None
        for command in [*exported.commands(directory, auth_path), line]:
            click.echo(command)


def _blobauth(path: str) -> Secret:
    """The auth value in a file that a shell line will copy as it is. Raises SecretError."""
    if path == "-":
        raise SecretError("the auth value must be in a file, for the kernel gets it from there")
    with inputs.from_file(path) as text:
        if Path(path).stat().st_size != len(text):
            raise SecretError(f"{path} must hold nothing but 40 hex digits, without a newline")
        return read_auth(text)


def _mount_line(lower: Path, mountpoint: Path, tokens: Iterable[AuthToken]) -> str:
    """How the kernel mounts the tree with these keys. Raises KeyNotFoundError if they do not fit it."""
    with walked(lower) as walk:
        policy, _ = resolved(walk, each_alone(tokens))
    names = policy.names.token if policy.names else None
    return mount_line(
        lower.resolve(),
        mountpoint.resolve(),
        policy.content[0],
        names,
        policy.cipher.spec.name,
        policy.cipher.key_bytes,
    )


def _tss2_files(exported: KernelKeys) -> dict[str, bytes]:
    keys = {name: data for name, data in exported.files().items() if name.endswith(".encrypted")}
    return {f"{exported.name}.pem": exported.tss2().encode(), **keys}


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    """All files, each new. Raises FileExistsError before any is written."""
    for name in files:
        if os.path.lexists(directory / name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(directory / name))
    for name, data in files.items():
        write_new(directory / name, data)
        say(f"{directory / name} was written")
