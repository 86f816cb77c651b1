"""fusecrypt status: the mounts of this machine, and how they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from fusecrypt.cli.completion import mount_points
from fusecrypt.cli.output import json_option, write_json, write_line
from fusecrypt.errors import FusecryptError, UsageError
from fusecrypt.escape import escaped
from fusecrypt.mount.mounts import FSTYPE, MountPoint, mount_table
from fusecrypt.mount.status import ask
from fusecrypt.sources.person import describe

_TROUBLE = {
    "EIO": "failed reads or writes, or damaged files: `fusecrypt check` finds those",
    "ENOSPC": "the disk below was full",
    "EDQUOT": "the quota below was reached",
    "ENOMEM": "there was too little memory",
    "EMFILE": "too many files were open: raise the limit (ulimit -n)",
}
"""What failures tell of a mount that is not well; others are everyday answers to those who ask."""


@click.command(short_help="List mounts: key source, ciphers, requests, health.")
@click.argument("mountpoint", required=False, shell_complete=mount_points)
@json_option
def status(mountpoint: str | None, as_json: bool) -> int:
    """Show all mounts of this machine, or the one on MOUNTPOINT: source of the key, ciphers, figures, health.

    Its daemon is asked, which answers the mount's owner and root only. Requests by the express lane were
    answered without Python; failures count the others' errors by name; inodes are the objects that the
    kernel has in memory. A mount is well if its daemon answers and no request failed for a damaged file, a
    full disk, or want of memory or descriptors.

    Exit statuses: 0 all are well, or there are none; 1 one is not; 2 nothing is mounted on MOUNTPOINT.
    """
    mounts = [found for found in mount_table() if found.fstype == FSTYPE]
    if mountpoint is not None:
        directory, name = os.path.split(os.path.abspath(mountpoint))
        path = os.path.join(os.path.realpath(directory), name)  # without a look at it: its daemon may hang
        mounts = [found for found in mounts if found.path == path][-1:]
    number = well = 0
    for number, report in enumerate(filter(None, map(_report, mounts)), 1):
        well += not report["problems"]
        if as_json:
            write_json(report)
            continue
        if number > 1:
            write_line("")
        _print(report)
    if mountpoint is not None and not number:
        raise UsageError(f"{mountpoint} is no fusecrypt mount", "`fusecrypt status` lists all")
    return int(well < number)


def _report(mount: MountPoint) -> dict[str, Any] | None:
    """None for a mount that has ended meanwhile."""
    report: dict[str, Any] = {"mountpoint": mount.path, "lower": mount.source, "owner": mount.user}
    try:
        answer = ask(mount)
    except (FusecryptError, OSError) as error:
        if mount.path not in (now.path for now in mount_table() if now.device == mount.device):
            return None
        reason = describe(error) if isinstance(error, FusecryptError) else str(error.strerror)
        return {**report, "problems": [reason]}
    problems = [f"{name}: {text}" for name, text in _TROUBLE.items() if name in answer["failures"]]
    return {**answer, **report, "problems": problems}


def _print(report: dict[str, Any]) -> None:
    write_line(escaped(report["mountpoint"]))
    for name, value in _lines(report):
        write_line(f"  {name:<10}{escaped(value)}")


def _lines(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "lower", report["lower"]
    if "pid" in report:
        yield "key", f"{report['key_source'] or 'unknown'} ({', '.join(report['signatures'])})"
        yield "cipher", f"{_cipher(report, '')}, {_names(report)}"
        yield "mode", _mode(report)
        yield "requests", _requests(report)
        yield "inodes", str(report["inodes"])
        since = datetime.fromtimestamp(report["since"])
        yield "daemon", f"process {report['pid']}, version {report['version']}, since {since:%Y-%m-%d %H:%M}"
        yield "memory", "locked" if report["memory_locked"] else "not locked: key memory may reach the swap"
    yield "health", "; ".join(report["problems"]) or "good"


def _cipher(report: dict[str, Any], prefix: str) -> str:
    return f"{report[prefix + 'cipher']}-{8 * report[prefix + 'key_bytes']}"


def _names(report: dict[str, Any]) -> str:
    return f"names {_cipher(report, 'fn_')}" if report["fn_cipher"] else "plain names"


def _mode(report: dict[str, Any]) -> str:
    words = ["read-only" if report["read_only"] else "read-write"]
    for name in ("shared", "passthrough", "xattr_metadata", "encrypted_view"):
        if report[name]:
            words.append(name.replace("_", " "))
    return ", ".join(words)


def _requests(report: dict[str, Any]) -> str:
    failed = ", ".join(f"{name} {count}" for name, count in report["failures"].items())
    lane = f"{report['requests']} ({report['requests_by_lane']} by the express lane)"
    return f"{lane}, failed: {failed}" if failed else lane
