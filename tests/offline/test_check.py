"""The check of whole trees: nothing is wrong with the kernel's, and damage has its name."""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fusecrypt.keys.token import FNEK_SALT
from fusecrypt.offline import check
from fusecrypt.offline.check import Checker
from fusecrypt.offline.digests import Digester, Object, Unreadable
from fusecrypt.offline.findings import Fault, Finding, Kind
from fusecrypt.offline.fit import Room, too_long
from fusecrypt.offline.health import State
from fusecrypt.offline.manifest import Comparison, compare
from fusecrypt.ondisk.header import parse_header
from fusecrypt.tree.names import name_codec
from fusecrypt.tree.policy import NamePolicy, Policy
from fusecrypt.tree.resolve import Options
from tests import golden
from tests.golden import GoldenTree
from tests.offline.support import made_tree
from tests.tree.support import OWN, User, lower_name, lower_state, opened, policy, resolved, token

every_tree = pytest.mark.parametrize("kernels", golden.passphrase_trees(), ids=lambda tree: tree.name)
SIZE = 10_000
PLAIN = policy(names=False)
XATTR = replace(PLAIN, xattr_metadata=True)


def findings(lower: Path, with_policy: Policy | None) -> list[Finding]:
    """What is not good."""
    fd = os.open(lower, os.O_RDONLY)
    try:
        return [finding for finding in Checker(fd, with_policy, 2).findings() if not finding.is_good]
    finally:
        os.close(fd)


def kinds(lower: Path, with_policy: Policy | None) -> set[Kind]:
    return {finding.kind for finding in findings(lower, with_policy)}


def its_policy(kernels: GoldenTree, lower: Path) -> Policy:
    options = Options(read_only=True, passthrough="ecryptfs_passthrough" in kernels.flags)
    return resolved(lower, kernels.passphrases, options, kernels.keys[0].salt).policy


@every_tree
def test_nothing_is_wrong_with_what_the_kernel_wrote(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    found = findings(lower, its_policy(kernels, lower))
    without = findings(lower, None)
    assert lower_state(lower) == before
    if kernels.name == "no-passthrough-plain-files":
        assert {finding.kind for finding in found} == {State.FOREIGN}
        return
    plain = {State.EMPTY, Fault.PLAIN_NAME} if "ecryptfs_passthrough" in kernels.flags else set()
    assert {finding.kind for finding in found} <= plain
    lookalikes = {b"names/ECRYPTFS_FNEK_ENCRYPTED.", b"names/ECRYPTFS_FNEK_ENCRYPTED.plainlookalike"}
    assert all(f.kind in (State.FOREIGN, State.EMPTY) or f.lower in lookalikes for f in without)


def test_every_object_is_looked_at(tmp_path: Path) -> None:
    kernels = golden.tree("aes16-fnek")
    lower = kernels.unpack(tmp_path / "lower")
    fd = os.open(lower, os.O_RDONLY)
    found = list(Checker(fd, its_policy(kernels, lower), 2).findings())
    os.close(fd)
    assert {os.fsdecode(finding.upper or b"") for finding in found} == {
        entry["path"] for entry in kernels.manifest()
    }
    assert all(os.path.lexists(lower / os.fsdecode(finding.lower)) for finding in found)


def digested(lower: Path, by: Policy) -> list[Object | Unreadable]:
    with opened(lower, by) as tree, closing(Digester(tree, 2).run()) as found:
        return list(found)


# One file


def overwrite(path: Path, at: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(octets)


def other_key(path: Path) -> None:
    octets = path.read_bytes()
    path.write_bytes(octets.replace(token().signature, b"somebody"))


Damage = Callable[[Path], object]
DAMAGE: dict[str, tuple[Damage, set[Kind], set[Kind]]] = {
    # What was done, what is found with the key, and without.
    "empty": (lambda p: os.truncate(p, 0), {State.EMPTY}, {State.EMPTY}),
    "cut in the marker": (lambda p: os.truncate(p, 10), {State.FOREIGN}, {State.FOREIGN}),
    "cut in the packets": (lambda p: os.truncate(p, 60), {State.BAD_HEADER}, {State.BAD_HEADER}),
    "cut in the header": (lambda p: os.truncate(p, 8191), {State.CUT_IN_HEADER}, {State.CUT_IN_HEADER}),
    "cut in the data": (lambda p: os.truncate(p, 8192 + 4096), {State.CUT_IN_DATA}, {State.CUT_IN_DATA}),
    "one octet less": (lambda p: os.truncate(p, 20479), {State.CUT_IN_DATA}, {State.CUT_IN_DATA}),
    "one extent more": (lambda p: overwrite(p, 20480, b"x" * 4096), {State.LONGER}, {State.LONGER}),
    "much longer": (lambda p: overwrite(p, 100_000, b"x"), {Fault.SIZE}, {Fault.SIZE}),
    "smaller size": (lambda p: overwrite(p, 0, struct.pack(">Q", 9990)), {Fault.TAIL}, set()),
    "larger size": (
        lambda p: overwrite(p, 0, struct.pack(">Q", 20_000)),
        {State.CUT_IN_DATA},
        {State.CUT_IN_DATA},
    ),
    "extent zeroed": (lambda p: overwrite(p, 12288, bytes(4096)), {Fault.ZEROED}, {Fault.ZEROED}),
    "sector zeroed": (lambda p: overwrite(p, 9000, bytes(512)), {Fault.ZEROED}, {Fault.ZEROED}),
    "wrapped FEK": (lambda p: overwrite(p, 50, b"\0\1\2"), {Fault.TAIL}, set()),
    "last extent": (lambda p: overwrite(p, 20_000, b"?"), {Fault.TAIL}, set()),
    "zero fill": (lambda p: overwrite(p, 5000, b"\1"), {Fault.HEADER_CHANGED}, {Fault.HEADER_CHANGED}),
    "iterations": (lambda p: overwrite(p, 40, b"\x61"), {Fault.HEADER_CHANGED}, {Fault.HEADER_CHANGED}),
    "flags": (lambda p: overwrite(p, 18, b"\1"), {Fault.HEADER_CHANGED}, {Fault.HEADER_CHANGED}),
    "version 1": (lambda p: overwrite(p, 16, b"\1"), {Fault.UNCOMMON_HEADER}, {Fault.UNCOMMON_HEADER}),
    "region": (lambda p: overwrite(p, 25, b"\0"), {State.BAD_HEADER}, {State.BAD_HEADER}),
    "other key": (other_key, {State.UNKNOWN_KEY}, set()),
    "plain": (lambda p: p.write_text("plain text"), {State.FOREIGN}, {State.FOREIGN}),
}


@pytest.mark.parametrize(("damage", "found", "without"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_file(damage: Damage, found: set[Kind], without: set[Kind], tmp_path: Path) -> None:
    with opened(tmp_path, PLAIN) as tree:
        User(tree).create("file", b"x" * SIZE)
    damage(tmp_path / "file")
    assert kinds(tmp_path, PLAIN) == found
    assert kinds(tmp_path, None) == without


XATTR_DAMAGE: dict[str, tuple[Damage, set[Kind]]] = {
    "gone": (lambda p: os.removexattr(p, OWN), {Fault.XATTR}),
    "cut": (lambda p: os.setxattr(p, OWN, os.getxattr(p, OWN)[:50]), {Fault.XATTR}),
    "longer": (lambda p: os.setxattr(p, OWN, os.getxattr(p, OWN) + b"\2"), {Fault.HEADER_CHANGED}),
    "text": (lambda p: os.setxattr(p, OWN, b"some text, not a header"), {Fault.XATTR}),
    "cut in the data": (lambda p: os.truncate(p, 4096), {State.CUT_IN_DATA}),
    "no data": (lambda p: os.truncate(p, 0), {State.CUT_IN_DATA}),
    "zeroed": (lambda p: overwrite(p, 4096, bytes(4096)), {Fault.ZEROED}),
}


@pytest.mark.parametrize(("damage", "found"), XATTR_DAMAGE.values(), ids=XATTR_DAMAGE)
def test_damaged_file_with_its_header_in_an_attribute(
    damage: Damage, found: set[Kind], tmp_path: Path
) -> None:
    with opened(tmp_path, XATTR) as tree:
        User(tree).create("file", b"x" * SIZE)
    assert kinds(tmp_path, XATTR) == set()
    damage(tmp_path / "file")
    assert kinds(tmp_path, XATTR) == found


@pytest.mark.parametrize("first", [True, False])
def test_keys_that_disagree(first: bool, tmp_path: Path) -> None:
    other = token(b"another")
    both = replace(PLAIN, content=(token(), other))
    with opened(tmp_path, both) as tree:
        User(tree).create("file", b"x" * 4096)
    assert kinds(tmp_path, both) == set()
    header = parse_header((tmp_path / "file").read_bytes())
    a, b = header.passphrase_packets
    packets = (replace(a, wrapped_fek=bytes(16)), b) if first else (a, replace(b, wrapped_fek=bytes(16)))
    overwrite(tmp_path / "file", 0, replace(header, packets=packets).encode())
    assert kinds(tmp_path, both) == {Fault.KEYS_DISAGREE}
    assert kinds(tmp_path, PLAIN) == set()


def test_extents_are_named(tmp_path: Path) -> None:
    with opened(tmp_path, PLAIN) as tree:
        User(tree).create("file", os.urandom(5 << 20))
    for extent in (3, 4, 5, 300, 1279):
        overwrite(tmp_path / "file", 8192 + extent * 4096 + 100, bytes(64))
    (found,) = findings(tmp_path, PLAIN)
    assert (found.kind, found.detail) == (Fault.ZEROED, "extents 3-5, 300, 1279")


@pytest.mark.parametrize("at", [30, 34, 74], ids=["cipher", "salt", "signature"])
def test_a_header_unlike_the_others(at: int, tmp_path: Path) -> None:
    with opened(tmp_path, PLAIN) as tree:
        for number in range(20):
            User(tree).create(f"file{number}", b"")
    path = tmp_path / "file7"
    header = parse_header(path.read_bytes())
    (packet,) = header.passphrase_packets
    changed = {
        30: replace(packet, cipher=policy("twofish", 16).cipher),
        34: replace(packet, salt=b"saltsalt"),
        74: replace(packet, signature=b"somebody"),
    }[at]
    overwrite(path, 0, replace(header, packets=(changed,)).encode())
    (found,) = findings(tmp_path, None)
    assert (found.kind, found.lower, found.status) == (Fault.UNCOMMON_HEADER, b"file7", 0)
    assert "(others: " in found.detail


# Names


@pytest.fixture
def named(tmp_path: Path) -> Path:
    with opened(tmp_path, policy()) as tree:
        User(tree).mkdir("directory")
        User(tree).create("directory/file", b"x")
        User(tree).symlink(b"directory/file", "link")
    assert findings(tmp_path, policy()) == []
    return tmp_path


def lower_path(lower: Path, upper: str, by: Policy | None = None) -> Path:
    with opened(lower, by or policy()) as tree:
        return lower / lower_name(tree, upper)


def test_names(named: Path) -> None:
    directory = lower_path(named, "directory")
    name = lower_path(named, "directory/file").name
    (directory / "plain").mkdir()
    (named / "lost+found").mkdir()
    (directory / (name[:40] + ("A" if name[40] != "A" else "B") + name[41:])).touch()
    (directory / f"{name[:30]}~{name[31:]}").touch()
    found = {(finding.kind, finding.upper) for finding in findings(named, policy())}
    assert found == {(Fault.PLAIN_NAME, None), (Fault.NAME, None), (State.EMPTY, None)}
    assert kinds(named, None) == {Fault.NAME, State.EMPTY}


def test_a_name_under_another_key(named: Path) -> None:
    other = token(b"another", FNEK_SALT)
    by_other = replace(policy(), names=NamePolicy(other, policy().cipher))
    directory = lower_path(named, "directory")
    (named / lower_path(named, "file", by_other).name).mkdir()
    (directory / lower_path(named, "file", by_other).name).mkdir()
    unknown = findings(named, policy())
    assert [(f.kind, f.upper, f.status) for f in unknown] == [(Fault.OTHER_FNEK, None, 3)] * 2
    at_hand = findings(named, replace(policy(), others=(other,)))
    assert {(f.kind, f.upper) for f in at_hand} == {
        (Fault.OTHER_FNEK, b"file"),
        (Fault.OTHER_FNEK, b"directory/file"),
        (Fault.CLASH, b"directory/file"),
    }


def test_two_lower_names_for_one_name(named: Path) -> None:
    longer = lower_path(named, "directory/file").name + "-"
    (lower_path(named, "directory") / longer).mkdir()
    found = findings(named, policy())
    assert {(f.kind, f.upper) for f in found} == {
        (Fault.CLASH, b"directory/file"),
        (Fault.NAME, b"directory/file"),
    }
    lower_path(named, "directory/file").unlink()
    assert kinds(named, policy()) == {Fault.NAME}


def test_another_cipher_for_names(named: Path) -> None:
    by_other = policy("aes", 32)
    (named / lower_path(named, "new", by_other).name).mkdir()
    (found,) = findings(named, policy())
    assert (found.kind, found.upper) == (Fault.NAME, b"new")
    assert found.detail == "it is encrypted with aes-256, others with aes-128"


def test_symlink_targets(named: Path) -> None:
    link = lower_path(named, "link")
    target = os.readlink(link)
    for name, changed in [
        ("a", "plain"),
        ("b", target[:-9] + "...."),
        ("c", target[:40] + ("0" if target[40] != "0" else "1") + target[41:]),
    ]:
        os.symlink(changed, lower_path(named, name))
    assert {(f.kind, f.upper) for f in findings(named, policy())} == {
        (Fault.TARGET, b"a"),
        (Fault.TARGET, b"b"),
        (Fault.TARGET, b"c"),
    }


def test_what_is_too_long_to_import(tmp_path: Path) -> None:
    (tmp_path / ("a" * 143)).mkdir()
    (tmp_path / ("a" * 143) / ("b" * 144)).touch()
    os.symlink("t" * 3007, tmp_path / "good")
    os.symlink("t" * 3008, tmp_path / "long")
    fd = os.open(tmp_path, os.O_RDONLY)
    found = [(finding.kind, finding.lower.decode()) for finding in too_long(fd, Room())]
    os.close(fd)
    assert sorted(found, key=str) == [
        (Fault.TOO_LONG, "a" * 143 + "/" + "b" * 144),
        (Fault.TOO_LONG, "long"),
    ]


def test_a_file_that_could_not_be_compared_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lower, by = made_tree(tmp_path / "lower", "file"), policy("aes", 32)
    listed = {each.path: each for each in digested(lower, by) if isinstance(each, Object)}

    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(check, "open_file", fails)
    fd = os.open(lower, os.O_RDONLY)
    try:
        found = list(Checker(fd, by, 2, Comparison(listed)).findings())
    finally:
        os.close(fd)
    assert [(each.kind, each.upper, each.detail) for each in found] == [
        (Fault.UNREADABLE, b"file", "Too many open files")
    ]


# Chance


@pytest.mark.parametrize(
    "rounds", [pytest.param(60, id="some"), pytest.param(1000, id="many", marks=pytest.mark.full)]
)
def test_seeded_damage(rounds: int, tmp_path: Path) -> None:
    """Whatever shows in a header, a length or zeros is found, with a manifest all else; nothing crashes."""
    kernels = golden.tree("aes16-fnek")
    lower = kernels.unpack(tmp_path / "lower")
    by = its_policy(kernels, lower)
    everything = [Path(above, name) for above, _, names in os.walk(lower) for name in names]
    files = sorted(path for path in everything if stat.S_ISREG(path.lstat().st_mode))
    listed = {each.path: each for each in digested(lower, by) if isinstance(each, Object)}
    sums = {path: listed[upper_name(lower, by, path)].sha256 for path in files}
    chance = random.Random(5)
    unseen = 0
    for _ in range(rounds):
        path = chance.choice(files)
        octets = path.read_bytes()
        other = chance.choice(files) if chance.randrange(5) == 0 else path
        if other != path:
            damaged, sure = other.read_bytes(), False
        else:
            damaged, sure = damage_by_chance(chance, octets)
        if damaged == octets:
            continue
        path.write_bytes(damaged)
        found = {finding.lower for finding in findings(lower, by)}
        here = os.fsencode(path.relative_to(lower))
        links = {os.fsencode(p.relative_to(lower)) for p in files if p.samefile(path)}
        assert found <= links
        assert here in found or not sure
        if here not in found:
            unseen += 1
            empty = not octets[:8].strip(b"\0") and len(damaged) == 8192  # whose key is damaged: no matter
            alike = other != path and sums[other] == sums[path]
            assert empty or alike or list(compare(dict(listed), digested(lower, by)))
        path.write_bytes(octets)
    assert unseen < rounds * 2 / 3
    assert findings(lower, by) == []


def upper_name(lower: Path, by: Policy, path: Path) -> bytes:
    codec = name_codec(by.names)
    names = [codec.decode(os.fsencode(name)) for name in path.relative_to(lower).parts]
    return b"/".join(name or b"?" for name in names)


def damage_by_chance(chance: random.Random, octets: bytes) -> tuple[bytes, bool]:
    """Damage a lower file; and whether it must be noticed without knowing what was in it."""
    match chance.randrange(4):
        case 0:
            return octets[: chance.randrange(len(octets))], True
        case 1:
            n = chance.randrange(64, 6000)
            at = chance.randrange(max(1, len(octets) - n))
            return octets[:at] + bytes(min(n, len(octets) - at)) + octets[at + n :], at + 64 <= len(octets)
        case 2:
            at = chance.randrange(200) if chance.randrange(2) else chance.randrange(8192)
            # The size may still be possible, and an encrypted key has no check value.
            sure = not (at < 8 or 41 <= at < 57)
        case _:
            at = chance.randrange(len(octets))
            sure = False
    return octets[:at] + bytes([octets[at] ^ 1 << chance.randrange(8)]) + octets[at + 1 :], sure
