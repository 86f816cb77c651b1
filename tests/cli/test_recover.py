"""fusecrypt recover as a whole command, and a backup read where there is no FUSE and nobody is root."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import golden, manifest
from tests.cli.test_mount import Terminal
from tests.manifest import diff
from tests.mount.support import PROGRAM, daemons, is_mounted, lower_state, run, wait_for_end
from tests.mount.users import program_for_others
from tests.offline.support import FACTS, LOGIN, alice, made_tree, nas_share, whole_home
from tests.tree.support import token
from tests.watch import unmount_below

PRIVATE = golden.DIRECTORY / "userspace" / "private-manifest.json"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A restored disk: an unmounted whole home, another user's tree, a share."""
    whole_home(tmp_path / "disk")
    made_tree(tmp_path / "disk" / "srv" / "bob", "file of bob")
    nas_share(tmp_path / "disk" / "volume1")
    (tmp_path / "login").write_text(f"{LOGIN}\n")
    (tmp_path / "bob").write_text("test\n")
    yield tmp_path / "disk"
    unmount_below(tmp_path)


def test_it_says_what_opened_and_how_to_go_on(disk: Path, tmp_path: Path) -> None:
    before = lower_state(disk)
    done = run("recover", "--passfile", tmp_path / "login", disk, status=3)
    home = disk / "home" / ".ecryptfs" / "alice"
    lines = done.stdout.splitlines()
    assert lines[0] == (
        f"{home}/.Private: opened with the passphrase wrapped in {home}/.ecryptfs/wrapped-passphrase"
    )
    assert lines[1] == f"  mount   fusecrypt mount -o ro {home}/.Private MOUNTPOINT"
    assert f"{disk}/srv/bob: not opened: no secret fits; it wants" in done.stdout
    assert f"{disk}/volume1/@photos@: opened with the exported key {disk}/volume1/photos.key" in done.stdout
    assert lower_state(disk) == before
    done = run("recover", "--passfile", tmp_path / "login", "--passfile", tmp_path / "bob", disk)
    assert "not opened" not in done.stdout
    listed = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("  list")]
    keys: list[list[str | Path]] = [["--passfile", tmp_path / "login"], ["--passfile", tmp_path / "bob"], []]
    shown = "".join(
        run(*shlex.split(words)[1:], *key).stdout for words, key in zip(listed, keys, strict=True)
    )
    assert {"notes.txt", "file of bob", "picture.jpg"} <= set(shown.splitlines())


def test_the_commands_work_for_odd_names(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"-it's a \\ \n\xff $HOME \xc3\xa4")
    lower = alice(odd)
    saved = tmp_path / "-the 'keys'\n" / "wrapped-passphrase"
    saved.parent.mkdir()
    (lower.parent / ".ecryptfs" / "wrapped-passphrase").rename(saved)
    (tmp_path / "login").write_text(LOGIN)
    words = ("recover", "--passfile", tmp_path / "login", "--keys", saved.parent.name, "--", odd.name)
    lines = run(*words, cwd=tmp_path).stdout.splitlines()
    command = next(line.split(maxsplit=1)[1] for line in lines if line.startswith("  list"))
    command = f"{shlex.quote(str(PROGRAM))} {command.removeprefix('fusecrypt ')} --passfile {tmp_path}/login"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd="/")
    assert "notes.txt" in done.stdout


def test_two_secrets_from_standard_input(disk: Path) -> None:
    (secrets, w) = os.pipe()
    os.write(w, f"{LOGIN}\ntest\n".encode())
    os.close(w)
    done = run("recover", "--passfile", "-", "--passfile", "-", disk, stdin=secrets)
    os.close(secrets)
    assert "not opened" not in done.stdout


def test_mounts_of_several_are_named_after_them(disk: Path, tmp_path: Path) -> None:
    up = tmp_path / "up"
    up.mkdir()
    before = lower_state(disk)
    words = ("--passfile", tmp_path / "login", "--passfile", tmp_path / "bob")
    done = run("recover", *words, "--mount", up, disk)
    assert sorted(path.name for path in up.iterdir()) == ["alice", "bob", "photos"]
    assert done.stderr.count("is mounted read-only on") == 3
    assert (up / "bob" / "file of bob").read_text() == "file of bob"
    assert diff(manifest.load(PRIVATE), manifest.manifest(up / "alice")) == []
    with pytest.raises(OSError, match="Read-only"):
        (up / "bob" / "new").write_text("x")
    for name in ("alice", "bob", "photos"):
        run("umount", up / name)
    assert lower_state(disk) == before


def test_a_single_tree_is_mounted_on_the_place_itself(tmp_path: Path) -> None:
    alice(tmp_path / "backup")
    (tmp_path / "up").mkdir()
    (tmp_path / "login").write_text(LOGIN)
    words = ("recover", "--passfile", tmp_path / "login", "--mount")
    said = json.loads(run(*words, tmp_path / "up", "--json", tmp_path / "backup").stdout)
    assert said["mountpoint"] == str(tmp_path / "up")
    assert is_mounted(tmp_path / "up")
    assert (tmp_path / "up" / "notes.txt").exists()
    run("umount", tmp_path / "up")
    assert "is no directory" in run(*words, tmp_path / "none", tmp_path / "backup", status=2).stderr
    inside = tmp_path / "backup" / "alice" / ".Private" / "up"
    inside.mkdir()
    assert "lies inside" in run(*words, inside, tmp_path / "backup", status=2).stderr


def test_a_dead_mount_is_called_one(tmp_path: Path) -> None:
    lower, up = alice(tmp_path / "backup"), tmp_path / "up"
    up.mkdir()
    (tmp_path / "login").write_text(LOGIN)
    key = ("--passfile", tmp_path / "login")
    run("mount", "-o", "ro", *key, lower, up)
    try:
        (daemon,) = daemons()
        os.kill(daemon, 9)
        wait_for_end(daemon)
        for words in (("mount", lower, up), ("recover", *key, "--mount", up, tmp_path / "backup")):
            assert "is a mount whose daemon is gone" in run(*words, status=1).stderr
    finally:
        run("umount", up)


def test_key_files_that_lie_elsewhere(tmp_path: Path) -> None:
    lower = alice(tmp_path / "backup")
    (tmp_path / "stick").mkdir()
    saved = tmp_path / "stick" / "wrapped-passphrase"
    (lower.parent / ".ecryptfs" / "wrapped-passphrase").rename(saved)
    (tmp_path / "login").write_text(LOGIN)
    words = ("recover", "--passfile", tmp_path / "login", tmp_path / "backup")
    run(*words, status=3)
    for place in (saved, saved.parent):
        (said,) = run(*words, "--keys", place, "--json").stdout.splitlines()
        data = json.loads(said)
        assert (data["opened"], data["lower"]) == (True, str(lower))
        assert data["options"] == ["--wrapped-passphrase", str(saved)]


def test_access_times_stay(disk: Path, tmp_path: Path) -> None:
    """Of trees, key files and the directories around them; a symlink cannot be read without a trace."""
    (disk / "home" / "alice" / ".ecryptfsrc").write_text("salt=0011223344556677\n")
    (disk / "some file").write_text("plain")
    everything = [disk, *(path for path in disk.rglob("*") if not path.is_symlink())]
    for path in everything:
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
    run("identify", disk)
    run("recover", "--passfile", tmp_path / "login", disk, status=3)
    run("identify", disk / "volume1" / "photos.key")
    assert [path for path in everything if path.stat().st_atime_ns != 1] == []
    os.listdir(disk)
    assert disk.stat().st_atime_ns != 1, "this file system keeps no access times"


def test_key_slot_files_in_the_configuration(tmp_path: Path) -> None:
    lower = made_tree(tmp_path / "backup" / "lower", "file", names=False)
    (tmp_path / "pass").write_text("test")
    place = tmp_path / "config" / "fusecrypt" / "keyslots"
    place.mkdir(parents=True)
    file = place / f"{token().sig}.keyslots"
    create = ("key", "create", lower, "--passfile", tmp_path / "pass", "--keyslots", file)
    run(*create, "--recovery-file", tmp_path / "recovery")
    words = ("recover", "--passfile", tmp_path / "recovery", "--json", tmp_path / "backup")
    assert json.loads(run(*words, status=3).stdout)["opened"] is False
    environ = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    said = json.loads(run(*words, env=environ).stdout)
    assert (said["opened"], said["options"]) == (True, [])  # mount looks there too
    assert f"{file}: key-slot file, 2 slots" in run("identify", lower, env=environ).stdout


def test_it_asks_once(disk: Path) -> None:
    terminal = Terminal(PROGRAM, "recover", disk)
    terminal.expect(b"login passphrase, mount passphrase or recovery key: ")
    terminal.type(f"{LOGIN}\n".encode())
    assert terminal.end() == 3  # it is not bob's
    assert b"opened with the passphrase wrapped in" in terminal.seen
    assert LOGIN.encode() not in terminal.seen


def test_it_does_not_ask_for_what_needs_no_secret(tmp_path: Path) -> None:
    nas_share(tmp_path / "volume1")
    terminal = Terminal(PROGRAM, "recover", tmp_path)
    assert terminal.end() == 0
    assert b"opened with the exported key" in terminal.seen


def test_what_cannot_be_recovered(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no eCryptfs tree" in run("recover", tmp_path / "empty", status=4).stderr
    assert "none" in run("recover", tmp_path / "none", status=1).stderr
    whole_home(tmp_path / "disk")
    done = run("recover", tmp_path / "disk" / "home" / "alice", status=4)
    assert "/home/.ecryptfs/alice/.Private, which is not in here" in done.stderr
    done = run("recover", tmp_path / "disk", status=3, start_new_session=True)
    assert "not opened: no secret was given" in done.stdout
    assert "which is not in here" not in done.stderr


def test_exports_of_several_are_named_after_them(disk: Path, tmp_path: Path) -> None:
    """Begun with one secret, and begun again with another one; each tree keeps its place."""
    before, out = lower_state(disk), tmp_path / "out"
    done = run("recover", "--passfile", tmp_path / "login", "--export", out, disk, status=3)
    assert sorted(path.name for path in out.iterdir()) == ["alice", "photos"]
    assert f"{disk}/volume1/@photos@ is exported to {out}/photos" in done.stderr
    words = ("--passfile", tmp_path / "login", "--passfile", tmp_path / "bob")
    said = [
        json.loads(line)
        for line in run("recover", *words, "--json", "--export", out, disk).stdout.splitlines()
    ]
    assert sorted(each["exported"] for each in said) == [
        f"{out}/{name}" for name in ("alice", "bob", "photos")
    ]
    assert diff(manifest.load(PRIVATE), manifest.manifest(out / "alice")) == []
    assert (out / "bob" / "file of bob").read_text() == "file of bob"
    assert (out / "photos" / "picture.jpg").exists()
    assert lower_state(disk) == before


def test_a_single_tree_is_exported_to_the_place_itself(tmp_path: Path) -> None:
    """With a damaged file in it: the others are there, and it is named."""
    lower, out = alice(tmp_path / "backup"), tmp_path / "out"
    (tmp_path / "login").write_text(LOGIN)
    words = ("recover", "--passfile", tmp_path / "login", "--export")
    bad = next(path for path in lower.rglob("*") if path.is_file() and path.stat().st_size > 8192)
    whole = bad.read_bytes()
    bad.write_bytes(bytes(100) + whole[100:])
    done = run(*words, out, tmp_path / "backup", status=4)
    assert "--keep-going names it and copies the rest" in done.stderr
    done = run(*words, out, "--keep-going", tmp_path / "backup", status=4)
    assert "1 problems are named above" in done.stderr
    bad.write_bytes(whole)
    assert " of them earlier" in run(*words, out, tmp_path / "backup").stderr
    assert diff(manifest.load(PRIVATE), manifest.manifest(out), ignore=["mtime_ns"]) == []


def test_exports_that_are_refused(disk: Path, tmp_path: Path) -> None:
    """Before any secret is asked for: the places of the copies, and of what they are of."""
    for place in (disk / "out", disk / "home" / ".ecryptfs" / "alice" / ".Private", disk, tmp_path):
        assert "lie in one another" in run("recover", "--export", place, disk, status=2).stderr
    done = run("recover", "--export", tmp_path / "out", "--mount", tmp_path, disk, status=2)
    assert "do not go together" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_export_asks_once(disk: Path, tmp_path: Path) -> None:
    terminal = Terminal(PROGRAM, "recover", "--export", tmp_path / "out", disk)
    terminal.expect(b"login passphrase, mount passphrase or recovery key: ")
    terminal.type(f"{LOGIN}\n".encode())
    assert terminal.end() == 3  # it is not bob's
    assert (tmp_path / "out" / "alice" / "notes.txt").exists()
    assert LOGIN.encode() not in terminal.seen


WITHOUT_FUSE = "mount --bind /dev/null /dev/fuse && exec setpriv --reuid=65534 --regid=65534 --clear-groups "


def test_a_copied_home_without_fuse_and_without_root(open_tmp_path: Path) -> None:
    """Nobody in particular reads a copy that they own, on a system without FUSE, with the commands alone."""
    program = program_for_others(open_tmp_path)
    try:
        _read_as_nobody(program, open_tmp_path)
    finally:
        subprocess.run(["umount", "-l", open_tmp_path / "checkout"], check=True)


def _read_as_nobody(program: Path, open_tmp_path: Path) -> None:
    backup = open_tmp_path / "backup"
    lower = alice(backup)
    for path in (backup, *backup.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    (open_tmp_path / "login").write_text(FACTS["login_passphrase"])
    before = lower_state(backup)

    def nobody(*words: str | Path, status: int = 0) -> bytes:
        command = WITHOUT_FUSE + shlex.join(map(str, [program, *words]))
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", command], capture_output=True, check=False, cwd="/", timeout=60
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
        return done.stdout

    key = ("--passfile", open_tmp_path / "login")
    assert b"eCryptfs tree" in nobody("identify", backup)
    assert b"opened with the passphrase wrapped in" in nobody("recover", *key, backup)
    shown = {e["path"]: e for e in map(json.loads, nobody("ls", "-R", "--json", *key, lower).splitlines())}
    expected = {entry["path"]: entry for entry in manifest.load(PRIVATE)}
    assert shown.keys() == expected.keys()
    for path, entry in expected.items():
        assert shown[path]["mtime_ns"] == entry["mtime_ns"]
        if entry["type"] == "file":
            assert hashlib.sha256(nobody("cat", *key, lower, path)).hexdigest() == entry["sha256"]
    place = nobody("find", *key, lower, "notes.txt").strip()
    assert nobody("find", "-u", *key, lower, os.fsdecode(place)) == b"notes.txt\n"
    assert b"health    good" in nobody("stat", *key, lower, "notes.txt")
    (open_tmp_path / "up").mkdir()
    os.chown(open_tmp_path / "up", 65534, 65534)
    nobody("mount", "-o", "ro", *key, lower, open_tmp_path / "up", status=1)
    nobody("recover", *key, "--mount", open_tmp_path / "up", backup, status=1)
    assert lower_state(backup) == before
