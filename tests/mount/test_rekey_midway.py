"""A tree whose rekeying stopped in the middle of the renaming, read with both passphrases."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest

from fusecrypt.keys.token import FNEK_SALT
from fusecrypt.native import renameat2
from fusecrypt.offline import rename as renames
from fusecrypt.offline.journal import Journal
from fusecrypt.offline.rekey import Keys, Rekeying
from tests import golden, manifest
from tests.manifest import Entry
from tests.mount.support import PROGRAM, lower_state, mounted, run
from tests.tree.support import manifest as tree_manifest
from tests.tree.support import open_tree, resolved, token

KERNELS = golden.tree("aes16-fnek")
NEW = b"another passphrase"


@pytest.fixture
def lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some names are under each of the keys, also in one directory."""
    path = KERNELS.unpack(tmp_path / "lower")
    fd = os.open(path, os.O_RDONLY)
    keys = Keys(resolved(path, KERNELS.passphrases).policy.tokens, token(NEW), token(NEW, FNEK_SALT))
    journal = Journal(tmp_path / "lower.rekey", os.fstat(fd).st_ino, keys.content.sig)
    rekeying = Rekeying(fd, keys, journal, lambda: None)
    calls = itertools.count()

    def stopping(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt
        renameat2(old_fd, old, new_fd, new, flags)

    with monkeypatch.context() as patched:
        patched.setattr(renames, "renameat2", stopping)
        rekeying.add()
        with pytest.raises(KeyboardInterrupt):
            rekeying.rename()
    journal.close()
    os.close(fd)
    return path


def timeless(entries: list[Entry]) -> list[Entry]:
    """Without the times of directories: one may have that of its last renaming."""
    return [{k: v for k, v in each.items() if (k, each["type"]) != ("mtime_ns", "dir")} for each in entries]


def test_everything_shows_everything(lower: Path, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(KERNELS.passphrases[0])
    (tmp_path / "new").write_bytes(NEW)
    key = ("--passfile", tmp_path / "old", "--passfile", tmp_path / "new")
    expected, before = KERNELS.manifest(), lower_state(lower)
    with mounted(lower, "-o", "ro", passphrases=[KERNELS.passphrases[0], NEW]) as mount:
        assert manifest.diff(timeless(expected), timeless(manifest.manifest(mount.path))) == []
    run("export", *key, "--special", lower, tmp_path / "out")
    assert manifest.diff(timeless(expected), timeless(manifest.manifest(tmp_path / "out"))) == []
    listed = [json.loads(line) for line in run("ls", "-R", "--json", *key, lower).stdout.splitlines()]
    assert {each["path"] for each in listed} == {each["path"] for each in expected}
    file = next(each for each in expected if each["type"] == "file" and each["size"])
    command: list[str | Path] = [PROGRAM, "cat", *key, lower, file["path"]]
    contents = subprocess.run(command, capture_output=True, check=True).stdout
    assert hashlib.sha256(contents).hexdigest() == file["sha256"]
    for each in expected[:2]:
        place = run("find", *key, lower, each["path"]).stdout.rstrip("\n")
        assert run("find", "--upper", *key, lower, place).stdout.rstrip("\n") == each["path"]
        facts = json.loads(run("stat", "--json", *key, lower, each["path"]).stdout)
        assert f"{lower}/{facts['lower']}" == place
    done = run("check", "--all", "--json", *key, lower, status=3)
    *checked, _ = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["upper"] for each in checked} == {each["path"] for each in expected}
    assert {each["kind"] for each in checked} == {"good", "other_fnek"}
    assert lower_state(lower) == before
    run("rekey", lower, "--passfile", tmp_path / "old", "--new-passfile", tmp_path / "new")
    with open_tree(lower, [NEW]) as tree:
        assert manifest.diff(timeless(expected), timeless(tree_manifest(tree))) == []
