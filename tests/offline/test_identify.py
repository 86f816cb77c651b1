"""What things are, by what they show without a key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fusecrypt.offline import identify as kinds
from fusecrypt.offline.identify import identify
from tests import golden
from tests.golden import GoldenTree
from tests.offline.support import alice, made_tree, nas_share, whole_home
from tests.tree.support import lower_name, lower_state, open_tree


@pytest.mark.parametrize("kernels", golden.trees(), ids=lambda tree: tree.name)
def test_every_golden_tree(kernels: GoldenTree, tmp_path: Path) -> None:
    lower = kernels.unpack(tmp_path / "lower")
    before = lower_state(lower)
    found = identify(lower)
    assert (found.kind, found.complete) == (kinds.TREE, True)
    assert found.survey is not None
    assert {sig.hex() for sig in found.survey.content_signatures} == {key.signature for key in kernels.keys}
    assert {sig.hex() for sig in found.survey.name_signatures} == (
        {kernels.fnek.signature} if kernels.fnek else set()
    )
    ciphers = {(p.cipher.spec.name, p.cipher.key_bytes) for p in found.survey.profiles}
    assert ciphers == {(kernels.cipher, kernels.key_bytes)}
    assert {p.in_xattr for p in found.survey.profiles} == {"ecryptfs_xattr_metadata" in kernels.flags}
    assert all(key.signature in found.needs[-1] for key in kernels.keys)
    assert lower_state(lower) == before


def test_a_home_says_where_its_key_is(tmp_path: Path) -> None:
    for lower in (alice(tmp_path / "a"), whole_home(tmp_path / "b")):
        found = identify(lower)
        assert found.kind == kinds.TREE
        wrapped = lower.parent / ".ecryptfs" / "wrapped-passphrase"
        assert [each.kind for each in found.material] == ["signatures", "wrapped-passphrase"]
        assert "version 2" in found.material[1].what
        assert found.needs[0] == f"the passphrase that opens {wrapped}"
    above = identify(tmp_path)
    assert (above.kind, [tree.kind for tree in above.trees]) == (kinds.TREES, [kinds.TREE] * 2)
    assert len(above.trees[0].material) == 2


def test_a_share_with_its_exported_key_needs_nothing(tmp_path: Path) -> None:
    found = identify(nas_share(tmp_path))
    assert [each.kind for each in found.material] == ["synology-key"]
    assert found.needs[0] == f"no secret, with --wrapped-passphrase {tmp_path / 'photos.key'}"


def test_an_unmounted_home_alone_says_what_is_missing(tmp_path: Path) -> None:
    whole_home(tmp_path)
    found = identify(tmp_path / "home" / "alice")
    assert found.kind == kinds.UNKNOWN
    assert "/home/.ecryptfs/alice/.Private" in found.advice


def test_files_of_a_tree(tmp_path: Path) -> None:
    kernels = golden.tree("aes32")
    lower = kernels.unpack(tmp_path / "lower")
    with open_tree(lower, kernels.passphrases) as tree:
        file = lower / lower_name(tree, "docs/f10000")
    found = identify(file)
    assert found.kind == kinds.FILE
    assert found.found is not None
    assert found.found.header.size == 10000
    assert found.needs == (f"key {kernels.keys[0].signature}",)
    assert identify(lower.parent).kind == kinds.TREES
    os.truncate(file, 60)
    assert identify(file).kind == kinds.DAMAGED
    file.write_bytes(b"overwritten")
    assert identify(file).kind == kinds.DAMAGED
    file.write_bytes(b"")
    assert identify(file).kind == kinds.NAME


FOREIGN = golden.DIRECTORY.parent / "foreign"
LUKS = b"LUKS\xba\xbe"


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (LUKS + b"\0\1" + bytes(600), "luks1", "cryptsetup"),
        (LUKS + b"\0\2" + bytes(600), "luks2", "QNAP"),
        (b"__CLOUDSYNC_ENC__d8d6ba7b9df02ef39a33ef912a91dc56\x42", "synology-cloud-sync", "Cloud Sync"),
        (b"cryfs.config;1;scrypt\0", "cryfs", "cryfs"),
        (bytes(8192) + b"\xc4\xb1\xb5\xd0" + bytes(16380), "android-fde", "phone"),
        (os.urandom(20_000), "unknown", ""),
        (b"plain text", "unknown", ""),
        (b"", "unknown", ""),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, kind: str, word: str) -> None:
    (tmp_path / "file").write_bytes(data)
    found = identify(tmp_path / "file")
    assert found.kind == kind
    assert word in found.advice


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gocryptfs.conf", "gocryptfs"),
        ("gocryptfs.diriv", "gocryptfs"),
        (".encfs6.xml", "encfs"),
        (".securefs.json", "securefs"),
        (".config.pb", "securefs"),
        ("cryfs.config", "cryfs"),
        (".fscrypt", "fscrypt-root"),
        ("anything", "unknown"),
    ],
)
def test_other_directories(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).mkdir() if name == ".fscrypt" else (tmp_path / name).write_text("x")
    found = identify(tmp_path)
    assert found.kind == kind
    assert bool(found.advice) == (kind != "unknown")


@pytest.mark.parametrize("archive", sorted(FOREIGN.iterdir()), ids=lambda path: path.name)
def test_what_other_tools_made(archive: Path, tmp_path: Path) -> None:
    """A directory with a file in it, by gocryptfs 2.3, EncFS 1.9.5 and securefs."""
    name = archive.name.partition(".")[0]
    golden.unpack(archive, tmp_path)
    found = identify(tmp_path / name)
    assert found.kind == name
    assert found.advice
    above = identify(tmp_path)
    assert (above.kind, [part.kind for part in above.trees]) == (kinds.OTHERS, [name])


def test_a_directory_under_fscrypt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file system tells: 0x80800 are the flags of such a directory of ext4."""

    def flags(fd: int, request: int, buffer: bytearray) -> None:
        inode = os.stat(f"/proc/self/fd/{fd}").st_ino
        assert request == 0x80086601
        buffer[:4] = (0x80800 if inode == secret.stat().st_ino else 0x80000).to_bytes(4, "little")

    secret = tmp_path / "secret"
    secret.mkdir()
    monkeypatch.setattr("fcntl.ioctl", flags)
    assert identify(secret).kind == "fscrypt"
    above = identify(tmp_path)
    assert (above.kind, [part.kind for part in above.trees]) == (kinds.OTHERS, ["fscrypt"])


def test_others_beside_trees(tmp_path: Path) -> None:
    lower = alice(tmp_path)
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "gocryptfs.conf").write_text("{}")
    found = identify(tmp_path)
    assert found.kind == kinds.TREES
    assert [(part.path, part.kind) for part in found.trees] == [
        (lower, kinds.TREE),
        (tmp_path / "vault", "gocryptfs"),
    ]


def test_a_directory_of_files_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "b", "sub/c"):
        (tmp_path / name).write_bytes(b"__CLOUDSYNC_ENC__" + os.urandom(100))
    (tmp_path / "readme").write_text("plain")
    (tmp_path / "link").symlink_to("a")
    found = identify(tmp_path)
    assert found.kind == "synology-cloud-sync"
    assert found.what == "no eCryptfs data; file of Synology's Cloud Sync: 3 of the first 4 files"


def test_a_memory_card_of_a_samsung_phone(tmp_path: Path) -> None:
    lower = made_tree(tmp_path / "card", "DCIM", names=False)
    (lower / ".MetaEcfsFile").write_bytes(b"")
    assert "Samsung" in identify(lower).needs[0]


def test_key_files_are_told(tmp_path: Path) -> None:
    lower = alice(tmp_path)
    found = identify(lower.parent / ".ecryptfs" / "wrapped-passphrase")
    assert (found.kind, "login passphrase" in found.what) == (kinds.KEY_FILE, True)
    nas_share(tmp_path)
    assert identify(tmp_path / "photos.key").kind == kinds.KEY_FILE
    (tmp_path / "other.key").write_text("-----BEGIN PRIVATE KEY-----")
    assert identify(tmp_path / "other.key").kind == kinds.UNKNOWN


def test_damaged_key_files_beside_a_tree_are_said(tmp_path: Path) -> None:
    lower = alice(tmp_path)
    (lower.parent / ".ecryptfs" / "wrapped-passphrase").write_bytes(b"cut")
    found = identify(lower)
    assert len(found.refusals) == 1
    assert "16 hex digits" in found.refusals[0]


def test_special_files_and_absent_ones(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert identify(tmp_path / "fifo").kind == kinds.UNKNOWN
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    assert identify(tmp_path / "device").kind == kinds.UNKNOWN
    with pytest.raises(FileNotFoundError):
        identify(tmp_path / "none")
