"""What ``ecryptfs://`` promises besides contents: keys, errors, pickling, caching, and never to write."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from s3fs import S3FileSystem

from fusecrypt.errors import KeyNotFoundError, NotEcryptfsError, SecretError
from fusecrypt.storage.filesystem import EcryptfsFileSystem
from tests import golden
from tests.storage.support import arguments, to_memory
from tests.tree.support import User, lower_name, opened, policy

DATA = os.urandom(3 * 4096 + 77)
ROOT = "memory://tree"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "pass").write_bytes(b"test\n")
    return {"passfile": str(tmp_path / "pass")}


@pytest.fixture
def lower(tmp_path: Path) -> Callable[[str], str]:
    """A tree with a few files, in memory; gives the lower path of an upper one."""
    directory = tmp_path / "lower"
    directory.mkdir()
    with opened(directory, policy()) as tree:
        user = User(tree)
        user.mkdir("deep")
        user.mkdir("empty")
        user.create("deep/file", DATA)
        user.create("deep/nothing")
        user.create("ünï", b"x")
        names = {path: f"/tree/{lower_name(tree, path)}" for path in ("deep", "deep/file", "ünï")}
    to_memory(directory, "/tree")
    return names.__getitem__


def test_what_there_is(lower: Callable[[str], str], keys: dict[str, Any]) -> None:
    fs = EcryptfsFileSystem(ROOT, **keys)
    assert fs.ls("", detail=False) == ["deep", "empty", "ünï"]
    assert fs.ls("deep/file", detail=False) == ["deep/file"]
    assert sorted(fs.find("")) == ["deep/file", "deep/nothing", "ünï"]
    assert fs.glob("**/f*") == ["deep/file"]
    assert fs.du("") == len(DATA) + 1
    assert (fs.exists("deep"), fs.isdir("deep"), fs.isfile("deep/file")) == (True, True, True)
    assert not fs.exists("deep/fil")
    assert not fs.exists("n" * 200)
    assert fs.modified("deep/file") == fsspec.filesystem("memory").modified(lower("deep/file"))
    for call in (fs.info, fs.ls, fs.cat_file, fs.open):
        with pytest.raises(FileNotFoundError) as caught:
            call("deep/missing")
        assert caught.value.filename == "deep/missing"


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (0, 1), (4095, 4097), (8192, None), (-5, None), (10, 5), (0, 10**9)]
)
def test_ranges(
    lower: Callable[[str], str], keys: dict[str, Any], start: int | None, end: int | None
) -> None:
    fs = EcryptfsFileSystem(ROOT, **keys)
    wanted = DATA[start:end]
    assert fs.cat_file("deep/file", start, end) == wanted
    paths = ["deep/file", "gone", "deep/nothing", "ünï"]
    first, gone, *others = fs.cat_ranges(paths, [start] * 4, [end] * 4)
    assert first == wanted
    assert isinstance(gone, FileNotFoundError)
    assert others == [b"", b"x"[start:end]]
    with fs.open("deep/file", block_size=5000) as file:
        file.seek(start or 0, 2 if start == -5 else 0)
        assert file.read(max(0, (end or len(DATA)) - file.tell())) == wanted


def test_a_read_costs_what_it_takes(lower: Callable[[str], str], keys: dict[str, Any]) -> None:
    fs = EcryptfsFileSystem(ROOT, **keys)
    fs.info("deep/file")
    with pytest.MonkeyPatch.context() as patch:
        read: list[tuple[int, int]] = []
        plain = fs.store._read_open

        def noted(path: str, first: int, last: int) -> bytes | OSError:
            read.append((first, last))
            return plain(path, first, last)

        patch.setattr(fs.store, "_read_open", noted)
        assert fs.cat_file("deep/file", 5000, 5001) == DATA[5000:5001]
    assert read == [(8192 + 4096, 8192 + 8192)]


def test_a_changed_file_is_seen_as_the_lower_file_system_tells_it(
    lower: Callable[[str], str], keys: dict[str, Any]
) -> None:
    fs, memory = EcryptfsFileSystem(ROOT, **keys), fsspec.filesystem("memory")
    assert fs.info("deep/file")["size"] == len(DATA)
    memory.pipe_file(lower("deep/file"), memory.cat_file(lower("ünï")))
    assert (fs.info("deep/file")["size"], fs.cat_file("deep/file")) == (1, b"x")


def test_damage_is_an_error_that_names_the_file(lower: Callable[[str], str], keys: dict[str, Any]) -> None:
    fs, memory = EcryptfsFileSystem(ROOT, **keys), fsspec.filesystem("memory")
    whole = memory.cat_file(lower("deep/file"))
    for damaged in (b"\0" * len(whole), whole[:30] + b"\0" * 4000, whole[:-1]):
        memory.pipe_file(lower("deep/file"), damaged)
        with pytest.raises(OSError, match="deep/file") as caught:
            fs.cat_file("deep/file")
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, "deep/file")
        with pytest.raises(OSError, match="deep/file") as caught, fs.open("deep/file") as file:
            file.read()
        assert caught.value.errno == errno.EIO
    assert fs.cat_file("deep/file", 0, 4096) == DATA[:4096]  # what is whole of a file that was cut
    assert {each["name"] for each in fs.ls("deep")} == {"deep/file", "deep/nothing"}


def test_a_cut_file_in_object_storage(
    lower: Callable[[str], str], keys: dict[str, Any], s3: S3FileSystem
) -> None:
    memory = fsspec.filesystem("memory")
    for path in memory.find("/tree"):
        s3.pipe_file(f"bucket{path}", memory.cat_file(path))
    place = f"bucket{lower('deep/file')}"
    s3.pipe_file(place, s3.cat_file(place)[: 8192 + 4096])
    fs = EcryptfsFileSystem(fs=s3, root="bucket/tree", **keys)
    assert fs.cat_file("deep/file", 0, 4096) == DATA[:4096]
    for start, end in ((0, 4097), (4096, None), (9000, 9001)):  # the store has no octet of the last ones
        with pytest.raises(OSError, match="cut short") as caught:
            fs.cat_file("deep/file", start, end)
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, "deep/file")


def test_names_of_others_are_left_out_and_logged_once(
    lower: Callable[[str], str], keys: dict[str, Any], caplog: pytest.LogCaptureFixture, expected_log: Any
) -> None:
    expected_log("names that do not decode are left out, such as /tree/stranger")
    fsspec.filesystem("memory").pipe_file("/tree/stranger", b"not ours")
    fs = EcryptfsFileSystem(ROOT, **keys)
    for _ in range(2):
        assert fs.ls("", detail=False) == ["deep", "empty", "ünï"]
    assert len(caplog.records) == 1


def test_attributes_that_cannot_be_read_are_named(tmp_path: Path, keys: dict[str, Any]) -> None:
    kernels = golden.tree("aes16-xattr")
    to_memory(kernels.unpack(tmp_path / "lower"), "/tree")
    fs = EcryptfsFileSystem(ROOT, **arguments(kernels, tmp_path / "keys"))
    path = next(entry["path"] for entry in kernels.manifest() if entry.get("size") and "sha256" in entry)
    with pytest.raises(OSError, match="extended attributes, where it may be, cannot be read") as caught:
        fs.cat_file(path)
    assert caught.value.errno == errno.EIO
    to_memory(golden.tree("aes32-xattr-plain-names").unpack(tmp_path / "plain"), "/plain")
    with pytest.raises(NotEcryptfsError) as refused:
        EcryptfsFileSystem("memory://plain", **keys).ls("")
    assert "extended attributes cannot be read there" in refused.value.hint


def test_keys_that_do_not_fit_are_errors_everywhere(lower: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "wrong").write_bytes(b"wrong\n")
    fs = EcryptfsFileSystem(ROOT, passfile=str(tmp_path / "wrong"))
    for call in (fs.ls, fs.exists, fs.cat_file):
        with pytest.raises(KeyNotFoundError, match="does not fit"):
            call("deep")
    with pytest.raises(SecretError, match="no key was opened"):
        EcryptfsFileSystem(ROOT).ls("")
    with pytest.raises(TypeError, match="passfiel"):
        EcryptfsFileSystem(ROOT, passfiel="x")
    with pytest.raises(FileNotFoundError):
        EcryptfsFileSystem("memory://nowhere", passfile=str(tmp_path / "wrong")).ls("")


def test_it_is_never_written(lower: Callable[[str], str], keys: dict[str, Any]) -> None:
    fs, memory = EcryptfsFileSystem(ROOT, **keys), fsspec.filesystem("memory")
    before = {path: memory.cat_file(path) for path in memory.find("/tree")}
    calls: list[Callable[[], object]] = [
        lambda: fs.open("new", "wb"),
        lambda: fs.open("deep/file", "ab"),
        lambda: fs.pipe_file("new", b""),
        lambda: fs.pipe({"new": b""}),
        lambda: fs.mkdir("new"),
        lambda: fs.makedirs("new/below"),
        lambda: fs.rm("deep", recursive=True),
        lambda: fs.rm_file("deep/file"),
        lambda: fs.rmdir("empty"),
        lambda: fs.mv("deep", "shallow"),
        lambda: fs.copy("deep/file", "new"),
        lambda: fs.touch("new"),
        lambda: fs.put(__file__, "new"),
    ]
    for call in calls:
        with pytest.raises(OSError, match="Read-only") as caught:
            call()
        assert caught.value.errno == errno.EROFS
    assert {path: memory.cat_file(path) for path in memory.find("/tree")} == before


def _read(fs: EcryptfsFileSystem, queue: Any) -> None:
    queue.put(fs.cat_file("file"))


def test_pickled_it_names_the_sources_of_its_keys(tmp_path: Path, keys: dict[str, Any]) -> None:
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy()) as tree:
        User(tree).create("file", DATA)
        secrets = [token.key for token in tree.policy.tokens]
        fs = EcryptfsFileSystem(str(tmp_path / "lower"), **keys)
        assert fs.cat_file("file") == DATA
        file = fs.open("file")
        assert file.read(5) == DATA[:5]
        octets = pickle.dumps((fs, file))
        assert keys["passfile"].encode() in octets
        assert not any(bytes(secret.view())[:16] in octets for secret in secrets)
    for context in (multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")):
        # A forked child has none of its parent's keys and finds its own.
        queue = context.Queue()
        child = context.Process(target=_read, args=(fs, queue))
        child.start()
        assert queue.get(timeout=60) == DATA
        child.join()
    here: list[dict[str, Any]] = [{"passfile": "-"}, {"passphrase_fd": 7}]
    here.append({"options": "key=passphrase:passphrase_passwd_fd=7"})
    for source in here:
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(EcryptfsFileSystem(str(tmp_path / "lower"), **source))
    again, file = pickle.loads(octets)
    assert again.cat_file("file") == DATA
    assert file.read(5) == DATA[5:10]


def test_it_is_registered() -> None:
    assert fsspec.get_filesystem_class("ecryptfs") is EcryptfsFileSystem


def test_no_way_leads_through_a_symlink(tmp_path: Path, keys: dict[str, Any]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"not of the tree")
    directory = tmp_path / "lower"
    directory.mkdir()
    with opened(directory, policy(names=False)) as tree:
        User(tree).create("file", DATA)
    (directory / "way").symlink_to(outside)
    fs = EcryptfsFileSystem(str(directory), options="ecryptfs_passthrough", **keys)
    assert fs.cat_file("file") == DATA
    assert fs.info("way")["type"] == "link"
    for call in (fs.info, fs.cat_file, fs.ls):
        with pytest.raises(NotADirectoryError):
            call("way/secret")
    with pytest.raises(NotADirectoryError):
        fs.ls("way")
    assert fs.find("") == ["file", "way"]
