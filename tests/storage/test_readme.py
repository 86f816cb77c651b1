"""The lines of Python in README.md."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pandas
import pytest
from s3fs import S3FileSystem

from fusecrypt.storage.filesystem import EcryptfsFileSystem
from tests.docs.reader import the_block
from tests.mount.support import run
from tests.storage.support import to_memory, to_objects
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.conftest import make_tpm as make_tpm
from tests.tree.support import User, opened, policy
from tests.watch import ExpectedLog

PANDAS, DIRECTLY = map(ast.unparse, ast.parse(the_block("../README.md", "python")).body)
FRAME = pandas.DataFrame({"sold": range(10)})


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader is where a tree is, and the file with its passphrase."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(b"test\n")
    lower = tmp_path / "tree"
    lower.mkdir()
    with opened(lower, policy("aes", 32)) as made:
        user = User(made)
        user.mkdir("sales")
        user.create("sales/2019.parquet", FRAME.to_parquet())
        user.mkdir("Documents")
        user.create("Documents/letter", b"Dear reader")
    return lower


def test_pandas(tree: Path, s3: S3FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    to_objects(tree, s3, "bucket/tree", markers=False)
    account = {
        "AWS_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    assert eval(PANDAS, {"pandas": pandas}).equals(FRAME)


def test_directly(
    tree: Path,
    make_tpm: Callable[[], SoftwareTPM],
    monkeypatch: pytest.MonkeyPatch,
    expected_log: ExpectedLog,
) -> None:
    """By a slot that this machine's TPM opens."""
    expected_log("this is a software TPM")
    tpm = make_tpm()
    tpm.start()
    monkeypatch.setattr("fusecrypt.keys.tpm.session.DEFAULT_TCTI", tpm.tcti)
    run("key", "create", tree, "--keyslots", "tree.keyslots", "--passfile", "key")
    run("key", "add", "tpm2", "--keyslots", "tree.keyslots", "--unlock-passfile", "key", "--tcti", tpm.tcti)
    to_memory(tree, "/tree")
    names = {"EcryptfsFileSystem": EcryptfsFileSystem, "other": fsspec.filesystem("memory")}
    (found,) = eval(DIRECTLY, names)
    assert os.path.basename(found["name"]) == "letter"
