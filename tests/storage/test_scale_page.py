"""The lines of Python in docs/scale.md."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from s3fs import S3FileSystem

from tests.docs.reader import the_block
from tests.mount.support import run
from tests.storage.support import to_objects, to_zip
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.conftest import make_tpm as make_tpm
from tests.tree.support import User, opened, policy
from tests.watch import ExpectedLog


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a picture, and a file with its passphrase beside it."""
    (tmp_path / "pass").write_bytes(b"test\n")
    (tmp_path / "tree").mkdir()
    with opened(tmp_path / "tree", policy("aes", 32)) as made:
        user = User(made)
        user.mkdir("photos")
        user.create("photos/a.jpg", b"all the colours")
    return tmp_path / "tree"


def lines(kind: str, **instead: str) -> list[str]:
    """The statements of a block, with what is different on this machine."""
    text = the_block("scale.md", kind)
    for written, here in instead.items():
        assert written in text
        text = text.replace(written, here)
    return [ast.unparse(each) for each in ast.parse(text).body]


def test_by_url(tree: Path, s3: S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive lies here, not on an SSH host."""
    to_objects(tree, s3, "bucket/tree", markers=False)
    s3.chmod("bucket", "public-read", recursive=True)
    to_zip(tree, tmp_path / "backup.zip")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint_url)
    names: dict[str, Any] = {"fsspec": fsspec}
    instead = {"/secret": str(tmp_path), "sftp://nas": f"file://{tmp_path}"}
    importing, *opening = lines("python urls", **instead)
    exec(importing, names)
    assert len(opening) == 2
    for line in opening:
        with eval(line, names) as file:
            assert file.read() == b"all the colours"


def test_directly(
    tree: Path,
    s3: S3FileSystem,
    make_tpm: Callable[[], SoftwareTPM],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_log: ExpectedLog,
) -> None:
    """By a slot that this machine's TPM opens."""
    expected_log("this is a software TPM")
    to_objects(tree, s3, "bucket/tree", markers=False)
    tpm = make_tpm()
    tpm.start()
    monkeypatch.setattr("fusecrypt.keys.tpm.session.DEFAULT_TCTI", tpm.tcti)
    slots = tmp_path / "tree.keyslots"
    run("key", "create", tree, "--keyslots", slots, "--passfile", tmp_path / "pass")
    unlock = ("--unlock-passfile", tmp_path / "pass")
    run("key", "add", "tpm2", "--keyslots", slots, *unlock, "--tcti", tpm.tcti)
    names: dict[str, Any] = {"s3": s3}
    exec("\n".join(lines("python directly", **{"/secret": str(tmp_path)})), names)
    assert names["tree"].cat_file("photos/a.jpg") == b"all the colours"
