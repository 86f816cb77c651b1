"""Golden trees put on other file systems, and what ``ecryptfs://`` shows of them."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from fusecrypt.storage.filesystem import EcryptfsFileSystem
from tests.golden import GoldenTree
from tests.manifest import Entry

_COMPARED = ("path", "path_b64", "type", "size", "sha256", "error")


def arguments(tree: GoldenTree, directory: Path) -> dict[str, Any]:
    """The arguments that open a golden tree; its passphrases become files in ``directory``."""
    directory.mkdir(exist_ok=True)
    passfiles = []
    for number, passphrase in enumerate(tree.passphrases):
        path = directory / f"pass{number}"
        path.write_bytes(passphrase + b"\n")
        passfiles.append(str(path))
    words = "ecryptfs_passthrough" if "ecryptfs_passthrough" in tree.flags else ""
    return {"passfile": passfiles, "salt": tree.keys[0].salt.hex(), "options": words}


def below(directory: Path) -> list[Path]:
    """All objects; rglob() fails at symlinks whose targets are too long."""
    walk = os.walk(directory)
    return sorted(Path(above, name) for above, *names in walk for each in names for name in each)


def expected(tree: GoldenTree) -> list[Entry]:
    """Files and directories as the kernel shows them: what every file system can hold."""
    kept = [entry for entry in tree.manifest() if entry["type"] in ("file", "dir")]
    return [{key: entry[key] for key in _COMPARED if key in entry} for entry in kept]


def shown(fs: EcryptfsFileSystem) -> list[Entry]:
    """Files and directories, by walking; that looking them up says the same is checked on the way."""
    entries: list[Entry] = []
    for _, directories, files in fs.walk("", detail=True, on_error="raise"):
        for info in (*directories.values(), *files.values()):
            if info["type"] in ("file", "directory"):
                entries.append(_describe(fs, info))
    return entries


def _describe(fs: EcryptfsFileSystem, info: dict[str, Any]) -> Entry:
    path = info["name"]
    again = fs.info(path)
    assert (again["name"], again["type"], again["size"]) == (path, info["type"], info["size"])
    entry: Entry = {"path": path, "type": "dir" if info["type"] == "directory" else "file"}
    try:
        path.encode()
    except UnicodeEncodeError:
        entry["path_b64"] = base64.b64encode(os.fsencode(path)).decode()
    if entry["type"] == "file":
        entry["size"] = info["size"]
        (data,) = fs.cat_ranges([path], None, None)
        if isinstance(data, OSError):
            assert data.filename == path
            entry["error"] = f"read@0:{errno.errorcode[data.errno or 0]}"
        else:
            assert isinstance(data, bytes)
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            with fs.open(path, "rb", block_size=10000) as file:  # no multiple of an extent
                assert file.read() == data
    return entry


def to_memory(lower: Path, root: str) -> None:
    """Copy the files and directories of a lower tree to fsspec's memory file system."""
    memory = fsspec.filesystem("memory")
    memory.mkdir(root)
    for path, target in _objects(lower, root):
        if path.is_dir():
            memory.mkdir(target)
        else:
            memory.pipe_file(target, path.read_bytes())


def to_objects(lower: Path, bucket: AbstractFileSystem, root: str, markers: bool) -> None:
    """The same into a bucket; ``markers``: with the empty objects that stand for directories there."""
    for path, target in _objects(lower, root):
        if not path.is_dir():
            bucket.pipe_file(target, path.read_bytes())
        elif markers:
            bucket.pipe_file(f"{target}/", b"")


def to_tar(lower: Path, archive: Path) -> None:
    """The same into a tar, with directories, below ``tree``."""
    with tarfile.open(archive, "w") as file:
        for path, target in _objects(lower, "tree"):
            file.add(path, target, recursive=False)


def to_zip(lower: Path, archive: Path) -> None:
    """The same into an archive, compressed, below ``tree``."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path, target in _objects(lower, "tree"):
            info = zipfile.ZipInfo(target + "/" * path.is_dir())
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, b"" if path.is_dir() else path.read_bytes())


def _objects(lower: Path, root: str) -> list[tuple[Path, str]]:
    found = (path for path in below(lower) if not path.is_symlink())
    return [(path, f"{root}/{path.relative_to(lower)}") for path in found if path.is_dir() or path.is_file()]
