"""Rekeying: the tree is the same under the new keys, and whenever it is killed nothing is lost."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.errors import FormatError, FusecryptError, TreeError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.strictjson import Fields
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from fusecrypt.native import Secret, renameat2
from fusecrypt.offline import rename as renames
from fusecrypt.offline.headerwrite import undo
from fusecrypt.offline.journal import Journal, Record
from fusecrypt.offline.lower import open_directory
from fusecrypt.offline.rekey import Done, Keys, Rekeying
from fusecrypt.ondisk.header import Header, parse_header
from fusecrypt.tree.names import name_codec
from fusecrypt.tree.policy import NamePolicy, Policy
from tests import golden
from tests.golden import GoldenTree
from tests.tree.support import OWN, User, lower_name, lower_state, manifest, opened, policy, resolved, token

OLD = (token(), token(salt=FNEK_SALT))
NEW = token(b"another passphrase")
NEW_NAMES = token(b"another passphrase", FNEK_SALT)
KEYS = Keys(OLD, NEW, NEW_NAMES)


def rekeyed(by: Policy) -> Policy:
    """The same policy with the new keys."""
    names = NamePolicy(NEW_NAMES, by.names.cipher) if by.names else None
    return replace(by, content=(NEW,), names=names, others=())


@contextmanager
def running(lower: Path, keys: Keys = KEYS, *, dry: bool = False) -> Iterator[Rekeying]:
    fd = os.open(lower, os.O_RDONLY)
    journal = None if dry else Journal(lower.with_name("journal"), os.fstat(fd).st_ino, keys.content.sig)
    try:
        yield Rekeying(fd, keys, journal, lambda: None)
        if journal is not None:
            assert os.fstat(journal._fd).st_size == journal._head
            journal.remove()
    finally:
        if journal is not None:
            journal.close()
        os.close(fd)


def rekey(lower: Path, keys: Keys = KEYS, **more: Any) -> Done:
    with running(lower, keys, **more) as run:
        run.undo_interrupted()
        run.add()
        run.rename()
        run.drop()
        return run.done


def shown(lower: Path, by: Policy) -> list[dict[str, Any]]:
    with opened(lower, replace(by, read_only=True)) as tree:
        return manifest(tree)


@pytest.mark.parametrize("kernels", golden.passphrase_trees(), ids=lambda tree: tree.name)
def test_golden_trees_are_the_same_under_new_keys(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    by = resolved(lower, kernels.passphrases, salt=kernels.keys[0].salt).policy
    before = shown(lower, by)
    old = (*by.content, *by.others, *((by.names.token,) if by.names else ()))
    done = rekey(lower, Keys(old, NEW, NEW_NAMES))
    if "plain-files" not in kernels.name and "passthrough" not in kernels.name:
        assert done.left == []
    assert shown(lower, rekeyed(by)) == before
    assert not signatures(lower) & {token.signature for token in old}
    again = rekey(lower, Keys(old, NEW, NEW_NAMES))
    assert (again.added, again.renamed, again.dropped) == (0, 0, 0)


def files(lower: Path) -> list[Path]:
    found = [Path(above, name) for above, _, names in os.walk(lower) for name in names]
    return [path for path in found if stat.S_ISREG(path.lstat().st_mode)]


def signatures(lower: Path) -> set[bytes]:
    """Those in the headers."""
    found = set()
    for path in files(lower):
        try:
            header = parse_header(path.read_bytes())
        except FormatError:
            try:
                header = parse_header(os.getxattr(path, OWN))
            except (OSError, FormatError):
                continue
        found |= {packet.signature for packet in header.packets}
    return found


@pytest.fixture(params=["front", "attribute"])
def lower(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "lower"
    path.mkdir()
    with opened(path, its_policy(request.param)) as tree:
        user = User(tree)
        user.mkdir("directory")
        user.create("file", b"file" * 3000)
        user.create("directory/empty")
        user.create("directory/read-only", b"x", 0o400)
        user.symlink(b"target", "directory/link")
        user.link("file", "hard link")
        user.mkdir("directory/below")
        user.create("directory/below/file", b"y")
    os.utime(path, ns=(10**18, 10**18))
    return path


def its_policy(place: str) -> Policy:
    return policy(xattr_metadata=place == "attribute")


@pytest.fixture
def by(lower: Path, request: pytest.FixtureRequest) -> Policy:
    return its_policy(request.node.callspec.params["lower"])


def test_times_and_modes_stay(lower: Path, by: Policy) -> None:
    def state() -> dict[Any, Any]:
        every = [lower, *lower.rglob("*")]
        stats = [path.lstat() for path in every]
        return {
            st.st_ino: (st.st_mode, st.st_mtime_ns, st.st_size, st.st_uid) for st in stats if not is_link(st)
        }

    before = state()
    rekey(lower)
    assert state() == before


def is_link(st: os.stat_result) -> bool:
    return stat.S_ISLNK(st.st_mode)


def test_a_dry_run_changes_nothing(lower: Path, by: Policy) -> None:
    before = lower_state(lower)
    would = rekey(lower, dry=True)
    assert lower_state(lower) == before
    assert not lower.with_name("journal").exists()
    done = rekey(lower)
    assert (would.added, would.renamed) == (done.added, done.renamed) == (5, 8)
    assert done.left == would.left == []


def test_an_additional_passphrase(lower: Path, by: Policy) -> None:
    before = shown(lower, by)
    with running(lower) as run:
        run.add()
    assert shown(lower, by) == before
    assert shown(lower, replace(rekeyed(by), names=by.names)) == before


def test_other_keys_keep_their_packets(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    other = token(b"somebody else")
    both = replace(policy(names=False), content=(token(), other))
    with opened(lower, both) as tree:
        User(tree).create("file", b"contents")
    rekey(lower)
    assert signatures(lower) == {NEW.signature, other.signature}
    assert shown(lower, replace(both, content=(other,))) == shown(lower, rekeyed(both))


def test_what_cannot_be_rekeyed_is_left_and_named(lower: Path, by: Policy) -> None:
    with opened(lower, by) as tree:
        User(tree).create("foreign")
        User(tree).create("of another")
        foreign, another = (lower / lower_name(tree, name) for name in ("foreign", "of another"))
    os.removexattr(foreign, OWN) if by.xattr_metadata else None
    foreign.write_bytes(b"some text that is no header")
    header = os.getxattr(another, OWN) if by.xattr_metadata else another.read_bytes()
    changed = header.replace(token().signature, b"somebody")
    os.setxattr(another, OWN, changed) if by.xattr_metadata else another.write_bytes(changed)
    (lower / "plain").mkdir()
    done = rekey(lower)
    assert {left.status for left in done.left} == {3, 4}
    assert not any(left.ours for left in done.left)
    assert (
        foreign.parent.joinpath(lower_of(rekeyed(by), "foreign")).read_bytes()
        == b"some text that is no header"
    )
    assert (lower / "plain").is_dir()


def lower_of(by: Policy, name: str) -> str:
    return os.fsdecode(name_codec(by.names).encode(os.fsencode(name)))


def test_two_names_that_would_be_one_are_left(lower: Path, by: Policy) -> None:
    (lower / lower_of(rekeyed(by), "file")).mkdir()
    with running(lower) as run:
        run.add()
        run.rename()
        (left,) = run.done.left
    assert (left.reason, left.ours) == ("File exists", True)
    assert shown_file(lower, replace(by, read_only=True)) == b"file" * 3000


def shown_file(lower: Path, by: Policy) -> bytes:
    with opened(lower, by) as tree:
        return User(tree).read("file")


@pytest.mark.parametrize("renamed", range(9))
def test_in_the_middle_of_the_renaming_both_passphrases_show_everything(
    renamed: int, lower: Path, by: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = without_directory_times(shown(lower, by))
    left = renamed

    def stopping(*arguments: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        renameat2(*arguments)

    with running(lower) as run:
        run.add()
        monkeypatch.setattr(renames, "renameat2", stopping)
        with suppress(KeyboardInterrupt):
            run.rename()
    for passphrases in ([b"test", b"another passphrase"], [b"another passphrase", b"test"]):
        both = replace(resolved(lower, passphrases).policy, read_only=True)
        assert without_directory_times(shown(lower, both)) == before


# The journal


def test_a_header_half_written_is_put_back(lower: Path, by: Policy) -> None:
    before = shown(lower, by)
    path = next(path for path in files(lower) if path.stat().st_size > 8192 or by.xattr_metadata)
    octets = os.getxattr(path, OWN) if by.xattr_metadata else path.read_bytes()[:120]
    st = path.stat()
    record = Record(
        bytes(path.relative_to(lower)),
        st.st_ino,
        stat.S_IMODE(st.st_mode),
        (st.st_atime_ns, st.st_mtime_ns),
        st.st_size,
        by.xattr_metadata,
        octets,
    )
    torn = octets[:50] + os.urandom(len(octets) - 50)
    if by.xattr_metadata:
        os.setxattr(path, OWN, torn)
    else:
        with path.open("r+b") as file:
            file.write(torn)
    journal = Journal(lower.with_name("journal"), lower.stat().st_ino, NEW.sig)
    journal.add(record)
    journal.close()
    with running(lower) as run:
        assert run.undo_interrupted() == 1
    assert shown(lower, by) == before


def test_a_file_that_was_replaced_is_not_put_back(lower: Path) -> None:
    path = files(lower)[0]
    fd = os.open(path.parent, os.O_RDONLY)
    name = os.fsencode(path.name)
    before = lower_state(lower)
    ino = path.stat().st_ino
    assert not undo(Record(b"", ino + 1, 0o644, (0, 0), 0, False, bytes(120)), name, fd)
    assert not undo(Record(b"", ino, 0o644, (0, 0), 0, False, bytes(range(120))), name, fd)
    os.close(fd)
    assert lower_state(lower) == before


def test_a_journal_of_another_tree_or_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, 1, NEW.sig).close()
    for tree, sig in ((2, NEW.sig), (1, token().sig)):
        with pytest.raises(TreeError, match="belongs to the rekeying of another"):
            Journal(path, tree, sig)
    with path.open("ab") as file:
        file.write(b'{"half of a record')
    journal = Journal(path, 1, NEW.sig)
    assert journal.records == []
    journal.close()
    with path.open("ab") as file:
        file.write(b"no record\n")
    with pytest.raises(TreeError, match="is damaged"):
        Journal(path, 1, NEW.sig)


# Kills

_CALLS = (
    "fsync",
    "pwrite",
    "ftruncate",
    "utime",
    "fchmod",
    "setxattr",
    "rename",
    "symlink",
    "unlink",
    "chown",
)


def killed_at(step: int, lower: Path, keys: Keys = KEYS) -> bool:
    """Rekey in a process that dies right before its ``step``-th change; False if there are not so many."""
    octets = {each.signature: bytes(each.key.view()) for each in (*keys.old, keys.content, keys.names)}
    child = os.fork()
    if child == 0:
        left = step
        # The system wipes secrets in a forked process.
        old, content, names = (
            tuple(replace(each, key=Secret.copy(octets[each.signature])) for each in group)
            for group in (keys.old, (keys.content,), (keys.names,))
        )

        def dying(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                if left == 0:
                    os._exit(9)
                left -= 1
                return call(*arguments, **named)

            return counted

        try:
            for name in _CALLS:
                setattr(os, name, dying(getattr(os, name)))
            for name in ("renameat2", "utimens"):
                setattr(renames, name, dying(getattr(renames, name)))
            rekey(lower, Keys(old, content[0], names[0]))
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def contents_by(lower: Path, key: AuthToken) -> list[bytes] | None:
    """The contents of all files with one key, or None if it does not open all of them."""
    found = []
    place = policy(names=False, read_only=True)
    with opened(lower, replace(place, content=(key,))) as tree:
        for path in files(lower):
            try:
                found.append(User(tree).read(bytes(path.relative_to(lower))))
            except FusecryptError:
                return None
    return sorted(found)


def without_directory_times(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A kill may leave a directory with the time of its last renaming."""
    return [{k: v for k, v in each.items() if (k, each["type"]) != ("mtime_ns", "dir")} for each in entries]


def test_killed_at_every_step(lower: Path, by: Policy) -> None:
    before = without_directory_times(shown(lower, by))
    contents = contents_by(lower, token())
    here, step, phases = lower.with_name("here"), 0, set()
    while True:
        subprocess.run(["cp", "-a", lower, here], check=True)
        if not killed_at(step, here):
            break
        by_old, by_new = contents_by(here, token()), contents_by(here, NEW)
        assert contents in (by_old, by_new)
        phases.add((by_old is not None, by_new is not None))
        done = rekey(here)
        assert done.left == []
        assert without_directory_times(shown(here, rekeyed(by))) == before
        assert signatures(here) == {NEW.signature}
        shutil.rmtree(here)
        step += 1
    assert step > 60
    assert phases == {(True, False), (True, True), (False, True)}


def test_an_old_key_stays_where_the_new_one_is_wrong(lower: Path, by: Policy) -> None:
    """A bit that flipped between two runs must not cost the file."""
    with running(lower) as run:
        run.undo_interrupted()
        run.add()
        path = next(p for p in files(lower) if len(header_of(p).packets) == 2)
        octets = stored(path)
        at = octets.index(header_of(path).passphrase_packets[1].wrapped_fek)
        store(path, octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :])
        run.drop()
        assert any("disagree" in left.reason for left in run.done.left)
    assert {p.signature for p in header_of(path).packets} == {by.content[0].signature, NEW.signature}


def stored(path: Path) -> bytes:
    """The octets that hold a header."""
    try:
        return os.getxattr(path, OWN)
    except OSError:
        return path.read_bytes()


def store(path: Path, octets: bytes) -> None:
    if len(octets) < 4096:
        os.setxattr(path, OWN, octets)
    else:
        path.write_bytes(octets)


def header_of(path: Path) -> Header:
    return parse_header(stored(path))


def test_what_only_has_the_temporary_name_stays(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    with opened(lower, replace(policy(), names=None)) as tree:
        user = User(tree)
        user.create(os.fsdecode(renames._TEMPORARY), b"not yours")
        user.symlink(b"target", "link")
    rekey(lower)
    with opened(lower, replace(rekeyed(policy()), names=None)) as tree:
        assert User(tree).read(os.fsdecode(renames._TEMPORARY)) == b"not yours"


@pytest.mark.parametrize("contents", [b"my diary without a newline", b"\r\n", b"{}\nmore"])
def test_a_file_that_is_no_journal_stays(contents: bytes, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.write_bytes(contents)
    diary.chmod(0o600)
    with pytest.raises(TreeError):
        Journal(diary, 1, NEW.sig)
    assert diary.read_bytes() == contents


def test_a_journal_that_others_could_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    path.chmod(0o622)
    with pytest.raises(TreeError, match="written by others"):
        Journal(path, 1, NEW.sig)


@pytest.mark.parametrize("path", ["\ud800", "a\0b"])
def test_a_record_with_a_path_that_is_none(path: str) -> None:
    record = Record(b"p", 1, 0o600, (0, 0), 0, False, bytes(16)).members()
    with pytest.raises(KeyFileError):
        Record.parse(Fields({**record, "path": path}, "a record"))


def test_no_path_leads_out_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "lower" / "inside").mkdir(parents=True)
    fd = os.open(tmp_path / "lower", os.O_RDONLY)
    try:
        os.close(open_directory(fd, b"inside"))
        for path in (b"..", b"inside/../..", b"./inside"):
            with pytest.raises(OSError, match="not a path below"):
                open_directory(fd, path)
    finally:
        os.close(fd)
