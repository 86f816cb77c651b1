"""Trees that the kernel wrote, on file systems of several kinds, read exactly through ``ecryptfs://``."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from s3fs import S3FileSystem
from sshfs import SSHFileSystem

from fusecrypt.ondisk.names import PREFIX
from fusecrypt.storage.filesystem import EcryptfsFileSystem
from tests import golden
from tests.golden import GoldenTree
from tests.manifest import diff
from tests.storage.support import arguments, below, expected, shown, to_memory, to_objects, to_tar, to_zip
from tests.watch import ExpectedLog

IN_XATTR = "ecryptfs_xattr_metadata"
TREES = golden.passphrase_trees()
IN_CONTENTS = [tree for tree in TREES if IN_XATTR not in tree.flags]
ATTRIBUTES = [tree for tree in TREES if IN_XATTR in tree.flags]
FEW = [
    tree for tree in IN_CONTENTS if tree.name in ("three-keys-plain-names", "blowfish56", "salt", "two-keys")
]


@pytest.mark.parametrize("tree", IN_CONTENTS, ids=lambda tree: tree.name)
def test_in_memory(tree: GoldenTree, tmp_path: Path, expected_log: ExpectedLog) -> None:
    lower = tree.unpack(tmp_path / "lower")
    to_memory(lower, "/backup/tree")
    if tree.fnek and any(not path.name.startswith(PREFIX.decode()) for path in below(lower)):
        expected_log("names that do not decode are left out")
    fs = EcryptfsFileSystem(
        fs=fsspec.filesystem("memory"), root="backup/tree", **arguments(tree, tmp_path / "keys")
    )
    assert diff(expected(tree), shown(fs)) == []


@pytest.mark.parametrize("tree", FEW, ids=lambda tree: tree.name)
def test_in_a_zip_in_memory_by_url(tree: GoldenTree, tmp_path: Path) -> None:
    to_zip(tree.unpack(tmp_path / "lower"), tmp_path / "tree.zip")
    fsspec.filesystem("memory").pipe_file("/tree.zip", (tmp_path / "tree.zip").read_bytes())
    url = "ecryptfs://::zip://tree::memory://tree.zip"
    fs, path = fsspec.url_to_fs(url, ecryptfs=arguments(tree, tmp_path / "keys"))
    assert path == ""
    assert diff(expected(tree), shown(fs)) == []


@pytest.mark.parametrize("tree", FEW, ids=lambda tree: tree.name)
def test_in_a_tar(tree: GoldenTree, tmp_path: Path) -> None:
    to_tar(tree.unpack(tmp_path / "lower"), tmp_path / "tree.tar")
    url = f"ecryptfs://::tar://tree::file://{tmp_path}/tree.tar"
    fs, _ = fsspec.url_to_fs(url, ecryptfs=arguments(tree, tmp_path / "keys"))
    assert diff(expected(tree), shown(fs)) == []


@pytest.mark.parametrize("markers", [True, False], ids=["directories-marked", "files-alone"])
@pytest.mark.parametrize("tree", FEW, ids=lambda tree: tree.name)
def test_in_object_storage(tree: GoldenTree, markers: bool, tmp_path: Path, s3: S3FileSystem) -> None:
    to_objects(tree.unpack(tmp_path / "lower"), s3, "bucket/backup/tree", markers)
    fs = EcryptfsFileSystem(fs=s3, root="bucket/backup/tree", **arguments(tree, tmp_path / "keys"))
    assert fs.store.ranged
    wanted = expected(tree)
    if not markers:  # then nothing tells of a directory but what is in it
        leading = {str(above) for each in wanted if "size" in each for above in Path(each["path"]).parents}
        wanted = [each for each in wanted if each["type"] == "file" or each["path"] in leading]
    assert diff(wanted, shown(fs)) == []


@pytest.mark.parametrize("tree", FEW, ids=lambda tree: tree.name)
def test_where_ranges_are_read_at_once(tree: GoldenTree, tmp_path: Path) -> None:
    """As object stores have it, which are asynchronous."""
    to_memory(tree.unpack(tmp_path / "lower"), "/tree")
    store = AsyncFileSystemWrapper(fsspec.filesystem("memory"))
    fs = EcryptfsFileSystem(fs=store, root="/tree", **arguments(tree, tmp_path / "keys"))
    assert fs.store.ranged
    assert diff(expected(tree), shown(fs)) == []


@pytest.mark.parametrize("tree", FEW, ids=lambda tree: tree.name)
def test_over_sftp(tree: GoldenTree, tmp_path: Path, sftp: SSHFileSystem) -> None:
    tree.unpack(tmp_path / "sftp/tree")
    fs = EcryptfsFileSystem(fs=sftp, root="/tree", **arguments(tree, tmp_path / "keys"))
    assert diff(expected(tree), shown(fs)) == []
    links = {entry["path"] for entry in tree.manifest() if entry["type"] == "symlink"}
    assert {path for path, info in fs.find("", detail=True).items() if info["type"] == "link"} == links


@pytest.mark.parametrize("tree", [*FEW, *ATTRIBUTES], ids=lambda tree: tree.name)
def test_on_this_machine_with_symlinks_and_attributes(tree: GoldenTree, tmp_path: Path) -> None:
    tree.unpack(tmp_path / "lower")
    fs = EcryptfsFileSystem(root=str(tmp_path / "lower"), **arguments(tree, tmp_path / "keys"))
    assert diff(expected(tree), shown(fs)) == []
    targets = {e["path"]: (e["target"], e["size"]) for e in tree.manifest() if e["type"] == "symlink"}
    infos = {path: fs.info(path) for path in targets}
    assert {path: (info["destination"], info["size"]) for path, info in infos.items()} == targets


def test_there_are_trees_of_both_kinds() -> None:
    assert len(IN_CONTENTS) >= 30
    assert len(ATTRIBUTES) >= 2
    assert len(FEW) == 4
