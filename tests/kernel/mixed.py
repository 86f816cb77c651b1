"""The plan of a tree with some of everything: names, sizes, kinds of objects, attributes."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from itertools import count

from tests.kernel.plan import Operation

SIZES = (0, 1, 15, 16, 17, 4095, 4096, 4097, 8192, 100_000)
NAME_LENGTHS = (1, 15, 16, 31, 32, 47, 48, 63, 100, 127, 128, 142, 143)
NAMES = (
    "...",
    "-",
    " leading and trailing ",
    "line\nbreak\ttab\\",
    "Ünïcödé-日本語-🜁",
    "ECRYPTFS_FNEK_ENCRYPTED.FWaGeZtZroni",
    os.fsdecode(b"latin-1 \xe4\xf6\xfc"),
    os.fsdecode(bytes([*range(1, 47), *range(48, 128)])),
    os.fsdecode(bytes(range(128, 256))),
)
TARGETS = (
    "files/size-17",
    "no/such/file",
    "/",
    os.fsdecode(b"\xff\xfe/\x80"),
    "t" * 15,
    "t" * 160,
    "t" * 3000,
)
TIMES = ((1_000_000_000_000_000_001, 1_234_567_890_123_456_789), (0, 5_000_000_000_999_999_999))


def mixed() -> list[Operation]:
    """The whole plan; every operation in it succeeds. It needs root and a file system with ACLs."""
    parts = (_files, _grown, _cut, _names, _links, _special, _moved, _attributes)
    seeds = count(1)
    return [operation for part in parts for operation in part(seeds)]


def stamped(operations: list[Operation]) -> set[str]:
    """The paths whose times a plan sets."""
    return {operation[1] for operation in operations if operation[0] == "times"}


def _files(seeds: Iterator[int]) -> Iterator[Operation]:
    yield ["mkdir", "files", 0o755]
    for size in SIZES:
        path = f"files/size-{size}"
        yield ["create", path, 0o644]
        if size:
            yield ["write", path, 0, size, next(seeds)]


def _grown(seeds: Iterator[int]) -> Iterator[Operation]:
    """Gaps, appends, writes over what is there."""
    writes = {
        "gap-first": [(10_000, 10), (50_000, 4096)],
        "gap-after-part": [(0, 100), (9000, 10), (8999, 1)],
        "gap-at-borders": [(4096, 4096), (16_383, 2)],
        "overwritten": [(0, 8192), (4090, 12), (0, 1), (8191, 2)],
        "backwards": [(8192, 4096), (4096, 4096), (0, 4096)],
    }
    yield ["mkdir", "grown", 0o755]
    for name, parts in writes.items():
        yield ["create", f"grown/{name}", 0o600]
        for offset, length in parts:
            yield ["write", f"grown/{name}", offset, length, next(seeds)]
    yield ["create", "grown/appended", 0o600]
    for length in (1, 4094, 1, 1, 4096, 5000):
        yield ["append", "grown/appended", length, next(seeds)]


def _cut(seeds: Iterator[int]) -> Iterator[Operation]:
    """Truncated, down and up."""
    sizes = {
        "inside": [5000],
        "at-border": [4096],
        "to-nothing": [0],
        "same": [20_000],
        "down-up": [3, 6000],
        "nothing-up": [0, 10],
        "up": [33_333],
        "up-to-border": [24_576],
        "up-down": [40_000, 20_001],
    }
    yield ["mkdir", "cut", 0o755]
    for name, steps in sizes.items():
        yield ["create", f"cut/{name}", 0o640]
        yield ["write", f"cut/{name}", 0, 20_000, next(seeds)]
        for size in steps:
            yield ["truncate", f"cut/{name}", size]
    yield ["create", "cut/never-written", 0o640]
    yield ["truncate", "cut/never-written", 4097]
    yield ["write", "cut/inside", 5001, 1, next(seeds)]
    yield ["append", "cut/at-border", 10, next(seeds)]


def _names(seeds: Iterator[int]) -> Iterator[Operation]:
    yield ["mkdir", "names", 0o755]
    for length in NAME_LENGTHS:
        yield ["create", "names/" + "n" * length, 0o644]
    for name in NAMES:
        yield ["mkdir", f"names/{name}.d", 0o755]
        yield ["create", f"names/{name}", 0o644]
        yield ["write", f"names/{name}", 0, 20, next(seeds)]
    path = "deep"
    for depth in range(12):
        yield ["mkdir", path, 0o755]
        path += f"/level {depth}"
    yield ["create", path, 0o644]


def _links(seeds: Iterator[int]) -> Iterator[Operation]:
    yield ["mkdir", "links", 0o755]
    for number, target in enumerate(TARGETS):
        yield ["symlink", target, f"links/symlink-{number}"]
    yield ["create", "links/first", 0o644]
    yield ["write", "links/first", 0, 5000, next(seeds)]
    yield ["link", "links/first", "links/second"]
    yield ["link", "links/second", "files/third"]
    yield ["write", "files/third", 4999, 100, next(seeds)]
    yield ["truncate", "links/second", 5050]
    yield ["unlink", "links/first"]


def _special(_: Iterator[int]) -> Iterator[Operation]:
    yield ["mkdir", "special", 0o755]
    yield ["mknod", "special/fifo", stat.S_IFIFO | 0o620, 0, 0]
    yield ["mknod", "special/chr", stat.S_IFCHR | 0o600, 5, 300]
    yield ["mknod", "special/blk", stat.S_IFBLK | 0o660, 7, 200]


def _moved(seeds: Iterator[int]) -> Iterator[Operation]:
    yield ["mkdir", "moved", 0o755]
    yield ["mkdir", "moved/from", 0o755]
    for name in ("a", "b", "c", "gone"):
        yield ["create", f"moved/from/{name}", 0o644]
        yield ["write", f"moved/from/{name}", 0, 100, next(seeds)]
    yield ["rename", "moved/from/a", "moved/from/" + "long" * 30]
    yield ["rename", "moved/from/b", "moved/from/c"]
    yield ["rename", "moved/from", "moved/to"]
    yield ["symlink", "x", "moved/link"]
    yield ["rename", "moved/link", "moved/to/link"]
    yield ["unlink", "moved/to/gone"]
    yield ["mkdir", "moved/brief", 0o700]
    yield ["rmdir", "moved/brief"]


def _attributes(_: Iterator[int]) -> Iterator[Operation]:
    yield ["mkdir", "attributes", 0o755]
    yield ["mkdir", "attributes/dir", 0o755]
    for name in ("plain", "set-id", "owned", "noted", "listed", "timed", "later"):
        yield ["create", f"attributes/{name}", 0o666]
    yield ["symlink", "plain", "attributes/link"]
    yield ["chown", "attributes/set-id", 1000, 1001]
    yield ["chmod", "attributes/set-id", 0o6751]
    yield ["chmod", "attributes/plain", 0o000]
    yield ["chmod", "attributes/dir", 0o3770]
    yield ["chown", "attributes/owned", 65_534, 4_000_000_000]
    yield ["chown", "attributes/link", 7, 8]
    yield ["setxattr", "attributes/noted", "user.note", b"\0\xff text".hex()]
    yield ["setxattr", "attributes/noted", "user.empty", ""]
    yield ["setxattr", "attributes/noted", "user.long", "ab" * 1000]
    yield ["setxattr", "attributes/noted", "trusted.note", "00"]
    yield ["setxattr", "attributes/noted", "user.brief", "01"]
    yield ["removexattr", "attributes/noted", "user.brief"]
    yield ["setxattr", "attributes/dir", "user.note", "64"]
    yield ["setxattr", "attributes/listed", "system.posix_acl_access", _acl(6, 4).hex()]
    yield ["setxattr", "attributes/dir", "system.posix_acl_default", _acl(7, 5).hex()]
    yield ["create", "attributes/dir/heir", 0o666]
    yield ["mkdir", "attributes/dir/heir.d", 0o777]
    for name, times in zip(("timed", "later"), TIMES, strict=True):
        yield ["times", f"attributes/{name}", *times]
    yield ["times", "attributes/link", *TIMES[0]]
    yield ["times", "attributes/dir", *TIMES[0]]


def _acl(owner: int, others: int) -> bytes:
    """An access control list as the kernel takes it: owner, user 1000, group, group 2000, mask, others."""
    entries = ((1, owner, -1), (2, 5, 1000), (4, 4, -1), (8, 6, 2000), (16, 7, -1), (32, others, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
