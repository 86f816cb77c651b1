"""Key-slot files on disk: trust, crashes, rollback, places."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.errors import UsageError
from fusecrypt.keys import slotstore
from fusecrypt.keys.errors import KeyFileError, SlotError, UntrustedFileError, WrongSecretError
from fusecrypt.keys.locate import candidates, check_outside, find
from fusecrypt.keys.rollback import RollbackMemory, state_directory
from fusecrypt.keys.slotfile import CONTENT, SlotFile
from fusecrypt.keys.slots.recovery import RecoveryEnrolment
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.token import AuthToken
from fusecrypt.keys.volume import Volume
from tests.unit.keys.secrets import secret

TOKEN = AuthToken.from_passphrase(secret("test"))
FIRST, SECOND, THIRD = RecoveryEnrolment(), RecoveryEnrolment(), RecoveryEnrolment()
VOLUME = Volume.create([(TOKEN, (CONTENT,))]).add(FIRST).add(SECOND)


@pytest.fixture
def store(tmp_path: Path) -> SlotStore:
    """A file with the recovery slots 0 and 1."""
    store = SlotStore(tmp_path / "tree.keyslots")
    store.create(VOLUME)
    return store


def _opens(path: Path, *secrets: RecoveryEnrolment) -> bool:
    """Whether any slot of the file at this path opens with any of these secrets."""
    file = SlotFile.parse(path.read_bytes())
    for slot in file.slots:
        for each in secrets:
            try:
                assert Volume.open(file, slot.id, each).tokens()[0].token.key == TOKEN.key
            except WrongSecretError:
                continue
            return True
    return False


def test_a_new_file_is_private_and_replaces_nothing(store: SlotStore) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        store.create(VOLUME)
    assert store.read() == VOLUME.file
    assert sorted(os.listdir(store.path.parent)) == ["tree.keyslots"]


def test_what_cannot_be_read_may_hold_anything(store: SlotStore) -> None:
    """So that a recovery key whose slot may have been written is not done away with."""
    assert store.may_hold(VOLUME)
    assert not store.may_hold(VOLUME.remove(1))
    store.path.write_bytes(b"damaged")
    assert store.may_hold(VOLUME.remove(1))
    store.path.unlink()
    assert not store.may_hold(VOLUME)


def test_an_addition_keeps_the_version_before(store: SlotStore) -> None:
    store.save(VOLUME.add(THIRD), VOLUME.file, revokes=False)
    assert _opens(store.path, THIRD)
    assert SlotFile.parse(store.backup.read_bytes()) == VOLUME.file


@pytest.mark.parametrize("revokes", [False, True])
def test_a_file_that_root_changes_stays_its_owners(store: SlotStore, revokes: bool) -> None:
    os.chown(store.path, 1234, 1235)
    store.save(VOLUME.add(THIRD), VOLUME.file, revokes=revokes)
    for path in (store.path, store.backup):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_removal_leaves_no_version_that_the_secret_opens(store: SlotStore) -> None:
    volume = VOLUME.add(THIRD)
    store.save(volume, VOLUME.file, revokes=False)
    store.save(volume.remove(1), volume.file, revokes=True)
    for path in store.path.parent.iterdir():
        assert not _opens(path, SECOND)
        assert _opens(path, FIRST)
    assert store.backup.exists()


def test_a_file_that_changed_meanwhile_is_not_overwritten(store: SlotStore) -> None:
    store.save(VOLUME.add(THIRD), VOLUME.file, revokes=False)
    with pytest.raises(SlotError, match="meanwhile"):
        store.save(VOLUME.remove(0), VOLUME.file, revokes=True)


def test_a_locked_directory_is_not_waited_for_forever(
    store: SlotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slotstore, "LOCK_SECONDS", 0.1)
    descriptor = os.open(store.path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(SlotError, match="another process"):
            store.save(VOLUME.add(THIRD), VOLUME.file, revokes=False)
    finally:
        os.close(descriptor)


class Killed(BaseException):
    """Stands for the process's end: nothing may catch it."""


STEPS = ("open", "write", "fsync", "replace", "unlink")


def _die_at(monkeypatch: pytest.MonkeyPatch, step: int, *, after: bool) -> Callable[[], int]:
    """Make the process end before or after its step-th call that changes the disk; gives the count."""
    count = 0

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step and not after:
                raise Killed
            # A write that is cut in the middle.
            half = count == step and call is write
            result = call(args[0], args[1][: len(args[1]) // 2]) if half else call(*args, **kwargs)
            if count == step:
                if call is open_:
                    os.close(result)  # as the end of a process does
                raise Killed
            return result

        return wrapped

    write, open_ = os.write, os.open
    for name in STEPS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return lambda: count


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["create", "add", "remove", "change", "rotate"])
def test_killed_at_any_step_the_file_opens_with_old_or_new_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, after: bool
) -> None:
    changed = {
        "create": VOLUME,
        "add": VOLUME.add(THIRD),
        "remove": VOLUME.remove(1),
        "change": VOLUME.change(1, THIRD),
        "rotate": VOLUME.rotate({0: FIRST, 1: SECOND}),
    }[kind]
    step = 0
    while True:
        step += 1
        store = SlotStore(tmp_path / f"{kind}{step}" / "f")
        store.path.parent.mkdir()
        if kind != "create":
            store.create(VOLUME)
        with monkeypatch.context() as patch:
            count = _die_at(patch, step, after=after)
            try:
                if kind == "create":
                    store.create(changed)
                else:
                    store.save(changed, VOLUME.file, revokes=kind != "add")
            except Killed:
                pass
            if count() < step:
                break
        if kind == "create" and not store.path.exists():
            store.create(changed)  # what was left behind is in nobody's way
        file = store.read()
        assert file in (VOLUME.file, changed.file)
        assert _opens(store.path, FIRST)
        if file == changed.file and kind in ("remove", "change"):
            assert not any(_opens(path, SECOND) for path in (store.path, store.backup))
        # The change can be made, or made again.
        if file != changed.file:
            store.save(changed, file, revokes=kind != "add")
            assert store.read() == changed.file
            assert sorted(os.listdir(store.path.parent)) == ["f", "f.bak"]
    assert step > 8


def test_a_write_that_does_not_read_back_changes_nothing(
    store: SlotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(path: Path, data: bytes, **_: Any) -> None:
        path.write_bytes(data.replace(b'"seq":3', b'"seq":2'))

    monkeypatch.setattr(slotstore, "write_new", lose)
    with pytest.raises(KeyFileError, match="disk"):
        store.save(VOLUME.add(THIRD), VOLUME.file, revokes=False)
    assert store.read() == VOLUME.file
    assert os.listdir(store.path.parent) == [store.path.name]


def test_a_damaged_file_names_its_backup(store: SlotStore) -> None:
    store.save(VOLUME.add(THIRD), VOLUME.file, revokes=False)
    store.path.write_bytes(store.path.read_bytes()[:100])
    with pytest.raises(KeyFileError) as caught:
        store.read()
    assert str(store.backup) in caught.value.hint


@pytest.mark.parametrize(
    "spoil", [lambda p: p.chmod(0o620), lambda p: p.chmod(0o602), lambda p: os.chown(p, 12345, 0)]
)
def test_files_that_others_control_must_be_named(store: SlotStore, spoil: Callable[[Path], None]) -> None:
    spoil(store.path)
    with pytest.raises(UntrustedFileError):
        SlotStore(store.path, explicit=False).read()
    assert store.read() == VOLUME.file


def test_a_search_follows_no_symbolic_link(store: SlotStore) -> None:
    link = store.path.with_name("link")
    link.symlink_to(store.path)
    with pytest.raises(UntrustedFileError, match="symbolic link"):
        SlotStore(link, explicit=False).read()
    assert SlotStore(link).read() == VOLUME.file


def test_a_named_link_stays_and_its_file_is_changed(store: SlotStore) -> None:
    """A file in the link's place would leave an earlier version where it leads to."""
    (store.path.parent / "links").mkdir()
    link = store.path.parent / "links" / "f"
    link.symlink_to(store.path)
    SlotStore(link).save(VOLUME.remove(1), VOLUME.file, revokes=True)
    assert link.is_symlink()
    assert os.listdir(link.parent) == ["f"]
    for path in (store.path, store.backup):
        assert not _opens(path, SECOND)
        assert _opens(path, FIRST)


@pytest.mark.parametrize("revokes", [False, True])
@pytest.mark.parametrize("full_at", [1, 2, 3])
def test_a_full_disk_keeps_the_file_and_gets_no_fuller(
    store: SlotStore, monkeypatch: pytest.MonkeyPatch, full_at: int, revokes: bool
) -> None:
    calls = iter(range(1, 9))

    def flush(_: int) -> None:
        if next(calls) == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", flush)
        with pytest.raises(OSError, match="No space left") as caught:
            store.save(VOLUME.add(THIRD), VOLUME.file, revokes=revokes)
    assert not [name for name in os.listdir(store.path.parent) if name.endswith(".tmp")]
    assert store.read() == VOLUME.file
    if full_at < 3:  # the third is the directory's
        assert caught.value.filename == f"{store.path if full_at == 1 else store.backup}.tmp"


def test_older_copies_are_noticed(tmp_path: Path) -> None:
    memory = RollbackMemory(tmp_path / "state")
    newer = VOLUME.remove(1)
    assert memory.warning(VOLUME.file) == ""
    memory.remember(newer.file)
    memory.remember(VOLUME.file)
    assert memory.highest(VOLUME.file.volume) == newer.file.seq
    assert "older copy" in memory.warning(VOLUME.file)
    assert memory.warning(newer.file) == ""
    (tmp_path / "state" / VOLUME.file.volume.hex()).write_text("nonsense")
    assert memory.highest(VOLUME.file.volume) == 0


def test_the_state_directory_follows_xdg() -> None:
    assert state_directory({"XDG_STATE_HOME": "/s"}) == Path("/s/fusecrypt/keyslots")
    assert state_directory({"XDG_STATE_HOME": "rel"}) == Path.home() / ".local/state/fusecrypt/keyslots"


def test_the_file_of_a_tree_is_found(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert find(lower, [TOKEN.signature], environ) == (None, None, [])
    beside, user, system = candidates(lower, [TOKEN.signature], environ)
    assert beside == tmp_path / "lower.keyslots"
    assert system == Path(f"/etc/fusecrypt/keyslots/{TOKEN.sig}.keyslots")
    user.parent.mkdir(parents=True)
    SlotStore(user).create(VOLUME)
    store, file, refusals = find(lower, [bytes(8), TOKEN.signature], environ)
    assert store is not None
    assert (store.path, file, refusals) == (user, VOLUME.file, [])
    # One that is damaged, or of another tree, is passed over with a line about it.
    beside.write_text("{}")
    (line,) = find(lower, [TOKEN.signature], environ)[2]
    assert line.startswith(f"{beside}: this is no key-slot file (")
    beside.unlink()
    SlotStore(beside).create(Volume.create([(AuthToken(bytes(8), TOKEN.key), (CONTENT,))]).add(FIRST))
    store, _, refusals = find(lower, [TOKEN.signature], environ)
    assert store is not None
    assert store.path == user
    assert refusals == [f"{beside} holds no key of this tree"]


def test_a_key_slot_file_stays_out_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "lower").mkdir()
    check_outside(tmp_path / "lower.keyslots", tmp_path / "lower")
    with pytest.raises(UsageError):
        check_outside(tmp_path / "lower" / "x" / "f", tmp_path / "lower")


def test_the_order_of_places_does_not_depend_on_signatures(tmp_path: Path) -> None:
    sigs = [b"\2" * 8, b"\1" * 8]
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    names = [f"{sig.hex()}.keyslots" for sig in sigs]
    user, system = tmp_path / "fusecrypt" / "keyslots", Path("/etc/fusecrypt/keyslots")
    places = [*(user / name for name in names), *(system / name for name in names)]
    assert candidates(tmp_path / "lower", sigs, environ) == [tmp_path / "lower.keyslots", *places]
    # There is no place beside the root of everything.
    assert candidates(Path("/"), sigs, environ) == places
