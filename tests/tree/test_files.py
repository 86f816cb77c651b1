"""Contents: the kernel's octets, sizes above and below, gaps, full disks."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fusecrypt.errors import FusecryptError
from fusecrypt.native import FileKey
from fusecrypt.ondisk.header import MAX_SIZE
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.headers import unlock
from fusecrypt.tree.policy import Policy
from tests import golden
from tests.golden import GoldenTree
from tests.tree.support import OWN, User, lower_header, lower_name, opened, policy, read, resolved

EXTENT = 4096
NOISE = random.Random(1).randbytes(40 * EXTENT)


def lower_of(user: User, path: str) -> Path:
    """Where an upper path of a fresh tree lies."""
    return Path(os.readlink(f"/proc/self/fd/{user.tree.root_fd}")) / lower_name(user.tree, path)


def expected_lower(user: User, size: int) -> int:
    """How long the kernel makes the lower file."""
    front = 0 if user.tree.policy.xattr_metadata else 8192
    return front + -(-size // EXTENT) * EXTENT


def check(user: User, path: str, contents: bytes) -> None:
    """What is read, what stat says, the lower length, and the padding; then all from a fresh tree."""
    assert user.read(path) == contents
    assert user.stat(path).size == len(contents)
    lower = lower_of(user, path)
    assert lower.stat().st_size == expected_lower(user, len(contents))
    header = lower_header(lower)
    assert header.size == len(contents)
    octets = lower.read_bytes()[0 if user.tree.policy.xattr_metadata else 8192 :]
    plaintext = unlock(header, user.tree.policy).decrypt_extents(0, octets)
    assert plaintext == contents.ljust(len(octets), b"\0")
    root = Path(os.readlink(f"/proc/self/fd/{user.tree.root_fd}"))
    with opened(root, user.tree.policy) as again:
        assert User(again).read(path) == contents


# The kernel's octets


@pytest.mark.parametrize(
    "kernels",
    [tree for tree in golden.passphrase_trees() if tree.flags in ((), ("ecryptfs_xattr_metadata",))],
    ids=lambda tree: tree.name,
)
def test_the_same_key_and_marker_give_the_kernels_lower_files(kernels: GoldenTree, tmp_path: Path) -> None:
    """Every encrypted regular file of a kernel's tree, written again in pieces, has the kernel's octets."""
    lower = kernels.unpack(tmp_path / "lower")
    mine = tmp_path / "mine"
    found = resolved(lower, kernels.passphrases, salt=kernels.keys[0].salt).policy
    written = 0
    with opened(lower, found) as tree:
        user = User(tree)
        for entry in kernels.manifest():
            if entry["type"] != "file" or "error" in entry:
                continue
            path = os.fsencode(entry["path"])
            theirs = lower / lower_name(tree, path)
            header = lower_header(theirs)
            # The kernel wrote at random positions here; only what the octets are matters.
            write_again(mine, found, unlock(header, found), header.marker, user.read(path), written)
            assert mine.read_bytes() == theirs.read_bytes(), entry["path"]
            if found.xattr_metadata:
                assert os.getxattr(mine, OWN) == os.getxattr(theirs, OWN)
            written += 1
    assert written >= 5


def write_again(path: Path, found: Policy, key: FileKey, marker: int, contents: bytes, seed: int) -> None:
    """Write a lower file with a known key and marker: in one piece, in pieces, or with gaps filled later."""
    path.unlink(missing_ok=True)
    file = EncryptedFile(os.open(path, os.O_RDWR | os.O_CREAT), True, found)
    file.initialise(key, marker)
    numbers = random.Random(seed)
    cuts = sorted(numbers.randrange(len(contents) + 1) for _ in range(numbers.randrange(4)))
    pieces = list(zip([0, *cuts], [*cuts, len(contents)], strict=True))
    numbers.shuffle(pieces)
    for start, end in pieces:
        file.write(start, contents[start:end])
    file.close()


# Sizes, gaps, pieces


@pytest.mark.parametrize("size", [0, 1, 15, 16, 4095, 4096, 4097, 8191, 8192, 8193, 40 * 4096])
def test_lower_lengths_are_the_kernels(user: User, size: int) -> None:
    user.create("a", NOISE[:size])
    check(user, "a", NOISE[:size])


def test_appends(user: User) -> None:
    user.create("a")
    size = 0
    for n in (1, 10, 4084, 1, 1, 4095, 4096, 5000, 1):
        user.write("a", size, NOISE[size : size + n])
        size += n
        check(user, "a", NOISE[:size])


@pytest.mark.parametrize("at", [1, 4095, 4096, 4097, 8192, 100_000])
@pytest.mark.parametrize("before", [0, 1, 4096, 5000])
def test_a_gap_is_filled_with_zeros(user: User, before: int, at: int) -> None:
    user.create("a", NOISE[:before])
    user.write("a", at, b"end")
    expected = bytearray(NOISE[:before].ljust(at, b"\0"))
    expected[at : at + 3] = b"end"
    check(user, "a", bytes(expected))


@pytest.mark.parametrize(
    ("at", "n"), [(0, 1), (0, 4096), (1, 4095), (4095, 2), (4096, 4096), (100, 9000), (8191, 1), (9990, 10)]
)
def test_a_piece_in_the_middle(user: User, at: int, n: int) -> None:
    user.create("a", NOISE[:10_000])
    user.write("a", at, NOISE[20_000 : 20_000 + n])
    check(user, "a", NOISE[:at] + NOISE[20_000 : 20_000 + n] + NOISE[at + n : 10_000])


def test_pieces_in_any_order(user: User) -> None:
    """As write-back brings them: the last page first."""
    pieces = [(i * 1500, NOISE[i * 1500 : (i + 1) * 1500]) for i in range(40)]
    random.Random(7).shuffle(pieces)
    user.create("a")
    with user.file("a", True) as file:
        for at, data in pieces:
            file.write(at, data)
    check(user, "a", NOISE[: 40 * 1500])


@pytest.mark.parametrize("old", [1, 4096, 10_000])
@pytest.mark.parametrize("new", [0, 1, 4095, 4096, 4097, 9_999, 10_000, 10_001, 20_000])
def test_truncation_both_ways(user: User, old: int, new: int) -> None:
    user.create("a", NOISE[:old])
    user.truncate("a", new)
    check(user, "a", NOISE[: min(old, new)].ljust(new, b"\0"))
    # What was cut off does not come back.
    user.truncate("a", 30_000)
    check(user, "a", NOISE[: min(old, new)].ljust(30_000, b"\0"))


def test_stale_octets_below_do_not_show(plain: User, lower: Path) -> None:
    """Kernels with big pages leave lower files longer; the rest is kept, and never seen as data."""
    plain.create("a", NOISE[:5000])
    with open(lower / "a", "ab") as file:
        file.write(os.urandom(20_000))
    plain.truncate("a", 5000)
    assert (lower / "a").stat().st_size == 8192 + 8192 + 20_000
    plain.write("a", 9000, b"x")
    assert plain.read("a") == NOISE[:5000] + bytes(4000) + b"x"
    plain.truncate("a", 12_000)
    assert plain.read("a") == NOISE[:5000] + bytes(4000) + b"x" + bytes(2999)
    plain.truncate("a", 4097)
    check(plain, "a", NOISE[:4097])


def test_reads_at_every_position(user: User) -> None:
    user.create("a", NOISE[:12_300])
    numbers = random.Random(3)
    with user.file("a") as file:
        for _ in range(300):
            at, n = numbers.randrange(13_000), numbers.randrange(13_000)
            assert read(file, at, n) == NOISE[:12_300][at : at + n]
        assert read(file, 12_300, 10) == read(file, 2**62, 10) == b""


def test_writing_nothing_changes_nothing(user: User) -> None:
    user.create("a", b"abc")
    before = lower_of(user, "a").read_bytes()
    user.write("a", 10_000, b"")
    user.truncate("a", 3)
    assert lower_of(user, "a").read_bytes() == before


def front_of(user: User, path: str) -> bytes:
    """The stored header."""
    lower = lower_of(user, path)
    return os.getxattr(lower, OWN) if user.tree.policy.xattr_metadata else lower.read_bytes()[:8192]


def test_only_the_size_field_of_a_header_changes(user: User) -> None:
    user.create("a", b"abc")
    before = front_of(user, "a")
    user.write("a", 5000, b"x")
    user.truncate("a", 0)
    user.write("a", 1, b"x")
    user.rename("a", "b")
    after = front_of(user, "b")
    assert after[:8] == (2).to_bytes(8, "big")
    assert after[8:] == before[8:]


# Limits


@pytest.mark.parametrize("at", [MAX_SIZE, MAX_SIZE + 1, 2**63 - 2, 2**63 - 1, 2**64])
def test_positions_that_no_file_has(user: User, at: int) -> None:
    user.create("a", b"abc")
    with user.file("a", True) as file:
        with pytest.raises(OSError, match="File too large") as caught:
            file.write(at, b"x")
        assert caught.value.errno == errno.EFBIG
        if at > MAX_SIZE:
            with pytest.raises(OSError, match="File too large"):
                file.truncate(at)
    check(user, "a", b"abc")


@pytest.mark.parametrize("size", [2**40 * 9, 2**60, MAX_SIZE])
def test_an_extension_that_can_never_fit_is_too_large(user: User, size: int) -> None:
    user.create("a", b"abc")
    with pytest.raises(OSError, match="File too large"):
        user.truncate("a", size)
    check(user, "a", b"abc")


@contextmanager
def file_system(path: Path, *words: str | Path) -> Iterator[Path]:
    """A lower file system of the test's own; ``words`` are those for mount(8) before the mount point."""
    path.mkdir()
    subprocess.run(["mount", *words, path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_an_extension_that_does_not_fit_now_does_not_fill_the_disk(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "disk") as disk:
        (disk / "taken").write_bytes(bytes(32 << 20))
        (disk / "lower").mkdir()
        with opened(disk / "lower", policy()) as tree:
            user = User(tree)
            user.create("a", b"abc")
            with pytest.raises(OSError, match="No space left"):
                user.truncate("a", 48 << 20)
            for at in (48 << 20, 1 << 40):  # a write may be one of many, and the disk be full of the others
                with pytest.raises(OSError, match="No space left"):
                    user.write("a", at, b"x")
            check(user, "a", b"abc")
            with pytest.raises(OSError, match="File too large"):
                user.truncate("a", 65 << 20)


def test_a_size_that_no_lower_file_has_is_too_large(tmp_path: Path) -> None:
    """ext4 with small blocks and no extents: 16 GiB are the most, and there is room for more."""
    image, size = tmp_path / "image", 18 << 30
    with image.open("wb") as file:
        file.truncate(20 << 30)
    features = "^has_journal,^extent,^huge_file,^64bit,uninit_bg"
    subprocess.run(["mkfs.ext4", "-q", "-O", features, "-b", "1024", "-N", "2048", image], check=True)
    with (
        file_system(tmp_path / "disk", "-t", "ext4", "-o", "loop", image) as disk,
        opened(disk, policy()) as tree,
    ):
        user = User(tree)
        user.create("a", b"abc")
        with pytest.raises(OSError, match="File too large"):
            user.truncate("a", size)
        with pytest.raises(OSError, match="File too large"):
            user.write("a", size, b"x")
        check(user, "a", b"abc")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A lower file system of 1 MiB."""
    with file_system(tmp_path / "small", "-t", "tmpfs", "-o", "size=1m", "small") as path:
        yield path


def no_space(caught: pytest.ExceptionInfo[OSError]) -> bool:
    return caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("before", [0, 3, 4096, 6000])
def test_a_full_disk_leaves_size_and_data(small: Path, before: int) -> None:
    with opened(small, policy()) as tree:
        user = User(tree)
        user.create("a", NOISE[:before])
        with pytest.raises(OSError, match="No space") as caught:
            user.truncate("a", 2 << 20)
        assert no_space(caught)
        check(user, "a", NOISE[:before])
        with pytest.raises(OSError, match="No space") as caught:
            user.write("a", 2 << 20, b"x")
        assert no_space(caught)
        check(user, "a", NOISE[:before])
        with pytest.raises(OSError, match="No space") as caught:
            user.write("a", 500_000, bytes(1 << 20))
        assert no_space(caught)
        # What fitted may have been written; the lower file holds no more than that.
        size = user.stat("a").size
        assert before <= size < 1 << 20
        check(user, "a", (NOISE[:before] + bytes(size))[:size])
        user.truncate("a", before)
        user.create("b", NOISE[:100_000])
        check(user, "b", NOISE[:100_000])


def test_a_full_disk_takes_no_new_file(small: Path) -> None:
    with opened(small, policy()) as tree:
        user = User(tree)
        user.create("a")
        (small / "ballast").write_bytes(bytes((1 << 20) - 8192))
        assert os.statvfs(small).f_bfree == 0
        with pytest.raises(OSError, match="No space") as caught:
            user.create("b")
        assert no_space(caught)
        assert user.list() == [b"a"]
        assert len(os.listdir(small)) == 2
        # An empty lower file stays one that gets its header later.
        name = lower_name(tree, "c")
        (small / name).touch()
        with pytest.raises(OSError, match="No space"):
            user.write("c", 0, b"x")
        assert (small / name).stat().st_size == 0
        (small / "ballast").unlink()
        user.write("c", 0, b"x")
        check(user, "c", b"x")


# Sharing


def test_all_opens_and_links_share_one_file(user: User) -> None:
    user.create("a", b"abc")
    user.link("a", "b")
    with user.file("a") as first, user.file("b", True) as second, user.file("a", True) as third:
        assert first is second is third
        second.write(3, b"def")
        first.truncate(7)
        assert read(third) == b"abcdef\0"
        assert user.stat("b").size == user.stat("a").size == 7
    check(user, "a", b"abcdef\0")


def test_a_file_opened_for_reading_becomes_writable_for_those_who_ask(user: User) -> None:
    user.create("a", b"abc")
    with user.file("a") as file:
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.write(0, b"x")
        with user.file("a", True):
            file.write(0, b"x")
            assert read(file) == b"xbc"


def test_a_failed_open_leaves_no_trace(user: User) -> None:
    user.create("a")
    with user.node("a") as node:
        lower_of(user, "a").write_bytes(b"broken")
        if user.tree.policy.xattr_metadata:
            os.removexattr(lower_of(user, "a"), OWN)
        for _ in range(3):
            with pytest.raises(FusecryptError):
                user.tree.open(node, False)
        assert node.file is None
        assert node.opens == 0
        assert node.refs == 1


def test_no_size_is_guessed_where_descriptors_are_short(plain: User) -> None:
    """The kernel would go by it: with write-back caching it asks once."""
    plain.create("file", b"x" * 100)
    with plain.node("file") as node:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            for look in (lambda: plain.tree.stat(node), lambda: plain.tree.lookup(plain.tree.root, b"file")):
                with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                    look()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert plain.tree.stat(node).size == 100


def test_a_truncation_that_fails_leaves_all_contents(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = NOISE[:20_000]
    user.create("file", data)
    with monkeypatch.context() as patch:
        patch.setattr("fusecrypt.tree.encrypted.write_size", refuse)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            user.truncate("file", 4100)
    assert user.read("file") == data


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Lower writes beyond it are cut short there, and then fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "limit", [0, 1, 4096, 8191, 8192, 8193, 12_288, 12_300, 16_383, 16_385, 20_480, 24_577]
)
def test_a_lower_write_that_is_cut_short_harms_nothing(user: User, limit: int) -> None:
    """And what of it is whole is there, with a size to match."""
    user.create("file", NOISE[:5000])
    with file_size_limit(limit):
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            user.write("file", 5000, NOISE[5000:40_000])
        with suppress(OSError):
            user.create("new", NOISE[:40_000])
    for name, least in (("file", 5000), ("new", 0)):
        if user.exists(name):
            found = user.read(name)
            assert len(found) >= least
            assert found == NOISE[: len(found)]
            assert lower_of(user, name).stat().st_size <= max(limit, 8192 + 2 * EXTENT)
    user.write("file", 5000, NOISE[5000:40_000])
    assert user.read("file") == NOISE[:40_000]
