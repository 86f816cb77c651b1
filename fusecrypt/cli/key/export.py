"""fusecrypt key export: the existing keys in the kernel's own form, sealed by the TPM."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from fusecrypt.cli.key.access import Access, unlocking
from fusecrypt.cli.key.trees import beside, resolved, walked
from fusecrypt.cli.terminal import say
from fusecrypt.errors import SecretError
from fusecrypt.keys.export import DEFAULT_NAME, GIVES_UP, KernelKeys, export_kernel
from fusecrypt.keys.files import sync_directory, write_new
from fusecrypt.keys.slotfile import CONTENT, NAMES
from fusecrypt.keys.tpm.kernel import read_auth
from fusecrypt.keys.volume import REPLACE_FILE, VolumeToken
from fusecrypt.native import Secret
from fusecrypt.sources import secrets as inputs
from fusecrypt.sources.lazytpm import open_tpm
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.resolve import Candidates


@click.command(short_help="Hand the keys to the kernel, sealed by the TPM.")
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
        raise SecretError("keys of a file that was tampered with are not exported", REPLACE_FILE)
    held = opened.volume.tokens()
    line = _mount_line(lower, mountpoint or lower, held)
    auth = _blobauth(blobauth_file) if blobauth_file else None
    with open_tpm(access.options.tcti) as tpm:
        exported = export_kernel(tpm, [each.token for each in held], name=name, blobauth=auth)
    directory = directory.resolve()
    files = exported.files() if form == "kernel" else _tss2_files(exported)
    _write(directory, files)
    if form == "kernel":
        auth_path = Path(blobauth_file).resolve() if blobauth_file else None
        for command in [*exported.commands(directory, auth_path), line]:
            click.echo(command)


def _blobauth(path: str) -> Secret:
    """The auth value in a file that a shell line will copy as it is. Raises SecretError."""
    if path == "-" or (Path(path).exists() and not Path(path).is_file()):
        raise SecretError(
            "the auth value must be in a file, for the kernel gets it from there",
            "name one: --blobauth-file FILE",
        )
    with inputs.from_file(path) as text:
        if Path(path).stat().st_size != len(text):
            raise SecretError(
                f"{path} must hold nothing but 40 hex digits, without a newline",
                "`printf %s DIGITS` writes it so",
            )
        return read_auth(text)


def _mount_line(lower: Path, mountpoint: Path, held: Sequence[VolumeToken]) -> str:
    """The command that mounts the tree with the kernel's eCryptfs; ``-i`` asks no mount.ecryptfs.

    Raises KeyNotFoundError if the keys do not fit the tree.
    """
    with walked(lower) as walk:
        policy, _ = resolved(walk, [_candidates(held)])
    places = shlex.join(map(os.path.realpath, (lower, mountpoint)))
    return f"mount -i -t ecryptfs -o {kernel_options(policy)} {places}"


def kernel_options(policy: Policy) -> str:
    """What the kernel's eCryptfs is told to use a tree in the same way."""
    words = [f"ecryptfs_sig={token.sig}" for token in policy.content]
    if policy.names:
        words.append(f"ecryptfs_fnek_sig={policy.names.token.sig}")
    words += [f"ecryptfs_cipher={policy.cipher.spec.name}", f"ecryptfs_key_bytes={policy.cipher.key_bytes}"]
    if policy.names and policy.names.cipher != policy.cipher:
        cipher = policy.names.cipher
        words += [f"ecryptfs_fn_cipher={cipher.spec.name}", f"ecryptfs_fn_key_bytes={cipher.key_bytes}"]
    if policy.xattr_metadata:
        words.append("ecryptfs_xattr_metadata")
    return ",".join(words)


def _candidates(held: Sequence[VolumeToken]) -> Candidates:
    """The keys as a mount takes them: their uses in the file decide where the tree does not."""
    tokens = tuple(each.token for each in held)
    content = [each.token for each in held if CONTENT in each.use]
    names = [each.token for each in held if NAMES in each.use]
    first = (content or tokens)[0]
    return Candidates(first, (names or [first])[0], tokens)


def _tss2_files(exported: KernelKeys) -> dict[str, bytes]:
    keys = {name: data for name, data in exported.files().items() if name.endswith(".encrypted")}
    return {f"{exported.name}.pem": exported.tss2().encode(), **keys}


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    """All files, each new, or none. Raises FileExistsError before any is written, and other OSErrors."""
    for name in files:
        if os.path.lexists(directory / name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(directory / name))
    written: list[Path] = []
    try:
        for name, data in files.items():
            write_new(directory / name, data)
            written.append(directory / name)
        sync_directory(directory)
    except OSError:
        for path in written:
            path.unlink()
        raise
    for path in written:
        say(f"{path} was written")
