"""Lower files that are no good: what stat says, what open says, with and without passthrough."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fusecrypt.errors import DamagedError, FormatError, FusecryptError, KeyNotFoundError
from fusecrypt.ondisk.header import MAX_SIZE, parse_header
from fusecrypt.ondisk.packets import PublicKeyPacket
from fusecrypt.tree import attributes
from fusecrypt.tree.policy import Policy
from tests.tree.support import OWN, User, lower_state, opened, policy, read, token

EXTENT = 4096
CONTENTS = bytes(range(256)) * 64  # 16384 octets, 4 extents
PLAIN = policy(names=False)
RAW = replace(PLAIN, passthrough=True)
XATTR = replace(PLAIN, xattr_metadata=True)


@pytest.fixture
def good(lower: Path) -> Path:
    """A lower file with 16000 upper octets."""
    with opened(lower, PLAIN) as tree:
        User(tree).create("a", CONTENTS[:16_000])
    return lower / "a"


def overwrite(path: Path, at: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(octets)


def key_unknown(path: Path) -> None:
    header = parse_header(path.read_bytes())
    packet = replace(header.passphrase_packets[0], signature=b"somebody")
    overwrite(path, 0, replace(header, packets=(packet,)).encode())


def public_key_only(path: Path) -> None:
    header = parse_header(path.read_bytes())
    overwrite(path, 0, replace(header, packets=(PublicKeyPacket(bytes(128), b"ecryptfd"),)).encode())


Damage = Callable[[Path], object]

NO_KEY: dict[str, tuple[Damage, type[FusecryptError], int]] = {
    # What was done, what open raises, and the size that stat says.
    "key unknown": (key_unknown, KeyNotFoundError, 16_000),
    "public key only": (public_key_only, KeyNotFoundError, 16_000),
    "no packets": (lambda p: overwrite(p, 26, bytes(100)), KeyNotFoundError, 16_000),
    "version 4": (lambda p: overwrite(p, 16, b"\4"), FormatError, 16_000),
    "bad packet": (lambda p: overwrite(p, 28, b"\5"), FormatError, 16_000),
    "bad length": (lambda p: overwrite(p, 27, b"\xff"), FormatError, 16_000),
    "tag 11 gone": (lambda p: overwrite(p, 57, bytes(24)), FormatError, 16_000),
    "marker damaged": (lambda p: overwrite(p, 9, b"\xaa\xbb"), FormatError, 8192 + 16_384),
    "header zeroed": (lambda p: overwrite(p, 0, bytes(8192)), FormatError, 8192 + 16_384),
    "plain file": (lambda p: p.write_bytes(b"hello"), FormatError, 5),
    "plain file of 16": (lambda p: p.write_bytes(b"sixteen octets.."), FormatError, 16),
    "cut in the marker": (lambda p: os.truncate(p, 15), FormatError, 15),
    "cut in the packets": (lambda p: os.truncate(p, 60), FormatError, 16_000),
    "no such size": (lambda p: overwrite(p, 0, b"\xff" * 8), FormatError, 8192 + 16_384),
    "size 2^63": (lambda p: overwrite(p, 0, struct.pack(">Q", 2**63)), FormatError, 8192 + 16_384),
    "region of 4096": (lambda p: overwrite(p, 24, b"\0\1"), DamagedError, 16_000),
    "region of 0": (lambda p: overwrite(p, 20, bytes(6)), DamagedError, 16_000),
}

every_damage = pytest.mark.parametrize(("damage", "error", "size"), NO_KEY.values(), ids=NO_KEY)


@every_damage
def test_what_cannot_be_opened(good: Path, damage: Damage, error: type[FusecryptError], size: int) -> None:
    damage(good)
    before = lower_state(good.parent)
    with opened(good.parent, PLAIN) as tree:
        user = User(tree)
        assert user.stat("a").size == size
        assert size < 2**63
        for writing in (False, True):
            with pytest.raises(error) as caught, user.file("a", writing):
                pass
            assert caught.value.errno == errno.EIO
            assert str(caught.value)
        with pytest.raises(error):
            user.truncate("a", 0)
        assert lower_state(good.parent) == before
        # The names and attributes of such files are as usable as others.
        user.rename("a", "b")
        user.link("b", "c")
        user.unlink("b")
        with user.node("c") as node:
            attributes.set_xattr(tree, node, b"user.x", b"1")
            attributes.change_mode(tree, node, 0o600)


@every_damage
def test_passthrough_shows_it_raw(good: Path, damage: Damage, error: type[FusecryptError], size: int) -> None:
    damage(good)
    raw = good.read_bytes()
    with opened(good.parent, RAW) as tree:
        user = User(tree)
        assert user.stat("a").size == len(raw)
        assert user.read("a") == raw
        user.write("a", len(raw), b"more")
        user.write("a", len(raw) + 1, b"X")
        assert good.read_bytes() == raw + b"mXre"
        user.truncate("a", 3)
        assert good.read_bytes() == raw[:3]
        with user.node("a") as node:
            user.unlink("a")
            assert tree.stat(node).size == 3


def test_passthrough_encrypts_new_files_and_opens_good_ones(good: Path) -> None:
    (good.parent / "plain").write_bytes(b"plain")
    (good.parent / "empty").touch()
    with opened(good.parent, RAW) as tree:
        user = User(tree)
        assert user.read("a") == CONTENTS[:16_000]
        assert user.stat("a").size == 16_000
        user.create("new", b"new")
        user.write("empty", 0, b"text")
        assert user.stat("empty").size == 4
        with user.node("a") as node:
            user.unlink("a")
            assert tree.stat(node).size == 16_000
    assert (good.parent / "empty").read_bytes() == b"text"
    assert parse_header((good.parent / "new").read_bytes()).size == 3
    with opened(good.parent, PLAIN) as tree:
        assert User(tree).read("new") == b"new"


# Cut data


@pytest.mark.parametrize("left", [0, 1, 4095, 4096, 8192, 12_288, 16_383])
def test_data_that_is_cut_short_is_an_error(good: Path, left: int) -> None:
    os.truncate(good, 8192 + left)
    whole = left // EXTENT * EXTENT
    before = lower_state(good.parent)
    with opened(good.parent, PLAIN) as tree:
        user = User(tree)
        assert user.stat("a").size == 16_000
        with user.file("a", True) as file:
            # A read is complete or fails: what is missing must not be taken for the end, or for zeros.
            assert read(file, 0, whole) == CONTENTS[:whole]
            for at, n in [(0, 16_000), (whole, 1), (max(0, whole - 1), 2), (15_999, 1)]:
                with pytest.raises(OSError, match=r"cut short|Input/output error") as caught:
                    read(file, at, n)
                assert caught.value.errno == errno.EIO
            # Nothing may be written that would leave a lower hole: holes decrypt to garbage.
            for at in (0, 3 * EXTENT, 16_000, 100_000):
                with pytest.raises(DamagedError, match=f"{whole} of 16000 octets"):
                    file.write(at, CONTENTS[:EXTENT])
            for size in (whole + 1, 15_999, 20_000):
                with pytest.raises(DamagedError, match=f"{whole} of 16000 octets"):
                    file.truncate(size)
            assert lower_state(good.parent) == before
            file.truncate(max(0, whole - 5))
            file.write(max(0, whole - 5), b"12345678")
            assert read(file) == CONTENTS[: max(0, whole - 5)] + b"12345678"


def test_cut_headers_that_hold_their_packets_open(good: Path) -> None:
    os.truncate(good, 100)
    with opened(good.parent, PLAIN) as tree:
        user = User(tree)
        with user.file("a") as file, pytest.raises(OSError, match="Input/output error"):
            read(file, 0, 1)
        user.truncate("a", 0)
        user.write("a", 0, b"again")
    with opened(good.parent, PLAIN) as tree:
        assert User(tree).read("a") == b"again"


@pytest.mark.parametrize("size", [2**40, MAX_SIZE])
def test_absurd_sizes_cost_nothing(good: Path, size: int) -> None:
    overwrite(good, 0, struct.pack(">Q", size))
    with opened(good.parent, PLAIN) as tree:
        user = User(tree)
        assert user.stat("a").size == size
        with user.file("a", True) as file:
            assert read(file, 0, 16_384)[:16_000] == CONTENTS[:16_000]
            with pytest.raises(OSError, match="Input/output error"):
                read(file, size - 10, 10)
            with pytest.raises(DamagedError):
                file.write(size - 10, b"x")


@pytest.mark.parametrize(("extent_size", "extents"), [(4096, 4), (4096, 16), (65536, 1), (512, 16)])
def test_longer_header_regions(lower: Path, extent_size: int, extents: int) -> None:
    with opened(lower, PLAIN) as tree:
        User(tree).create("b", CONTENTS)
    octets = (lower / "b").read_bytes()
    header = replace(parse_header(octets), extent_size=extent_size, extents=extents)
    (lower / "a").write_bytes(header.encode_region() + octets[8192:])
    with opened(lower, PLAIN) as tree:
        user = User(tree)
        assert user.read("a") == CONTENTS
        user.write("a", 10, b"x")
        user.truncate("a", 5000)
        user.truncate("a", 9000)
        assert user.read("a") == CONTENTS[:10] + b"x" + CONTENTS[11:5000] + bytes(4000)
    assert (lower / "a").stat().st_size == extent_size * extents + 12_288
    assert parse_header((lower / "a").read_bytes()).region == extent_size * extents


@pytest.mark.parametrize("version", [0, 1, 2])
def test_older_header_versions(good: Path, version: int) -> None:
    octets = good.read_bytes()
    head = octets[:16] + bytes([version]) + octets[17:20] + (octets[26:8192] + bytes(6))
    if version:
        head = octets[:16] + bytes([version]) + octets[17:8192]
    good.write_bytes(head + octets[8192:])
    with opened(good.parent, PLAIN) as tree:
        user = User(tree)
        assert user.read("a") == CONTENTS[:16_000]
        user.write("a", 16_000, b"x")
        assert user.read("a") == CONTENTS[:16_000] + b"x"
    assert good.read_bytes()[8:8192] == head[8:]


# Empty lower files


@pytest.mark.parametrize("way", [PLAIN, XATTR], ids=["header", "xattr"])
def test_an_empty_lower_file_reads_as_empty(lower: Path, way: Policy) -> None:
    (lower / "a").touch(0o444)
    before = lower_state(lower)
    with opened(lower, way) as tree:
        user = User(tree)
        assert user.stat("a").size == 0
        assert user.read("a") == b""
        with user.file("a", True) as file:
            file.write(0, b"")
            file.truncate(0)
        assert lower_state(lower) == before


@pytest.mark.parametrize("way", [PLAIN, XATTR], ids=["header", "xattr"])
@pytest.mark.parametrize("extend", [False, True])
def test_its_header_comes_with_the_first_write(lower: Path, way: Policy, extend: bool) -> None:
    (lower / "a").touch()
    with opened(lower, way) as tree:
        user = User(tree)
        if extend:
            user.truncate("a", 5)
        else:
            user.write("a", 4, b"x")
    with opened(lower, way) as tree:
        assert User(tree).read("a") == bytes(4) + (b"\0" if extend else b"x")
    assert (OWN.decode() in os.listxattr(lower / "a")) == way.xattr_metadata


# Metadata in attributes


@pytest.fixture
def attribute(lower: Path) -> Path:
    with opened(lower, XATTR) as tree:
        User(tree).create("a", CONTENTS[:10_000])
        User(tree).create("empty")
    return lower / "a"


def test_sizes_are_right_before_the_first_open(attribute: Path) -> None:
    for way in (PLAIN, XATTR, RAW):
        with opened(attribute.parent, way) as tree:
            user = User(tree)
            assert user.stat("a").size == 10_000
            assert user.stat("empty").size == 0
            assert user.read("a") == CONTENTS[:10_000]
            user.link("a", "b")
            with user.node("a") as node:
                user.unlink("a")
                user.unlink("b")
                assert tree.stat(node).size == 10_000
                file = tree.open(node, True)
                file.truncate(10_000)
                tree.close_file(node)
                os.link(f"/proc/self/fd/{tree.root_fd}/empty", attribute.parent / "a")
                (attribute.parent / "a").unlink()
        with opened(attribute.parent, XATTR) as tree:
            User(tree).create("a", CONTENTS[:10_000])


def test_both_kinds_side_by_side_stay_what_they_are(attribute: Path) -> None:
    lower = attribute.parent
    with opened(lower, PLAIN) as tree:
        User(tree).create("header", b"1")
    for way in (PLAIN, XATTR):
        with opened(lower, way) as tree:
            for name in ("header", "a"):
                User(tree).write(name, 0, b"22")
                assert User(tree).read(name)[:2] == b"22"
    assert os.listxattr(lower / "header") == []
    assert attribute.stat().st_size == 12_288


@pytest.mark.parametrize("value", [b"", b"short", bytes(100), b"\xff" * 4096, None])
def test_attributes_that_are_no_header(attribute: Path, value: bytes | None) -> None:
    os.removexattr(attribute, OWN) if value is None else os.setxattr(attribute, OWN, value[:3000])
    with opened(attribute.parent, XATTR) as tree:
        user = User(tree)
        assert user.stat("a").size == 12_288
        with pytest.raises(FormatError), user.file("a"):
            pass


def test_an_attribute_whose_data_is_gone(attribute: Path) -> None:
    os.truncate(attribute, 0)
    with opened(attribute.parent, XATTR) as tree:
        user = User(tree)
        assert user.stat("a").size == 10_000
        with user.file("a") as file, pytest.raises(OSError, match="Input/output error"):
            read(file, 0, 1)


def test_an_attribute_that_vanishes_while_its_file_is_open_comes_back(attribute: Path) -> None:
    with opened(attribute.parent, XATTR) as tree:
        user = User(tree)
        with user.file("a", True) as file:
            before = os.getxattr(attribute, OWN)
            os.removexattr(attribute, OWN)
            file.write(10_000, b"x")
        assert os.getxattr(attribute, OWN)[8:] == before[8:]
        assert user.read("a") == CONTENTS[:10_000] + b"x"


@pytest.fixture
def as_owner(open_tmp_path: Path) -> Iterator[Path]:
    """A lower directory of an ordinary user, as whom the test runs."""
    os.chown(open_tmp_path, 65534, 65534)
    os.seteuid(65534)
    yield open_tmp_path
    os.seteuid(0)


def test_read_only_files_keep_their_attribute(as_owner: Path) -> None:
    """Made read-only at creation, as cp does, or while they are open, as git does."""
    with opened(as_owner, XATTR) as tree:
        user = User(tree)
        user.create("a", b"1" * 5000, mode=0o444)
        user.create("b", b"", mode=0o600)
        with user.node("b") as node, user.file("b", True) as file:
            attributes.change_mode(tree, node, 0o000)
            file.write(0, b"2" * 5000)
            assert stat.S_IMODE(tree.stat(node).stat.mode) == 0
            attributes.change_mode(tree, node, 0o400)
        assert user.read("a") == b"1" * 5000
        assert user.read("b") == b"2" * 5000
        assert stat.S_IMODE(user.stat("a").stat.mode) == 0o444
        assert user.stat("a").size == user.stat("b").size == 5000
        with pytest.raises(PermissionError), user.file("a", True):
            pass


def test_the_wrong_key_is_named(good: Path) -> None:
    with opened(good.parent, replace(PLAIN, content=(token(b"other"),))) as tree:
        with pytest.raises(KeyNotFoundError, match=f"encrypted for {token().sig}"), User(tree).file("a"):
            pass
        public_key_only(good)
        with pytest.raises(KeyNotFoundError, match="public key 6563727970746664"), User(tree).file("a"):
            pass
