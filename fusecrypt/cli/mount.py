"""fusecrypt mount: open a tree and leave a daemon that serves it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.duration import seconds
from fusecrypt.cli.source_options import source_options
from fusecrypt.cli.terminal import say
from fusecrypt.errors import UnsupportedSystemError, UsageError
from fusecrypt.mount import lock, spawn
from fusecrypt.mount.config import MountConfig
from fusecrypt.mount.status import describe
from fusecrypt.native import harden_process
from fusecrypt.sources import options as mount_options
from fusecrypt.sources.given import KeyOptions, SlotOptions, Sources
from fusecrypt.sources.options import MountOptions
from fusecrypt.sources.resolved import resolve_tree
from fusecrypt.tree.resolve import Options, Resolution
from fusecrypt.tree.survey import Walk

_CAP_DAC_OVERRIDE = 1 << 1


@click.command(short_help="Show a tree, decrypted, on a mount point.")
@click.argument("lower", type=click.Path())
@click.argument("mountpoint", type=click.Path())
@click.option("-o", "words", multiple=True, metavar="OPTIONS", help="Mount options, as below.")
@source_options
@click.option("--shared", is_flag=True, help="Others write LOWER too: show what they do within a second.")
@click.option("--idle", callback=seconds, metavar="TIME", help="Unmount after 10m, 90s or 2h without use.")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to the terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("--json", "as_json", is_flag=True, help="Print what was mounted as JSON.")
def mount(
    lower: str,
    mountpoint: str,
    words: Sequence[str],
    shared: bool,
    idle: float | None,
    foreground: bool,
    verbose: bool,
    as_json: bool,
    sources: Sources,
    slots: SlotOptions,
) -> None:
    """Mount the eCryptfs tree LOWER on MOUNTPOINT.

    The key is all that an existing tree needs: ciphers, signatures, name encryption and the place of the
    metadata are found from the tree. Without options, slots of its key-slot file that this machine's TPM
    opens are tried, then one secret is asked for. A secret may be the mount passphrase, the login passphrase
    of a wrapped one, a slot's passphrase or a recovery key. --passfile and the like can be repeated, for a
    key each. An empty LOWER becomes a new tree: AES-256 with encrypted names unless options say otherwise.
    LOWER and MOUNTPOINT may be the same directory.

    \b
    OPTIONS are the kernel's and mount.ecryptfs's
      ecryptfs_sig= ecryptfs_fnek_sig= ecryptfs_cipher= ecryptfs_key_bytes=
      ecryptfs_fn_cipher= ecryptfs_fn_key_bytes= ecryptfs_passthrough
      ecryptfs_xattr_metadata ecryptfs_encrypted_view
      ecryptfs_enable_filename_crypto=y|n ecryptfs_mount_auth_tok_only
      key=passphrase:passphrase_passwd_file=FILE ...
    and the usual ones: ro allow_other nosuid nodev noexec ...
    and shared, which is --shared.
    """
    harden_process()
    options = mount_options.parse((*words, "shared") if shared else words)
    spawn.check_places(lower, mountpoint)
    root_fd = _open_lower(lower, options)
    _check_lock(root_fd, lower, options.tree_options())
    with nullcontext() if foreground else spawn.Daemon() as daemon:
        keys = KeyOptions(options, sources, slots)
        resolution, key_source = resolve_tree(Path(lower), Walk(root_fd), keys)
        config = MountConfig(
            lower=os.path.realpath(lower),
            mountpoint=os.path.realpath(mountpoint),
            policy=resolution.policy,
            options=fuse_options(options, resolution.policy.read_only),
            foreground=foreground,
            verbose=verbose,
            key_source=key_source,
            idle=idle,
        )
        if as_json:
            click.echo(json.dumps(_description(config, resolution)))
        if daemon is None:
            spawn.become(config, root_fd)
        daemon.serve(config, root_fd)


def _open_lower(lower: str, options: MountOptions) -> int:
    fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if options.check_owner and os.fstat(fd).st_uid != os.getuid():
        raise UsageError(
            f"{lower} does not belong to you, which ecryptfs_check_dev_ruid asks for",
            "mount it as its owner, or leave the option out",
        )
    return fd


def _check_lock(root_fd: int, lower: str, options: Options) -> None:
    """Refuse what cannot be before a secret is asked for; the daemon takes the lock."""
    use = lock.use_of(read_only=options.read_only or options.encrypted_view, shared=options.shared)
    if remark := lock.check(root_fd, os.path.realpath(lower), use):
        say(remark)


def fuse_options(options: MountOptions, read_only: bool) -> tuple[str, ...]:
    """What FUSE gets: no set-id programs or devices unless asked for, and permissions checked by the kernel.

    A mount that root makes for root alone has nobody to check: there the kernel need not ask for a
    directory's mode again each time something in it has changed.
    """
    fuse = set(options.fuse)
    if {"suid", "dev"} & fuse and os.geteuid() != 0:
        raise UnsupportedSystemError(
            "only root may mount with suid or dev", "leave the option out, or let root mount it"
        )
    if "suid" not in fuse:
        fuse.add("nosuid")
    if "dev" not in fuse:
        fuse.add("nodev")
    if read_only:
        fuse.discard("rw")
        fuse.add("ro")
    if "allow_other" in fuse or not _above_permissions():
        fuse.add("default_permissions")
    return tuple(sorted(fuse))


def _above_permissions() -> bool:
    """Whether no mode keeps this process out (it is root, and has CAP_DAC_OVERRIDE)."""
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return os.geteuid() == 0 and effective is not None and bool(int(effective[1], 16) & _CAP_DAC_OVERRIDE)


def _description(config: MountConfig, resolution: Resolution) -> dict[str, Any]:
    return {
        "lower": config.lower,
        "mountpoint": config.mountpoint,
        "new": resolution.new,
        "key_source": config.key_source,
        **describe(config.policy),
        "remarks": list(resolution.remarks),
    }
