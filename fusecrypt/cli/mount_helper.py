"""What mount(8) runs for fstab lines and ``mount -t fuse.fusecrypt``: a translation to `fusecrypt mount`.

Installed as ``/sbin/mount.fuse.fusecrypt`` and ``/sbin/mount.fusecrypt``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import click

from fusecrypt.cli.main import run
from fusecrypt.cli.mount import mount
from fusecrypt.errors import TreeError, UsageError
from fusecrypt.mount.mounts import FSTYPE, mount_at
from fusecrypt.mount.status import ask
from fusecrypt.sources import options as mount_options

_STATUS = {0: 0, 2: 1, 5: 2}
"""mount(8)'s statuses for ours: 1 wrong options, 2 the system lacks something; all else is 32."""
_FAILED = 32
_NOT_IN_FSTAB = frozenset(("foreground", "verbose", "as_json", "shared", "words"))
"""Options of `fusecrypt mount` that have no place after -o, or one of their own there."""
_IN_MOUNT_TABLE = ("user_id=", "group_id=", "max_read=", "blksize=")
"""What FUSE shows there, from where mount(8) takes it for a remount."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("lower", type=click.Path())
@click.argument("mountpoint", type=click.Path())
@click.option("-o", "words", multiple=True, metavar="OPTIONS", help="Mount options, as below.")
@click.option("-f", "--fake", is_flag=True, help="Check the options only.")
@click.option("-s", "--sloppy", is_flag=True, help="Pass over unknown options.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.option("-n", "--no-mtab", is_flag=True, help="Means nothing.")
@click.option("-t", "--type", "fstype", metavar="TYPE", help="Means nothing.")
def mount_helper(
    lower: str, mountpoint: str, words: Sequence[str], fake: bool, sloppy: bool, verbose: bool, no_mtab: bool,
    fstype: str | None,
) -> None:  # fmt: skip
    """Mount the eCryptfs tree LOWER on MOUNTPOINT, as mount(8) asks for it.

    OPTIONS are those of `fusecrypt mount -o`, and its options about keys without their dashes:
    keyslots=FILE, passfile=FILE, keyring, tcti=TCTI ... A value that holds a comma stands in double quotes.
    A mount that root makes is there for all users, as the permissions of its files say.

    \b
    /home/.ecryptfs/me/.Private  /home/me  fuse.fusecrypt  keyslots=/etc/me.keyslots,nofail  0 0

    Exit statuses are those of mount(8): 0 done; 1 wrong options; 2 this system lacks something; 32 failed.
    """
    items = mount_options.split(words)
    remount = "remount" in items
    items = [item for item in items if item != "remount"]
    named, others = _take_named(items)
    if sloppy:
        others = [item for item in others if mount_options.is_known(item)]
    if remount:
        new = [f'"{item}"' for item in others if not item.startswith(_IN_MOUNT_TABLE)]
        _check_remount(mountpoint, mount_options.parse(new))
        if not fake:
            _remount(mountpoint, items)
        return
    if os.geteuid() == 0:
        others.append("allow_other")
    others = [f'"{item}"' for item in others]
    mount_options.parse(others)
    if not fake:
        more = ["--verbose"] if verbose else []
        words = [*named, *more, "-o", ",".join(others), "--", lower, mountpoint]
        mount.main(words, standalone_mode=False)


def _check_remount(mountpoint: str, options: mount_options.MountOptions) -> None:
    """Raises TreeError where the daemon of the mount only reads and is to write, or cannot be asked."""
    found = mount_at(mountpoint)
    if found is None or found.fstype != FSTYPE:
        raise UsageError(f"{mountpoint} is no fusecrypt mount", "see `findmnt -t fuse.fusecrypt`")
    if "rw" in options.fuse and ask(found)["read_only"]:
        raise TreeError(f"{mountpoint} was mounted read-only", "unmount it, and mount it without `ro`")


def _remount(mountpoint: str, items: Iterable[str]) -> NoReturn:
    """The kernel does this alone: the daemon has no part in it."""
    flags = [item for item in items if item in mount_options.KERNEL_FLAGS]
    command = ["mount", "-i", "-o", ",".join(["remount", *flags]), "--", mountpoint]
    os.execvp(command[0], command)  # noqa: S606 - no shell is needed


def _take_named(items: Iterable[str]) -> tuple[list[str], list[str]]:
    """Take out what `fusecrypt mount` has as options of their own; also returns what is left."""
    options = {option.name: option for option in mount.params if isinstance(option, click.Option)}
    named, others = [], []
    for item in items:
        name, equals, value = item.partition("=")
        option = options.get(name.replace("-", "_"))
        if option is None or option.name in _NOT_IN_FSTAB:
            others.append(item)
        elif option.is_flag == bool(equals):
            raise UsageError(f"{name} takes {'no' if equals else 'a'} value", f"write {_form(option)}")
        else:
            named.append(f"{option.opts[0]}={value}" if equals else option.opts[0])
    return named, others


def _form(option: click.Option) -> str:
    return f"{option.name}" if option.is_flag else f"{option.name}={option.metavar}"


def main() -> None:
    """Run as mount(8)'s helper and exit with one of its statuses."""
    if os.environ.get("SYSTEMD_EXEC_PID") == str(os.getppid()):  # a mount unit runs mount(8): we act for it
        os.environ["SYSTEMD_EXEC_PID"] = str(os.getpid())
    sys.exit(_STATUS.get(run(mount_helper, "mount.fuse.fusecrypt"), _FAILED))
