"""Exporting trees: what arrives, what is told, what is never done."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusecrypt.errors import TreeError, UsageError
from fusecrypt.offline.export import export_tar
from fusecrypt.offline.items import Problem, Tally
from fusecrypt.offline.rules import UnfinishedError
from fusecrypt.offline.target import WORK
from fusecrypt.tree.resolve import Options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.golden import TAR_FLAGS, GoldenTree
from tests.manifest import diff, manifest
from tests.offline.copies import exported, readable, rules, told_of
from tests.offline.test_corrupted import corrupt
from tests.tree.support import User, lower_name, lower_state, open_tree, opened, policy
from tests.tree.test_golden import every_tree, options_of, salt_of

READ_ONLY = Options(read_only=True)


@every_tree
def test_golden_trees_arrive_as_the_kernel_shows_them(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    options = replace(options_of(kernels), read_only=True)
    expected = kernels.manifest()
    with open_tree(lower, kernels.passphrases, options, salt_of(kernels)) as tree:
        told, tally = exported(tree, tmp_path / "out", rules(keep_going=True))
        assert diff(readable(expected), manifest(tmp_path / "out")) == []
        failed = {entry["path"] for entry in expected if "error" in entry}
        if tree.policy.names is not None:  # the kernel does not show plain names then
            failed |= {name for name in os.listdir(lower) if not name.startswith("ECRYPTFS_FNEK_ENCRYPTED.")}
        assert {path for path, (_, status) in told_of(told).items() if status} == failed
        assert tally.objects == tally.all_objects - len(failed & {entry["path"] for entry in expected})
        again, second = exported(tree, tmp_path / "out", rules(keep_going=True))
        assert second.there == second.objects
        assert again == told
    assert diff(readable(expected), manifest(tmp_path / "out")) == []
    assert lower_state(lower) == before


@every_tree
def test_gnu_tar_unpacks_them_as_the_kernel_shows_them(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    told: list[Problem] = []
    options = replace(options_of(kernels), read_only=True)
    with open_tree(lower, kernels.passphrases, options, salt_of(kernels)) as tree:
        with (tmp_path / "tar").open("wb") as out:
            export_tar(tree, out, rules(keep_going=True), told.append, Tally())
        (tmp_path / "out").mkdir()
        command = ["tar", "--acls", *TAR_FLAGS, "--warning=no-timestamp", "-xpf", "../tar"]
        done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, check=True)
        assert done.stderr == b""
        found = readable([entry for entry in kernels.manifest() if entry["type"] != "socket"])
        assert diff(found, manifest(tmp_path / "out")) == []
        sockets = {entry["path"] for entry in kernels.manifest() if entry["type"] == "socket"}
        assert {p for p, (reason, _) in told_of(told).items() if "socket" in reason} == sockets


@pytest.fixture
def kernels() -> GoldenTree:
    return golden.tree("aes32")


@pytest.fixture
def lower(kernels: GoldenTree, tmp_path: Path) -> Path:
    return kernels.unpack(tmp_path / "lower")


@pytest.fixture
def tree(kernels: GoldenTree, lower: Path) -> Iterator[Tree]:
    with open_tree(lower, kernels.passphrases, READ_ONLY) as tree:
        yield tree


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Tree]:
    """A writable tree with what golden trees lack."""
    (tmp_path / "made").mkdir()
    with opened(tmp_path / "made", policy()) as tree:
        user = User(tree)
        user.mkdir("d")
        user.mkdir("d/e")
        user.create("d/one", b"1" * 5000)
        user.create("d/e/two", b"2")
        user.create("top", bytes(range(256)) * 5000)
        user.symlink(b"/etc/passwd", "link")
        yield tree


# Damage


def test_each_damage_is_named_and_what_can_be_read_is_kept(tree: Tree, lower: Path, tmp_path: Path) -> None:
    whole = User(tree).read("docs/f10000")
    os.truncate(lower / lower_name(tree, "docs/f10000"), 8192 + 4096)
    with (lower / lower_name(tree, "docs/f4097")).open("r+b") as file:
        file.write(bytes(200))
    (lower / "ECRYPTFS_FNEK_ENCRYPTED.FWaGeZtZroniVkR3OEqdbGM3RUpL747YhuZ7").write_bytes(b"x")
    (lower / "plain").write_bytes(b"x")
    told, tally = exported(tree, tmp_path / "out", rules(keep_going=True))
    found = told_of(told)
    assert found.pop("docs/f10000") == (
        "cut in the data: 4096 of 10000 octets are there; the 4096 octets that can be read are in "
        "docs/f10000.partial",
        4,
    )
    assert found.pop("plain") == ("name not encrypted: it is not shown above", 4)
    assert found.pop("docs/f4097")[1] == 4
    ((path, (_, status)),) = found.items()
    assert path.startswith("ECRYPTFS_FNEK_ENCRYPTED.")
    assert status > 0
    assert (tmp_path / "out" / "docs" / "f10000.partial").read_bytes() == whole[:4096]
    assert not (tmp_path / "out" / "docs" / "f10000").exists()
    assert not (tmp_path / "out" / "docs" / "f4097").exists()
    assert (tmp_path / "out" / "docs" / "f4096").exists()
    assert tally.objects == tally.all_objects - 2


def test_without_keep_going_it_ends_with_the_object(tree: Tree, lower: Path, tmp_path: Path) -> None:
    os.truncate(lower / lower_name(tree, "docs/f10000"), 8192 + 4096)
    with pytest.raises(UnfinishedError, match="docs/f10000: cut in the data") as caught:
        exported(tree, tmp_path / "out", rules())
    assert caught.value.exit_status == 4
    assert not list((tmp_path / "out").rglob("f10000*"))


def test_a_tar_has_what_can_be_read_too(tree: Tree, lower: Path, tmp_path: Path) -> None:
    whole = User(tree).read("docs/f10000")
    os.truncate(lower / lower_name(tree, "docs/f10000"), 8192 + 4096 + 100)
    told: list[Problem] = []
    with (tmp_path / "tar").open("wb") as out:
        export_tar(tree, out, rules(keep_going=True), told.append, Tally())
    assert "4096 octets that can be read are in docs/f10000.partial" in told_of(told)["docs/f10000"][0]
    subprocess.run(["tar", "-xf", tmp_path / "tar"], cwd=tmp_path, check=True)
    assert (tmp_path / "docs" / "f10000.partial").read_bytes() == whole[:4096]
    with (tmp_path / "tar").open("wb") as out, pytest.raises(UnfinishedError, match="cut in the data"):
        export_tar(tree, out, rules(), told.append, Tally())


@pytest.mark.parametrize("name", ["aes32", "aes16-plain-names", "two-keys"])
@pytest.mark.parametrize("rounds", [40, pytest.param(334, marks=pytest.mark.full)])
def test_seeded_corruptions_leave_the_others_whole(name: str, rounds: int, tmp_path: Path) -> None:
    kernels = golden.tree(name)
    lower = kernels.unpack(tmp_path / "lower")
    files = [path for path in lower.rglob("*") if path.is_file() and not path.is_symlink()]
    sums = {e["path"]: e["sha256"] for e in kernels.manifest() if "sha256" in e}
    rng = random.Random(f"exported {name}")
    failed = 0
    with open_tree(lower, kernels.passphrases, READ_ONLY) as tree:
        for count in range(rounds):
            file = rng.choice(files)
            before = file.read_bytes()
            corrupt(rng, file, files)
            out = tmp_path / f"out{count}"
            told, _ = exported(tree, out, rules(keep_going=True))
            arrived = {entry["path"]: entry.get("sha256") for entry in manifest(out)}
            named = told_of(told)
            wrong = [path for path, digest in sums.items() if arrived.get(path) != digest]
            for path in wrong:  # and nothing else is
                assert (lower / lower_name(tree, path)).samefile(file)
                assert (path in named) == (path not in arrived)
            failed += bool(named)
            file.write_bytes(before)
    assert failed > 5


# Never outside, never over


def test_symlinks_in_the_way_are_not_followed(many: Tree, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (out / "d").symlink_to(outside)
    (out / "top").symlink_to(outside / "kept")
    told, _ = exported(many, out, rules(keep_going=True))
    assert set(told_of(told)) == {"d", "top"}
    exported(many, out, rules(keep_going=True, overwrite=True))
    assert sorted(path.name for path in outside.iterdir()) == ["kept"]
    assert (outside / "kept").read_text() == "kept"
    assert (out / "d").is_symlink()
    assert (out / "top").stat().st_size == 256 * 5000
    assert os.readlink(out / "link") == "/etc/passwd"


def test_a_symlink_for_the_working_directory_is_refused(many: Tree, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "out" / os.fsdecode(WORK)).symlink_to(tmp_path / "outside")
    with pytest.raises(TreeError, match="cannot be written to: Not a directory"):
        exported(many, tmp_path / "out", rules())
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("name", [b"..", b".", b"../../escaped", b"/etc/escaped", b"d/../../escaped"])
def test_names_that_lead_away_are_named(name: bytes, many: Tree, tmp_path: Path) -> None:
    lower = os.fsdecode(many.codec.natives[0].encode(name))
    (tmp_path / "made" / lower).write_bytes(b"x" * 20000)
    (tmp_path / "in").mkdir()
    told, _ = exported(many, tmp_path / "in" / "out", rules(keep_going=True))
    assert list(told_of(told)) == [lower]
    assert [path.name for path in tmp_path.iterdir() if "escaped" in path.name] == []
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "in" / "out").iterdir()) == ["d", "link", "top"]


def test_what_is_there_is_left_unless_told(many: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(many, out, rules())
    os.utime(out / "top", ns=(1, 1))
    (out / "d" / "one").write_bytes(b"mine")
    (out / "link").unlink()
    (out / "link").mkdir()
    told, tally = exported(many, out, rules(keep_going=True))
    assert {path: status for path, (_, status) in told_of(told).items()} == {"top": 1, "d/one": 1, "link": 1}
    assert (out / "d" / "one").read_bytes() == b"mine"
    assert tally.there == 1
    told, _ = exported(many, out, rules(keep_going=True, overwrite=True))
    assert list(told_of(told)) == ["link"]  # a directory is not replaced
    assert (out / "d" / "one").read_bytes() == b"1" * 5000
    with pytest.raises(UnfinishedError, match="link: something else is there"):
        exported(many, out, rules())


def test_a_file_where_a_directory_should_be(many: Tree, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d").write_text("mine")
    told, _ = exported(many, tmp_path / "out", rules(keep_going=True, overwrite=True))
    assert list(told_of(told)) == ["d"]
    assert (tmp_path / "out" / "d").read_text() == "mine"
    assert (tmp_path / "out" / "top").exists()


def test_one_in_the_other_is_refused(many: Tree, tmp_path: Path) -> None:
    for place in ("made", "made/out", "."):
        with pytest.raises(UsageError):
            exported(many, tmp_path / place, rules())
    (tmp_path / "alias").symlink_to(tmp_path / "made")
    with pytest.raises(UsageError):
        exported(many, tmp_path / "alias" / "out", rules())
    exported(many, tmp_path / "beside", rules())


def test_two_at_once_are_refused(many: Tree, tmp_path: Path) -> None:
    def again(_: Problem) -> None:
        with pytest.raises(TreeError, match="another copy"):
            exported(many, tmp_path / "out", rules())
        heard.append(True)

    heard: list[bool] = []
    User(many).mknod("dev", 0o20600, os.makedev(1, 3))
    from fusecrypt.offline.export import export_tree

    export_tree(many, tmp_path / "out", rules(special=False), again, Tally())
    assert heard == [True]


# What is copied


def test_attributes_of_directories_come_last_and_of_the_root_if_it_was_made(
    many: Tree, tmp_path: Path
) -> None:
    for path, mode in (("d/e", 0o500), ("d", 0o1755), ("", 0o711)):
        place = tmp_path / "made" / (lower_name(many, path) if path else "")
        place.chmod(mode)
        os.utime(place, ns=(1, 2_000_000_003))
    exported(many, tmp_path / "out", rules())
    for path, mode in (("d/e", 0o500), ("d", 0o1755), ("", 0o711)):
        st = (tmp_path / "out" / path).stat()
        assert (st.st_mode & 0o7777, st.st_mtime_ns) == (mode, 2_000_000_003)
    (tmp_path / "there").mkdir(mode=0o750)
    exported(many, tmp_path / "there", rules())
    assert (tmp_path / "there").stat().st_mode & 0o7777 == 0o750


def test_no_acl_is_inherited(many: Tree, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    subprocess.run(["setfacl", "-m", "d:u:4711:rwx", tmp_path / "out"], check=True)
    exported(many, tmp_path / "out", rules())
    for path in ("d", "d/e", "d/one", "top"):
        assert os.listxattr(tmp_path / "out" / path) == []


def test_patterns(many: Tree, tmp_path: Path) -> None:
    def arrived(include: list[str], exclude: list[str]) -> list[str]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        exported(many, out, rules(include, exclude))
        return [entry["path"] for entry in manifest(out)]

    assert arrived([], ["*o*"]) == ["d", "d/e", "link"]
    assert arrived(["two"], []) == ["d", "d/e", "d/e/two"]
    assert arrived(["/d/o*", "link"], []) == ["d", "d/one", "link"]
    assert arrived(["d"], ["d/e/*"]) == ["d", "d/e", "d/one"]
    assert arrived(["no such"], []) == []


def test_special_files_and_bits_only_on_request(many: Tree, tmp_path: Path) -> None:
    user = User(many)
    user.mknod("dev", 0o20600, os.makedev(1, 3))
    user.mknod("fifo", 0o10640)
    (tmp_path / "made" / lower_name(many, "top")).chmod(0o6755)
    told, _ = exported(many, tmp_path / "out", rules(special=False))
    assert {path: status for path, (_, status) in told_of(told).items()} == {"dev": 0, "top": 0}
    assert not (tmp_path / "out" / "dev").exists()
    assert (tmp_path / "out" / "fifo").is_fifo()
    assert (tmp_path / "out" / "top").stat().st_mode & 0o7777 == 0o755
    assert exported(many, tmp_path / "all", rules())[0] == []
    assert (tmp_path / "all" / "top").stat().st_mode & 0o7777 == 0o6755
    assert (tmp_path / "all" / "dev").stat().st_rdev == os.makedev(1, 3)


def test_links_of_a_file_that_was_there_or_is_damaged(many: Tree, tmp_path: Path) -> None:
    user = User(many)
    user.link("top", "d/top2")
    user.link("top", "z")
    out = tmp_path / "out"
    exported(many, out, rules())
    (out / "z").unlink()
    exported(many, out, rules())
    assert (out / "z").samefile(out / "top")
    assert (out / "d" / "top2").samefile(out / "top")
    os.truncate(tmp_path / "made" / lower_name(many, "top"), 9000)
    told, _ = exported(many, tmp_path / "out2", rules(keep_going=True))
    assert set(told_of(told)) == {"top", "d/top2", "z"}


def test_no_room(many: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    little = SimpleNamespace(f_frsize=4096, f_bavail=10, f_files=0)
    monkeypatch.setattr(os, "fstatvfs", lambda fd: little)
    with pytest.raises(TreeError, match="octets are needed, and 40960 are free"):
        exported(many, tmp_path / "out", rules())
    assert not (tmp_path / "out" / "top").exists()
    exported(many, tmp_path / "out", rules(), check_room=False)
    assert (tmp_path / "out" / "top").exists()
    exported(many, tmp_path / "out", rules())  # what is there needs no room


def test_a_deep_tree_takes_few_descriptors(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    depth = 700  # pytest itself cannot remove much deeper ones
    with opened(tmp_path / "made", policy(names=False)) as tree:
        fd = os.open(tmp_path / "made", os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.mknod("end", 0o10600, dir_fd=fd)
        os.close(fd)
        assert exported(tree, tmp_path / "out", rules())[0] == []
    found = subprocess.run(
        ["find", ".", "-name", "end"], cwd=tmp_path / "out", capture_output=True, check=True
    )
    assert found.stdout.count(b"/d") == depth
    for place in ("out", "made"):
        subprocess.run(["rm", "-r", place], cwd=tmp_path, check=True)
