"""Names and targets in a tree: which are shown, which fit, and what the policy hides or refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fusecrypt.errors import FormatError, FusecryptError, NameTooLongError, UndecodableNameError
from fusecrypt.native import name_prefix
from fusecrypt.ondisk.ciphers import CIPHERS, choose
from fusecrypt.tree import attributes, changes
from fusecrypt.tree.names import name_codec
from fusecrypt.tree.policy import NamePolicy, Policy
from tests import names
from tests.tree.support import OWN, User, lower_name, lower_state, opened, policy, token

AES = policy()
OTHERS = [
    replace(AES, names=NamePolicy(token(b"other"), choose("aes", 16))),
    policy("aes", 32),
    policy("twofish", 16),
]


def named(plaintext: bytes, way: Policy = AES) -> bytes:
    """A lower name with any plaintext, as a stranger could make it."""
    assert way.names
    return names.seal(way.names.token, way.names.cipher, plaintext)


def padded(name: bytes, filling: bytes | None = None) -> bytes:
    size = names.fill_size(len(name), 16)
    assert AES.names
    return (filling or name_prefix(AES.names.token.key, size)) + b"\0" + name


HOSTILE = {
    "dot": named(padded(b".")),
    "dot dot": named(padded(b"..")),
    "slash": named(padded(b"/")),
    "path": named(padded(b"../../etc/passwd")),
    "NUL": named(padded(b"a\0b")),
    "empty": named(padded(b"").ljust(32, b"\1")[:-1] + b"\0"),
    "no separator": named(b"\x42" * 32),
    "another filling": named(padded(b"name", b"\x41" * names.fill_size(4, 16))),
    "more filling": named(padded(b"name", b"\x41" * (16 + names.fill_size(4, 16)))),
    "another key": named(padded(b"name"), OTHERS[0]),
    "another key size": named(padded(b"name"), OTHERS[1]),
    "another cipher": named(padded(b"name"), OTHERS[2]),
    "foreign character": named(padded(b"name"))[:-1] + b"!",
    "cut": named(padded(b"name"))[:-4],
    "longer": named(padded(b"name")) + b"----",
    "plain": b"lost+found",
    "prefix alone": b"ECRYPTFS_FNEK_ENCRYPTED.",
    "old prefix": b"ECRYPTFS_FEK_ENCRYPTED.FWaGeZtZ",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_names_that_are_not_shown(lower: Path, hostile: bytes) -> None:
    (lower / os.fsdecode(hostile)).touch()
    with opened(lower, AES) as tree:
        user = User(tree)
        user.create("real")
        assert user.list() == [b"real"]
        assert tree.lookup(tree.root, hostile) is None
        if hostile != HOSTILE["cut"]:
            assert tree.lookup(tree.root, b"name") is None
        # A directory full of them is as empty as it can be.
        user.unlink("real")
        assert user.list() == []


def test_a_listing_goes_on_after_a_foreign_name(lower: Path) -> None:
    for way in (AES, *OTHERS):
        with opened(lower, way) as tree:
            for i in range(30):
                User(tree).create(f"file {i}")
    for way in (AES, *OTHERS):
        with opened(lower, way) as tree:
            assert User(tree).list() == sorted(b"file %d" % i for i in range(30))


UNUSUAL = [b"\xff\xfe", b" ", b"-", b"a\nb", b"...", b"\x01", b"ECRYPTFS_FNEK_ENCRYPTED.FWaGeZtZ", b"*" * 143]


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_names(user: User, name: bytes) -> None:
    user.create(name, b"1")
    assert user.list() == [name]
    assert user.read(name) == b"1"
    user.rename(name, b"x")
    user.rename(b"x", name)
    user.unlink(name)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_length_of_a_name(lower: Path, cipher: str) -> None:
    way = policy(cipher, choose(cipher, min(CIPHERS[cipher].key_sizes)).key_bytes)
    with opened(lower, way) as tree:
        user = User(tree)
        expected = [b"n" * n for n in range(1, 144)]
        for name in expected:
            user.mknod(name, 0o010600)
        assert user.list() == expected
        assert tree.statfs()[1] == 143
        for make in (user.create, user.mkdir):
            with pytest.raises(OSError, match="File name too long"):
                make(b"n" * 144)
        with pytest.raises(NameTooLongError):
            tree.lookup(tree.root, b"n" * 9000)
        with pytest.raises(OSError, match="File name too long"):
            tree.lookup(tree.root, b"n" * 144)


def test_plain_names_have_the_lower_limit(plain: User) -> None:
    assert plain.tree.statfs()[1] == 255
    plain.create("n" * 255)
    with pytest.raises(OSError, match="File name too long"):
        plain.create("n" * 256)


@pytest.mark.parametrize(
    "target", [b"x", b"/etc/passwd", b"../..", b"\xff", b"t" * 159, b"t" * 160, b"t" * 3007]
)
def test_symlinks(user: User, target: bytes) -> None:
    user.symlink(target, "l")
    assert user.readlink("l") == target
    assert user.stat("l").size == len(target)
    (lower,) = os.listdir(user.tree.root_fd)
    assert (os.fsencode(os.readlink(lower, dir_fd=user.tree.root_fd)) == target) == user.tree.codec.plain


def test_the_longest_target(lower: Path) -> None:
    with opened(lower, AES) as tree:
        for n in (3008, 4095, 8360, 9000):
            with pytest.raises((OSError, NameTooLongError)) as caught:
                User(tree).symlink(b"t" * n, "l")
            error: Exception = caught.value
            assert isinstance(error, OSError | FusecryptError)
            assert error.errno == errno.ENAMETOOLONG
        assert User(tree).list() == []


@pytest.mark.parametrize("target", [b"/etc/passwd", b"x", HOSTILE["another key"], HOSTILE["no separator"]])
def test_symlinks_that_do_not_decode(lower: Path, target: bytes) -> None:
    with opened(lower, AES) as tree:
        user = User(tree)
        os.symlink(target, lower / lower_name(tree, "l"))
        assert user.list() == [b"l"]
        assert user.stat("l").size == len(target)
        with pytest.raises(FormatError):
            user.readlink("l")
        user.unlink("l")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_the_codec_agrees_with_plain_python(cipher: str) -> None:
    way = policy(cipher, choose(cipher, min(CIPHERS[cipher].key_sizes)).key_bytes).names
    assert way
    codec = name_codec(way)
    for upper in (b"x", b"name", b"\xff" * 143, b"t" * 3007):
        lower = names.encode(way.token, way.cipher, upper)
        assert codec.encode(upper) == codec.encode_target(upper) == lower
        assert codec.decode(lower) == codec.decode_target(lower) == upper
        assert codec.longest(len(lower)) >= len(upper) > codec.longest(len(lower) - 1)
    target = codec.encode_target(b"../a")
    assert codec.decode_target(target) == b"../a"
    assert codec.decode(target) is None
    with pytest.raises(UndecodableNameError):
        codec.decode_target(b"../a")


@pytest.mark.parametrize("name", [b"", b".", b"..", b"/", b"a/b", b"a\0b", b"\0"])
def test_the_codec_refuses_what_is_no_name(name: bytes, mode: Policy) -> None:
    with pytest.raises(OSError, match="not a file name"):
        name_codec(mode.names).encode(name)


# The attribute that is fusecrypt's own, and policies that change nothing


def test_our_own_attribute_is_hidden_and_refused(user: User) -> None:
    user.create("a", b"1")
    with user.node("a") as node:
        tree = user.tree
        attributes.set_xattr(tree, node, b"user.mine", b"1")
        assert attributes.list_xattrs(tree, node) == [b"user.mine"]
        with pytest.raises(OSError, match="No data available"):
            attributes.get_xattr(tree, node, OWN)
        with pytest.raises(PermissionError):
            attributes.set_xattr(tree, node, OWN, b"destroyed")
        with pytest.raises(PermissionError):
            attributes.remove_xattr(tree, node, OWN)
        with pytest.raises(FileExistsError):
            attributes.set_xattr(tree, node, b"user.mine", b"2", os.XATTR_CREATE)
        assert attributes.get_xattr(tree, node, b"user.mine") == b"1"
        attributes.remove_xattr(tree, node, b"user.mine")
        with pytest.raises(OSError, match="No data available"):
            attributes.remove_xattr(tree, node, b"user.mine")
    assert user.read("a") == b"1"


def test_attributes_of_everything(user: User) -> None:
    user.create("f")
    user.mkdir("d")
    user.symlink(b"x", "l")
    user.mknod("p", 0o010600)
    for name in ("f", "d", "l", "p"):
        with user.node(name) as node:
            attributes.change_owner(user.tree, node, 12, 34)
            attributes.change_times(user.tree, node, 1_234_567_890_123_456_789, -1)
            attributes.change_times(user.tree, node, None, 987_654_321)
            attributes.change_owner(user.tree, node, -1, 35)
            attributes.set_xattr(user.tree, node, b"trusted.x", b"\0\1")
            assert attributes.get_xattr(user.tree, node, b"trusted.x") == b"\0\1"
            if name != "l":
                attributes.change_mode(user.tree, node, 0o4751)
            st = user.tree.stat(node).stat
            assert (st.uid, st.gid, st.atime_ns, st.mtime_ns) == (
                12,
                35,
                1_234_567_890_123_456_789,
                987_654_321,
            )
            assert st.mode & 0o7777 == (0o777 if name == "l" else 0o4751)


Change = Callable[[User], object]

CHANGES: dict[str, Change] = {
    "create": lambda user: user.create("new"),
    "open for writing": lambda user: user.write("a", 0, b"x"),
    "open an empty file": lambda user: user.write("empty", 0, b"x"),
    "truncate": lambda user: user.truncate("a", 1),
    "mkdir": lambda user: user.mkdir("new"),
    "mknod": lambda user: user.mknod("new", 0o010600),
    "symlink": lambda user: user.symlink(b"x", "new"),
    "link": lambda user: user.link("a", "new"),
    "unlink": lambda user: user.unlink("a"),
    "rmdir": lambda user: user.rmdir("d"),
    "rename": lambda user: user.rename("a", "new"),
    "exchange": lambda user: user.rename("a", "d", changes.RENAME_EXCHANGE),
    "chmod": lambda user: on("a", user, lambda node: attributes.change_mode(user.tree, node, 0)),
    "chown": lambda user: on("a", user, lambda node: attributes.change_owner(user.tree, node, 1, 1)),
    "utimens": lambda user: on("a", user, lambda node: attributes.change_times(user.tree, node, 1, 1)),
    "setxattr": lambda user: on(
        "a", user, lambda node: attributes.set_xattr(user.tree, node, b"user.x", b"")
    ),
    "own": lambda user: on("a", user, lambda node: attributes.set_xattr(user.tree, node, OWN, b"")),
    "removexattr": lambda user: on(
        "a", user, lambda node: attributes.remove_xattr(user.tree, node, b"user.y")
    ),
}


def on(path: str, user: User, change: Callable[..., None]) -> None:
    with user.node(path) as node:
        change(node)


def test_a_read_only_tree_changes_nothing(lower: Path, mode: Policy) -> None:
    with opened(lower, mode) as tree:
        user = User(tree)
        user.create("a", b"abc")
        user.mkdir("d")
        on("a", user, lambda node: attributes.set_xattr(tree, node, b"user.y", b"1"))
        (lower / lower_name(tree, "empty")).touch()
    before = lower_state(lower)
    with opened(lower, replace(mode, read_only=True)) as tree:
        user = User(tree)
        for change in CHANGES.values():
            with pytest.raises(OSError, match="Read-only file system"):
                change(user)
        assert user.read("a") == b"abc"
        assert user.read("empty") == b""
        assert user.list() == [b"a", b"d", b"empty"]
    assert lower_state(lower) == before
