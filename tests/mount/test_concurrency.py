"""Many processes on the same and on different files, while the kernel forgets and others replace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.crowd import crowd, together
from tests.mount.inodes import descriptors, drop_caches, forgotten, requests
from tests.mount.support import Mount, mounted

WAYS = {
    "write-back": (),
    "write-through": ("--shared",),
    "attributes": ("-o", "ecryptfs_xattr_metadata"),
}
RECORD, RECORDS, SLOTS = 1000, 12, 6
"""A file of records that several processes own in turn: each extent (4096 octets) has more than one owner."""


@pytest.fixture(params=WAYS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mount]:
    with mounted(tmp_path / "lower", *WAYS[request.param]) as mount:
        yield mount


OWN_FILES = """
held = {}
while running():
    name = f"{me}-{chance.randrange(8)}"
    what = chance.randrange(5)
    if what == 0 or name not in held:
        held[name] = chance.randbytes(chance.randrange(20000))
        Path(name).write_bytes(held[name])
    elif what == 1:
        size = chance.randrange(25000)
        os.truncate(name, size)
        held[name] = held[name][:size].ljust(size, b"\\0")
    elif what == 2:
        other = f"{me}-{chance.randrange(8)}"
        os.rename(name, other)
        held[other] = held.pop(name)
    elif what == 3:
        os.unlink(name)
        del held[name]
    else:
        assert Path(name).read_bytes() == held[name], name
for name in {f"{me}-{n}" for n in range(8)}:
    assert os.path.exists(name) == (name in held), name
    if name in held:
        assert Path(name).read_bytes() == held[name], name
        Path(name + ".copy").write_bytes(held[name])
"""


def test_processes_on_files_of_their_own(place: Mount) -> None:
    """In one directory; each finds what it wrote, and so does the next mount."""
    together(place.path, [OWN_FILES] * 5)
    place.unmount()
    with mounted(place.lower, path=place.path) as mount:
        copies = list(mount.path.glob("*.copy"))
        assert copies
        for copy in copies:
            assert copy.read_bytes() == copy.with_suffix("").read_bytes(), copy


SLOT_OWNER = f"""
fd = os.open("shared", os.O_RDWR)
mine = [n for n in range({RECORDS * SLOTS}) if n % {SLOTS} == me]
held = dict.fromkeys(mine, bytes({RECORD}))
view = mmap.mmap(fd, 0) if me % 2 else None
while running():
    n = chance.choice(mine)
    start = n * {RECORD}
    assert os.pread(fd, {RECORD}, start) == held[n], n
    held[n] = bytes([chance.randrange(256)]) * {RECORD}
    if view:
        view[start : start + {RECORD}] = held[n]
        if chance.random() < 0.05:
            view.flush()
    else:
        os.pwrite(fd, held[n], start)
        if chance.random() < 0.05:
            os.fsync(fd)
if view:
    view.close()
for n in mine:
    os.pwrite(fd, bytes([n]) * {RECORD}, n * {RECORD})
"""


def test_processes_on_one_file(place: Mount) -> None:
    """Some by write(), some through shared mappings, with extents and pages between them."""
    (place.path / "shared").write_bytes(bytes(RECORD * RECORDS * SLOTS))
    together(place.path, [SLOT_OWNER] * SLOTS)
    expected = b"".join(bytes([n]) * RECORD for n in range(RECORDS * SLOTS))
    assert (place.path / "shared").read_bytes() == expected
    place.unmount()
    with mounted(place.lower, path=place.path) as mount:
        assert (mount.path / "shared").read_bytes() == expected


DIRECT_WRITER = """
import ctypes, struct
SIZE, libc = 1 << 18, ctypes.CDLL(None, use_errno=True)
page = mmap.mmap(-1, SIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
context, direct, plain = ctypes.c_ulong(), os.open("f", os.O_RDWR | os.O_DIRECT), os.open("f", os.O_RDONLY)
assert libc.syscall(206, 8, ctypes.byref(context)) == 0  # io_setup
while running():
    page[:] = bytes([rounds % 251]) * SIZE
    piece = SIZE // 8
    form, calls = struct.Struct("<QIiHhIQQqQII"), []
    for start in range(0, SIZE, piece):
        call = form.pack(0, 0, 0, 1, 0, direct, address + start, piece, start, 0, 0, 0)
        calls.append(ctypes.create_string_buffer(call))
    several = (ctypes.c_void_p * 8)(*map(ctypes.addressof, calls))
    assert libc.syscall(209, context, ctypes.c_long(8), several) == 8  # io_submit
    events = ctypes.create_string_buffer(32 * 8)
    assert libc.syscall(208, context, ctypes.c_long(8), ctypes.c_long(8), events, None) == 8  # io_getevents
    data = os.pread(plain, SIZE, 0)
    assert data == page[:], [n for n in range(0, SIZE, 4096) if data[n] != page[n]]
"""
PLAIN_READER = """
while running():
    with open("f", "rb", buffering=0) as file:
        file.read()
"""


def test_readers_see_what_was_written_around_them(place: Mount) -> None:
    """Direct and asynchronously, while others read the old contents into memory."""
    (place.path / "f").write_bytes(bytes(1 << 18))
    together(place.path, [DIRECT_WRITER, PLAIN_READER, PLAIN_READER], 2)


REPLACER = """
while running():
    size = chance.randrange(1, 30000)
    Path(f"new{me}").write_bytes(b"%08d" % size + b"x" * size)
    os.rename(f"new{me}", f"f{chance.randrange(3)}")
"""
REMOVER = """
while running():
    try:
        os.unlink(f"f{chance.randrange(3)}")
    except FileNotFoundError:
        pass
    time.sleep(0.002)
"""
READER = """
while running():
    try:
        with open(f"f{chance.randrange(3)}", "rb") as file:
            data = file.read()
            assert int(data[:8]) == len(data) - 8 == os.fstat(file.fileno()).st_size - 8
            assert data[8:].count(b"x") == len(data) - 8
    except FileNotFoundError:
        pass
"""


def test_files_that_are_replaced_and_removed_are_whole(place: Mount) -> None:
    """Whoever opens one reads one version of it, to its end."""
    together(place.path, [REPLACER, REPLACER, REMOVER, READER, READER])


STALE_READER = READER.replace("except FileNotFoundError:", "except OSError as error:").replace(
    "        pass", "        assert error.errno in (errno.ENOENT, errno.ESTALE), error"
)


def test_files_that_another_mount_replaces_are_whole(tmp_path: Path) -> None:
    """It may have gone for good while it is looked up, but is never read in part or mixed."""
    with (
        mounted(tmp_path / "lower", "--shared", path=tmp_path / "a") as a,
        mounted(tmp_path / "lower", "--shared", path=tmp_path / "b") as b,
        crowd(b.path, [REPLACER, REMOVER], 1.5),
    ):
        together(a.path, [STALE_READER] * 2, 1.5)


RACER = """
names = [f"d{n}/{name}" for n in range(2) for name in "abc"]
expected = (errno.ENOENT, errno.EEXIST, errno.ESTALE)
while running():
    a, b = chance.choice(names), chance.choice(names)
    try:
        what = chance.randrange(7)
        if what == 0:
            os.close(os.open(a, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        elif what == 1:
            os.rename(a, b)
        elif what == 2:
            os.unlink(a)
        elif what == 3:
            os.link(a, b)
        elif what == 4:
            os.truncate(a, chance.randrange(20000))
        elif what == 5:
            with open(a, "r+b") as file:
                file.write(chance.randbytes(chance.randrange(9000)))
        else:
            with open(a, "rb") as file:
                held = os.fstat(file.fileno())
                assert held.st_nlink >= 0
                file.read()
    except OSError as error:
        assert error.errno in expected, error
"""


def test_renames_links_removals_and_truncations_of_the_same_names(place: Mount) -> None:
    """Nobody meets an error but that a name is there or not; what is left can be read by the next mount."""
    for n in range(2):
        (place.path / f"d{n}").mkdir()
    together(place.path, [RACER] * 5)
    left = {path.relative_to(place.path): path.read_bytes() for path in place.path.glob("*/*")}
    links = {path: (place.path / path).stat().st_nlink for path in left}
    place.unmount()
    with mounted(place.lower, path=place.path) as mount:
        assert {path.relative_to(mount.path): path.read_bytes() for path in mount.path.glob("*/*")} == left
        assert {path: (mount.path / path).stat().st_nlink for path in left} == links
        assert sum(1 for path in mount.lower.rglob("*") if path.is_file()) == len(left)


LOOKER = """
while running():
    n = chance.randrange(200)
    assert os.stat(f"d{n % 10}/f{n}").st_size == n
    if chance.random() < 0.1:
        assert len(os.listdir(f"d{n % 10}")) == 20
    if chance.random() < 0.1:
        assert Path(f"d{n % 10}/f{n}").read_bytes() == bytes(n)
"""
CHURNER = """
while running():
    name = f"churn{me}-{chance.randrange(5)}"
    size = chance.randrange(5000)
    with open(name, "wb") as file:
        file.write(bytes(size))
    assert os.stat(name).st_size == size
    os.unlink(name)
"""


@pytest.mark.full
def test_lookups_against_forgetting_for_long(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    lookups_against_forgetting(tmp_path, 60 * pytestconfig.getoption("--minutes"))


def test_lookups_against_forgetting(tmp_path: Path) -> None:
    lookups_against_forgetting(tmp_path, 2)


def lookups_against_forgetting(tmp_path: Path, seconds: float) -> None:
    """The kernel drops inodes while they are looked up, and numbers come back with new files."""
    with mounted(tmp_path / "lower") as mount:
        for n in range(200):
            (mount.path / f"d{n % 10}").mkdir(exist_ok=True)
            (mount.path / f"d{n % 10}/f{n}").write_bytes(bytes(n))
        before = descriptors(mount)
        end = time.monotonic() + seconds
        with crowd(mount.path, [LOOKER, LOOKER, CHURNER, CHURNER], seconds):
            while time.monotonic() < end:
                drop_caches()
                time.sleep(0.01)
        forgotten(mount)
        print(f"{seconds:.0f} s, {requests(mount):,} requests")
        assert descriptors(mount) <= before
