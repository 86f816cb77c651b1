"""Manifests: what golden trees hold is listed, whatever changes is found, no other list is taken for one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fusecrypt.errors import FormatError, KeyNotFoundError, SecretError, UsageError
from fusecrypt.offline.digests import Digester, Object, Unreadable
from fusecrypt.offline.manifest import compare, read, write
from fusecrypt.offline.seals import KeyCheck, KeySeal, SignatureCheck, SignatureSeal
from fusecrypt.tree.resolve import Options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.golden import GoldenTree
from tests.tree.support import User, lower_name, lower_state, open_tree, opened, policy, token

every_tree = pytest.mark.parametrize("kernels", golden.passphrase_trees(), ids=lambda tree: tree.name)


def digested(tree: Tree) -> list[Object | Unreadable]:
    with closing(Digester(tree, 2).run()) as found:
        return list(found)


def objects(tree: Tree) -> list[Object]:
    found = digested(tree)
    assert not any(isinstance(each, Unreadable) for each in found)
    return [each for each in found if isinstance(each, Object)]


@every_tree
def test_lists_what_the_kernel_shows(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    options = Options(read_only=True, passthrough="ecryptfs_passthrough" in kernels.flags)
    with open_tree(lower, kernels.passphrases, options, kernels.keys[0].salt) as tree:
        found = {os.fsdecode(each.path): each for each in digested(tree)}
    assert lower_state(lower) == before
    entries = {entry["path"]: entry for entry in kernels.manifest()}
    assert found.keys() == entries.keys()
    for path, entry in entries.items():
        each = found[path]
        if "error" in entry:
            assert isinstance(each, Unreadable)
            assert each.status == 4
            continue
        assert isinstance(each, Object)
        if entry["type"] == "file":
            assert (each.size, each.sha256 and each.sha256.hex()) == (entry["size"], entry["sha256"])
        if entry["type"] == "symlink":
            assert each.target == os.fsencode(entry["target"])
        if "rdev" in entry:
            assert each.device == tuple(entry["rdev"])


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    path = tmp_path / "lower"
    path.mkdir()
    with opened(path, policy()) as tree:
        user = User(tree)
        user.mkdir("d")
        for name in ("a", "d/b", b"\xff\n\x1b"):
            user.create(name, os.fsencode(name) * 4000)
        user.symlink(b"target", "link")
        user.mknod("pipe", stat.S_IFIFO | 0o600)
    return path


@pytest.fixture
def listed(lower: Path, tmp_path: Path) -> Path:
    with opened(lower, policy()) as tree:
        write(tmp_path / "list", objects(tree), KeySeal(token()))
    return tmp_path / "list"


def differences(lower: Path, listed: Path) -> set[tuple[str, bytes]]:
    with opened(lower, policy(read_only=True)) as tree:
        return {(d.what, d.path) for d in compare(read(listed, KeyCheck(tree.policy)), digested(tree))}


def another_kind(user: User) -> None:
    user.unlink("a")
    user.mkdir("a")


def another_target(user: User) -> None:
    user.unlink("link")
    user.symlink(b"x", "link")


Change = Callable[[User], Any]
CHANGES: dict[str, tuple[Change, set[tuple[str, bytes]]]] = {
    "nothing": (lambda user: None, set()),
    "contents": (lambda user: user.write("a", 2000, b"b"), {("changed", b"a")}),
    "longer": (lambda user: user.write("a", 4000, b"a"), {("changed", b"a")}),
    "renamed": (lambda user: user.rename("d/b", "c"), {("missing", b"d/b"), ("added", b"c")}),
    "exchanged": (lambda user: user.rename("a", "d/b", 2), {("changed", b"a"), ("changed", b"d/b")}),
    "removed": (lambda user: user.unlink(b"\xff\n\x1b"), {("missing", b"\xff\n\x1b")}),
    "another kind": (another_kind, {("changed", b"a")}),
    "another target": (
        another_target,
        {("changed", b"link")},
    ),
}


@pytest.mark.parametrize(("change", "found"), CHANGES.values(), ids=CHANGES)
def test_what_changes_is_found(
    change: Change, found: set[tuple[str, bytes]], lower: Path, listed: Path
) -> None:
    with opened(lower, policy()) as tree:
        change(User(tree))
    assert differences(lower, listed) == found


def test_what_cannot_be_read_is_named(lower: Path, listed: Path) -> None:
    with opened(lower, policy()) as tree:
        path = lower / lower_name(tree, "a")
    os.truncate(path, 8192 + 2000)
    with opened(lower, policy(read_only=True)) as tree:
        (found,) = compare(read(listed, KeyCheck(tree.policy)), digested(tree))
    assert (found.what, found.path, found.status) == ("unreadable", b"a", 4)
    assert found.detail == "cut in the data: 0 of 4000 octets are there"


def test_abandoned_runs_leave_nothing_open(tmp_path: Path) -> None:
    with opened(tmp_path, policy()) as tree:
        for number in range(100):
            User(tree).create(f"file{number}", b"x" * 50_000)
        run = Digester(tree, 2).run()
        for _ in range(3):
            next(run)
        run.close()  # opened() sees whether a node is left


def test_the_seal_is_as_documented(listed: Path) -> None:
    lines = listed.read_bytes().splitlines(keepends=True)
    digest = hashlib.sha256(b"".join(lines[:-1])).digest()
    head, last = json.loads(lines[0]), json.loads(lines[-1])
    assert (head["format"], head["version"]) == ("fusecrypt-manifest", 1)
    info = b"fusecrypt/v1/manifest-mac"
    key = HKDF(hashes.SHA256(), 32, bytes.fromhex(head["salt"]), info).derive(bytes(token().key.view()))
    context = hmac.HMAC(key, hashes.SHA256())
    context.update(b"fusecrypt/v1/manifest\0" + digest)
    assert last == {"hmac": context.finalize().hex(), "key": token().sig}
    for line in lines:
        assert line == json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert "\udcff\n\x1b" in [json.loads(line)["path"] for line in lines[1:-1]]


def test_any_flipped_bit_of_the_list_is_noticed(listed: Path) -> None:
    octets = listed.read_bytes()
    chance = random.Random(1)
    for _ in range(300):
        at = chance.randrange(len(octets))
        listed.write_bytes(octets[:at] + bytes([octets[at] ^ 1 << chance.randrange(8)]) + octets[at + 1 :])
        with pytest.raises((FormatError, KeyNotFoundError)):
            read(listed, KeyCheck(policy()))
    for cut in range(0, len(octets), 7):
        listed.write_bytes(octets[:cut])
        with pytest.raises(FormatError):
            read(listed, KeyCheck(policy()))


def test_lines_may_not_be_exchanged_or_left_out(listed: Path) -> None:
    lines = listed.read_bytes().splitlines(keepends=True)
    for changed in (
        [*lines[:2], *lines[3:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines, lines[-1]],
    ):
        listed.write_bytes(b"".join(changed))
        with pytest.raises(FormatError):
            read(listed, KeyCheck(policy()))


def pem(path: Path, key: Any) -> Path:
    private = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(key.private_bytes(*private))
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path.with_suffix(".pub").write_bytes(public)
    return path


def test_signatures(lower: Path, tmp_path: Path, listed: Path) -> None:
    ours = pem(tmp_path / "ours", Ed25519PrivateKey.generate())
    other = pem(tmp_path / "other", Ed25519PrivateKey.generate())
    signed = tmp_path / "signed"
    with opened(lower, policy()) as tree:
        write(signed, objects(tree), SignatureSeal.read(ours))
    by_us = SignatureCheck.read(ours.with_suffix(".pub"))
    assert read(signed, by_us) == read(listed, KeyCheck(policy()))
    with pytest.raises(FormatError, match="another key"):
        read(signed, SignatureCheck.read(other.with_suffix(".pub")))
    with pytest.raises(FormatError, match="not signed"):
        read(listed, by_us)
    with pytest.raises(UsageError, match="is signed"):
        read(signed, KeyCheck(policy()))
    signed.write_bytes(signed.read_bytes().replace(b"pipe", b"pipa"))
    with pytest.raises(FormatError, match="not the one that was made"):
        read(signed, by_us)


def test_keys_that_are_none(tmp_path: Path) -> None:
    wrong = pem(tmp_path / "wrong", X25519PrivateKey.generate())
    (tmp_path / "text").write_text("no key")
    for path in (wrong, tmp_path / "text"):
        with pytest.raises(SecretError, match="holds no Ed25519 private key"):
            SignatureSeal.read(path)
    for path in (wrong.with_suffix(".pub"), tmp_path / "text"):
        with pytest.raises(SecretError, match="holds no Ed25519 public key"):
            SignatureCheck.read(path)


def test_another_tree_key_is_named(listed: Path) -> None:
    other = policy()
    other = type(other)((token(b"another"),), other.cipher)
    with pytest.raises(KeyNotFoundError, match=token().sig):
        read(listed, KeyCheck(other))


def test_a_list_is_written_whole_or_not_at_all(lower: Path, listed: Path) -> None:
    before = listed.read_bytes()

    def failing() -> Any:
        yield Object(b"a", "directory")
        raise OSError(errno.EIO, "the disk fails")

    with pytest.raises(OSError, match="the disk fails"):
        write(listed, failing(), KeySeal(token()))
    assert listed.read_bytes() == before
    assert sorted(os.listdir(listed.parent)) == ["list", "lower"]


def test_a_list_is_for_its_owner_and_spares_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "list.tmp").write_text("not ours")
    write(tmp_path / "list", [Object(b"a", "directory")], KeySeal(token()))
    assert stat.S_IMODE((tmp_path / "list").stat().st_mode) == 0o600
    assert (tmp_path / "list.tmp").read_text() == "not ours"
