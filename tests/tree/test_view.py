"""The encrypted view: a tree with metadata in attributes, seen as one with headers in the contents."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from fusecrypt.ondisk.header import FLAG_XATTR, Header, parse_header
from fusecrypt.ondisk.packets import PublicKeyPacket
from fusecrypt.tree import attributes
from fusecrypt.tree.raw import RawFile
from fusecrypt.tree.resolve import Options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.manifest import Entry, diff
from tests.tree.support import OWN, User, lower_state, manifest, open_tree, opened, policy, read

XATTR = policy(xattr_metadata=True)
VIEW = replace(XATTR, encrypted_view=True, read_only=True)


def copy(tree: Tree, target: Path, directory: bytes = b"") -> None:
    """Copy a tree out, as cp -r does: no attributes, times or owners."""
    user = User(tree)
    for name in user.list(directory):
        path = os.path.join(directory, name)
        with user.node(path) as node:
            out = target / os.fsdecode(path)
            if node.is_directory:
                out.mkdir()
                copy(tree, target, path)
            elif node.is_regular:
                out.write_bytes(user.read(path))
                assert out.stat().st_size == user.stat(path).size
            elif node.kind == 0o120000:
                out.symlink_to(os.fsdecode(user.readlink(path)))


def essence(entries: list[Entry]) -> list[Entry]:
    """What survives such a copy."""
    kept = [entry for entry in entries if entry["type"] in ("file", "dir", "symlink")]
    return [{k: e[k] for k in ("path", "type", "size", "sha256", "target") if k in e} for e in kept]


@pytest.mark.parametrize("name", ["aes16-xattr", "aes32-xattr-plain-names", "aes16-fnek", "blowfish24"])
def test_a_copy_of_the_view_is_a_tree_without_attributes(name: str, tmp_path: Path) -> None:
    kernels = golden.tree(name)
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    copied = tmp_path / "copied"
    copied.mkdir()
    with open_tree(lower, kernels.passphrases, Options(encrypted_view=True)) as tree:
        assert User(tree).list() == sorted(map(os.fsencode, os.listdir(lower)))
        assert {entry["path"] for entry in manifest(tree)} == set(map(str, lower_state(lower))) - {""}
        copy(tree, copied)
    assert lower_state(lower) == before
    with open_tree(copied, kernels.passphrases) as tree:
        assert not tree.policy.xattr_metadata
        assert diff(essence(kernels.manifest()), essence(manifest(tree))) == []


def test_the_octets_of_the_view(lower: Path) -> None:
    with opened(lower, XATTR) as tree:
        user = User(tree)
        user.create("a", bytes(5000))
        user.create("empty")
    with opened(lower, replace(XATTR, xattr_metadata=False)) as tree:
        User(tree).create("header", b"1")
    with opened(lower, VIEW) as tree:
        user = User(tree)
        for name in user.list():
            path = lower / os.fsdecode(name)
            octets = path.read_bytes()
            shown = user.read(name)
            assert user.stat(name).size == len(shown)
            if OWN.decode() not in os.listxattr(path):
                assert shown == octets
                continue
            attribute = bytearray(os.getxattr(path, OWN))
            assert attribute[19] & FLAG_XATTR
            attribute[19] &= ~FLAG_XATTR
            assert shown == bytes(attribute).ljust(8192, b"\0") + octets
            with user.node(name) as node:
                assert attributes.list_xattrs(tree, node) == [OWN]
                assert attributes.get_xattr(tree, node, OWN) == os.getxattr(path, OWN)


def test_the_view_keeps_packets_of_public_keys(lower: Path) -> None:
    (lower / "a").touch()
    public = Header(0, 5, (PublicKeyPacket(bytes(range(200)), b"ecryptfd"),), flags=6)
    os.setxattr(lower / "a", OWN, public.encode())
    with opened(lower, VIEW) as tree:
        assert parse_header(User(tree).read("a")) == replace(public, flags=2)


def test_what_is_no_ecryptfs_file_shows_unchanged(lower: Path) -> None:
    (lower / "plain").write_bytes(b"plain")
    (lower / "bad").write_bytes(b"bad")
    os.setxattr(lower / "bad", OWN, b"no header")
    with opened(lower, VIEW) as tree:
        user = User(tree)
        for name, contents in [("plain", b"plain"), ("bad", b"bad")]:
            assert user.read(name) == contents
            assert user.stat(name).size == len(contents)


def test_reads_at_every_position(lower: Path) -> None:
    with opened(lower, XATTR) as tree:
        User(tree).create("a", bytes(5000))
    (name,) = os.listdir(lower)
    with opened(lower, VIEW) as tree, User(tree).file(name) as file:
        whole = read(file)
        assert len(whole) == 8192 + 8192
        numbers = random.Random(1)
        for _ in range(300):
            at, n = numbers.randrange(17_000), numbers.randrange(17_000)
            assert read(file, at, n) == whole[at : at + n]
        with pytest.raises(OSError, match="Read-only"):
            file.write(0, b"x")
        with pytest.raises(OSError, match="Read-only"):
            file.truncate(0)


def test_plain_reads_from_memory_are_whole_or_refused(tmp_path: Path) -> None:
    """A short read would be taken for the end of the file, and the rest for zeros."""
    path = tmp_path / "raw"
    contents = random.Random(2).randbytes(1 << 20)
    path.write_bytes(contents)
    file = RawFile(os.open(path, os.O_RDONLY), False)
    try:
        os.fsync(file.fd)
        os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fd, 4096, 0)
        buffer = memoryview(bytearray(1 << 20))
        with pytest.raises(BlockingIOError):
            file.read_into(buffer, 0, 1 << 20, nowait=True)
        assert file.read_into(buffer, 0, 4096, nowait=True) == 4096
        assert file.read_into(buffer, 0, 1 << 20) == 1 << 20
        assert file.read_into(buffer, 0, 1 << 20, nowait=True) == 1 << 20
        assert buffer == contents
        assert file.read_into(buffer, (1 << 20) - 5, 100) == 5
    finally:
        file.close()
