"""Which attributes of an object its copy gets."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import pytest

from fusecrypt.native import acl_is_mode
from fusecrypt.offline.restore import read_xattrs

SEEN = bytes.fromhex(
    "00000003"
    "00000000 00000000 00160187 00000006 4f574e4552400000"
    "00000000 00000000 00120081 00000006 47524f5550400000"
    "00000000 00000000 00120081 00000009 45564552594f4e4540000000"
)
"""Of a file of mode 644, by a client of Linux 6.1."""


def acl(*who: bytes) -> bytes:
    """As an NFS client shows it: each may read."""
    entries = [struct.pack(">4I", 0, 0, 0x120089, len(each)) + each + bytes(-len(each) % 4) for each in who]
    return struct.pack(">I", len(who)) + b"".join(entries)


@pytest.mark.parametrize(
    ("who", "kept"),
    [((b"OWNER@", b"GROUP@", b"EVERYONE@"), False), ((b"OWNER@", b"ann@example.org", b"EVERYONE@"), True)],
)
def test_an_acl_of_nfs_is_one_if_it_says_more_than_the_mode(
    who: Sequence[bytes], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert acl_is_mode(SEEN)
    there = {"system.nfs4_acl": acl(*who), "user.ecryptfs": b"header", "user.color": b"red"}
    monkeypatch.setattr(os, "listxattr", lambda _: list(there))
    monkeypatch.setattr(os, "getxattr", lambda _, name: there[os.fsdecode(name)])
    found = dict(read_xattrs(3))
    assert found == {b"user.color": b"red"} | ({b"system.nfs4_acl": acl(*who)} if kept else {})
