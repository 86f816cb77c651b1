"""fusecrypt stat: all that is known of an object in a tree, without a mount."""

from __future__ import annotations

import stat as modes
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.ls import attributes, kind_name
from fusecrypt.cli.output import Failures, json_option, json_path, printable, write_json, write_line
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.offline.health import WELL
from fusecrypt.offline.show import Facts, facts
from fusecrypt.ondisk import header as ondisk
from fusecrypt.ondisk.packets import Packet, PassphrasePacket
from fusecrypt.sources.given import KeyOptions
from fusecrypt.tree.headers import Found
from fusecrypt.tree.policy import Policy

_FLAGS = {ondisk.FLAG_ENCRYPTED: "encrypted", ondisk.FLAG_XATTR: "xattr", ondisk.FLAG_NAMES: "names"}


@click.command(short_help="Show header, keys, sizes, lower name and health of a file.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=bytes), metavar="PATH...")
@json_option
@key_options
def stat(lower: Path, paths: Sequence[bytes], as_json: bool, keys: KeyOptions) -> int:
    """Show what is known of PATH inside the tree LOWER: lower path, sizes, owner, times, and of a file its
    header, the packets and keys in it, and its health.

    PATH is a name as the mounted tree would show it. Health goes by the header, the length of the lower file
    and the keys at hand; the contents are not read, and eCryptfs would not tell if they were changed. The
    key is taken as `fusecrypt mount` takes it. Nothing is written below.

    Exit statuses: 0 all is well; 1 an object is not there or cannot be read; 3 no key opens the tree; 4 a
    file is not in order, or LOWER holds no eCryptfs data.
    """
    failures = Failures()
    with open_tree(lower, keys) as tree:
        for path in paths:
            with failures.of(path):
                found = facts(tree, path)
                if as_json:
                    write_json(_json(path, found, tree.policy))
                else:
                    for name, value in _lines(path, found, tree.policy):
                        write_line(f"{name:<10}{value}")
                if found.health is not None and found.health.state not in WELL:
                    failures.note(path, str(found.health), 4)
    return failures.status


def _lines(path: bytes, found: Facts, policy: Policy) -> Iterator[tuple[str, str]]:
    st = found.seen.stat
    yield "path", printable(path)
    yield "lower", printable(found.lower)
    yield "type", kind_name(st.mode)
    yield "size", f"{found.seen.size} (lower: {st.size})"
    yield "mode", f"{modes.filemode(st.mode)} {modes.S_IMODE(st.mode):04o}, {st.nlink} links"
    yield "owner", f"{st.uid}:{st.gid}"
    yield "modified", _time(st.mtime_ns)
    yield "changed", _time(st.ctime_ns)
    yield "inode", f"{st.ino} on device {st.dev}"
    if found.target is not None:
        yield "target", printable(found.target)
    if found.xattrs:
        yield "xattrs", " ".join(map(printable, found.xattrs))
    if found.found is not None:
        yield "header", _header(found.found)
        for packet in found.found.header.packets:
            yield "packet", _packet(packet, policy)
    if found.health is not None:
        yield "health", str(found.health)


def _time(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09} UTC"


def _header(found: Found) -> str:
    header = found.header
    place = f"in {ondisk.XATTR_NAME}" if found.in_xattr else f"in front, {header.region} octets"
    return f"version {header.version}, {place}, flags {' '.join(_flags(header.flags)) or 'none'}"


def _flags(flags: int) -> list[str]:
    known = [word for bit, word in _FLAGS.items() if flags & bit]
    rest = flags & ~sum(_FLAGS)
    return [*known, f"{rest:#x}"] if rest else known


def _packet(packet: Packet, policy: Policy) -> str:
    sig = packet.signature.hex()
    if not isinstance(packet, PassphrasePacket):
        return f"public key {sig} of ecryptfsd"
    at_hand = "at hand" if policy.token(packet.signature) else "not at hand"
    return f"{packet.cipher}, key {sig} ({at_hand}), salt {packet.salt.hex()}"


def _json(path: bytes, found: Facts, policy: Policy) -> dict[str, Any]:
    data = {
        **json_path("path", path),
        **json_path("lower", found.lower),
        **attributes(found.seen),
        "ctime_ns": found.seen.stat.ctime_ns,
        "xattrs": [name.decode(errors="backslashreplace") for name in found.xattrs],
    }
    if found.target is not None:
        data |= json_path("target", found.target)
    if found.found is not None:
        data["header"] = _header_json(found.found, policy)
    if found.health is not None:
        data["health"] = found.health.state.value
        data["health_detail"] = found.health.detail
    return data


def _header_json(found: Found, policy: Policy) -> dict[str, Any]:
    header = found.header
    packets = []
    for packet in header.packets:
        data: dict[str, Any] = {"signature": packet.signature.hex()}
        if isinstance(packet, PassphrasePacket):
            data |= {"kind": "passphrase", "cipher": packet.cipher.spec.name}
            data |= {"key_bytes": packet.cipher.key_bytes, "salt": packet.salt.hex()}
            data["at_hand"] = policy.token(packet.signature) is not None
        else:
            data["kind"] = "public key"
        packets.append(data)
    return {
        "version": header.version,
        "in_xattr": found.in_xattr,
        "region": None if found.in_xattr else header.region,
        "flags": _flags(header.flags),
        "size": header.size,
        "packets": packets,
    }
